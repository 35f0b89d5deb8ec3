"""The nodes' names in ``/etc/hosts``, in a block that says whose it is.

The file is written in place: in a container it is mounted, and nothing can be renamed over it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ClusterError
from .plan import Plan

HOSTS = Path("/etc/hosts")
_SECONDS_TO_LOCK = 60.0


@contextmanager
def alone() -> Iterator[None]:
    """One command at a time changes clusters on this machine; held through the hosts file, which all of them share.

    Raises:
        ClusterError: another one holds it for too long.
    """
    deadline = time.monotonic() + _SECONDS_TO_LOCK
    with HOSTS.open("rb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ClusterError(
                        "another local-cluster command is still at work", fix="wait for it, or end it"
                    ) from None
                time.sleep(0.05)
        yield


def add_names(plan: Plan) -> None:
    """
    Raises:
        ClusterError: the file names one of the nodes already, or cannot be written.
    """
    text = _without_block(HOSTS.read_text(encoding="utf-8"), plan.state_dir)
    taken = {word for line in text.splitlines() for word in line.partition("#")[0].split()[1:]}
    for node in plan.nodes:
        if node.name in taken:
            raise ClusterError(f"{HOSTS} names {node.name} already", fix="take another --name for the cluster")
    lines = [f"{node.address} {node.name}\n" for node in plan.nodes]
    ending = "" if not text or text.endswith("\n") else "\n"
    _write(text + ending + _begin(plan.state_dir) + "".join(lines) + _end(plan.state_dir))


def remove_names(state_dir: Path) -> None:
    """
    Raises:
        ClusterError: the file cannot be written.
    """
    text = HOSTS.read_text(encoding="utf-8")
    without = _without_block(text, state_dir)
    if without != text:
        _write(without)


def _begin(state_dir: Path) -> str:
    return f"# begin of zerostream's local SLURM cluster in {state_dir}; slurm/local-cluster down removes it\n"


def _end(state_dir: Path) -> str:
    return f"# end of zerostream's local SLURM cluster in {state_dir}\n"


def _without_block(text: str, state_dir: Path) -> str:
    before, begin, rest = text.partition(_begin(state_dir))
    _, end, after = rest.partition(_end(state_dir))
    return before + after if begin and end else text


def _write(text: str) -> None:
    try:
        with HOSTS.open("r+", encoding="utf-8") as file:
            file.write(text)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ClusterError(f"{HOSTS} cannot be written: {error.strerror}", fix="run it as root") from error
