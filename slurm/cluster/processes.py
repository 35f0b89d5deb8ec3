"""The cluster's processes. Each daemon carries the cluster's directory and its own role in its environment.

That is how they are found again: no file of process numbers can be stale, and a daemon's children are found as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import ClusterError

_CLUSTER, _ROLE = "ZEROSTREAM_LOCAL_CLUSTER", "ZEROSTREAM_LOCAL_CLUSTER_ROLE"
_SECONDS_TO_DIE = 15.0


@dataclass(frozen=True)
class Process:
    """One that lives now; ``environment`` is the one that it was started with."""

    pid: int
    parent: int
    command: str
    environment: Mapping[str, str]

    @property
    def role(self) -> str:
        return self.environment.get(_ROLE, "")


def start_daemon(
    role: str, command: list[str], *, state_dir: Path, conf: Path, log: Path, enter: Callable[[], None] | None = None
) -> subprocess.Popen[bytes]:
    """In a session of its own, with nothing of the caller's environment: a node does not know who started it.

    Args:
        enter: called in the new process before the program: its namespaces.
    """
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SLURM_CONF": str(conf),
        _CLUSTER: str(state_dir),
        _ROLE: role,
    }
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=enter,
        )


def daemons(state_dir: Path) -> dict[str, int]:
    """Process number by role (``munged``, ``slurmctld``, ``slurmd zs1``), of those that live."""
    found = {}
    ours = {process.pid: process for process in _all() if process.environment.get(_CLUSTER) == str(state_dir)}
    for process in ours.values():
        parent = ours.get(process.parent)
        is_daemon = process.command == process.role.split(" ")[0]
        if is_daemon and not (parent and parent.role == process.role):  # slurmd forks itself before it starts a step
            found[process.role] = process.pid
    return found


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_all(state_dir: Path, conf: Path) -> None:
    """Daemons, steps and the jobs' processes, until there are none left.

    Raises:
        ClusterError: some did not go.
    """
    deadline = time.monotonic() + _SECONDS_TO_DIE
    while members := list(_members(state_dir, conf)):
        if time.monotonic() > deadline:
            numbers = ", ".join(str(process.pid) for process in members)
            raise ClusterError(
                f"processes {numbers} of the cluster did not end", fix="look at them with ps, then repeat it"
            )
        for process in members:
            kill(process.pid)
        time.sleep(0.02)


def wait_until(what: str, holds: Callable[[], bool], *, seconds: float, hint: str) -> None:
    """
    Raises:
        ClusterError: it did not come to hold in time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} after {seconds:.0f} seconds", fix=hint)
        time.sleep(0.02)


def _members(state_dir: Path, conf: Path) -> Iterator[Process]:
    """What carries the cluster's mark or runs inside one of its jobs, and everything that descends from such a process.

    SLURM_CONF alone says nothing: the user's shell has it too.
    """
    processes = list(_all())
    mine = {os.getpid(), *_ancestors(processes)}
    members: dict[int, Process] = {}
    grown = True
    while grown:
        grown = False
        for process in processes:
            environment = process.environment
            belongs = (
                environment.get(_CLUSTER) == str(state_dir)
                or (environment.get("SLURM_CONF") == str(conf) and "SLURM_JOB_ID" in environment)
                or process.parent in members
            )
            if belongs and process.pid not in members and process.pid not in mine:
                members[process.pid] = process
                grown = True
    yield from members.values()


def _ancestors(processes: list[Process]) -> Iterator[int]:
    parents = {process.pid: process.parent for process in processes}
    pid = os.getpid()
    while pid := parents.get(pid, 0):
        yield pid


def _all() -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                yield _read(entry)


def _read(entry: Path) -> Process:
    # pid (command) state parent ...: the command may hold blanks and brackets.
    head, _, tail = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
    state, parent = tail.split()[:2]
    if state == "Z":
        raise ProcessLookupError
    pairs = (item.partition("=") for item in (entry / "environ").read_text(errors="replace").split("\0"))
    environment = {key: value for key, _, value in pairs}
    return Process(int(entry.name), int(parent), head.partition("(")[2], environment)
