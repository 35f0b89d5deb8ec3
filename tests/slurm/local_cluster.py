"""The local cluster as tests see it: every command has a deadline, nothing waits for ever."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

PROGRAM = ROOT / "slurm" / "local-cluster"
_COMMAND_SECONDS = 60.0


def why_there_is_none() -> str:
    """Why no cluster can be started here; empty if one can."""
    missing = [name for name in ("sbatch", "slurmctld", "slurmd", "munged") if shutil.which(name, path=_path()) is None]
    if missing:
        return f"SLURM is not installed ({', '.join(missing)} not found): `make test-slurm` installs it"
    if os.geteuid() != 0:
        return "a local SLURM cluster needs root"
    return ""


def why_no_namespaces() -> str:
    """Why nodes cannot have networks of their own here, as in many containers; empty if they can."""
    if shutil.which("ip", path=_path()) is None:
        return "there is no `ip` command for network namespaces"
    made = subprocess.run(["unshare", "--net", "--uts", "true"], capture_output=True, timeout=10, check=False)
    return "network namespaces are not allowed here" if made.returncode else ""


def local_cluster(*arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Runs ``slurm/local-cluster``; ``expect`` is its exit code, None for any."""
    result = subprocess.run(
        [str(PROGRAM), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert expect is None or result.returncode == expect, f"{result.returncode}: {result.stdout}{result.stderr}"
    return result


def wait_for(what: str, holds: Callable[[], Any], *, seconds: float) -> Any:
    """The first true value of ``holds``; the one deadline that everything here waits with."""
    end = time.monotonic() + seconds
    while True:
        if value := holds():
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


class LocalCluster:
    """One that is up; a context manager that takes it down.

    Args:
        name: also begins its nodes' names.
        nodes: how many.
        namespaces: whether its nodes can be cut off.
    """

    def __init__(self, name: str, nodes: int, *, namespaces: bool = False) -> None:
        self.name = name
        options = ["--network-namespaces"] if namespaces else []
        local_cluster("up", "--name", name, "--nodes", str(nodes), *options)
        self.state = self.status()
        self.nodes = [node["name"] for node in self.state["nodes"]]
        self.environment = {**os.environ, "SLURM_CONF": self.state["slurm_conf"]}

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, *exc_info: object) -> None:
        local_cluster("down", "--name", self.name)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            local_cluster("status", "--name", self.name, "--json", expect=None).stdout.splitlines()[-1]
        )
        return found

    def slurmd_pid(self, node: str) -> int:
        [pid] = [each["slurmd_pid"] for each in self.status()["nodes"] if each["name"] == node]
        return int(pid)

    def run(self, *command: str | Path, expect: int | None = 0) -> str:
        """One of SLURM's commands; its standard output."""
        result = subprocess.run(
            [str(word) for word in command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        assert expect is None or result.returncode == expect, (
            f"{command} ended with {result.returncode}: {result.stderr}"
        )
        return result.stdout.strip()

    def job_state(self, job_id: str) -> str:
        """SLURM's word, such as RUNNING; empty for a job that is forgotten."""
        return self.run("squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T", expect=None)

    def node_state(self, node: str) -> str:
        """SLURM's word; a trailing ``*`` says that the node does not answer."""
        return self.run("sinfo", "--noheader", "--Node", f"--nodes={node}", "--partition=batch", "--format=%T")

    def kill_steps(self, node: str) -> None:
        """SIGKILL for what slurmd has started on a node to look after its steps."""
        marks = {
            f"ZEROSTREAM_LOCAL_CLUSTER={self.state['state_dir']}".encode(),
            f"ZEROSTREAM_LOCAL_CLUSTER_ROLE=slurmd {node}".encode(),
        }
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if marks <= set((entry / "environ").read_bytes().split(b"\0")):
                    os.kill(int(entry.name), signal.SIGKILL)

    def clear(self) -> None:
        """Ends all jobs, and mends what was killed or cut."""
        self.run("scancel", "--state=PENDING", f"--user={getpass.getuser()}")
        self.run("scancel", "--signal=KILL", "--full", f"--user={getpass.getuser()}")
        if not self.status()["ready"] or not all(node["connected"] for node in self.status()["nodes"]):
            local_cluster("up", "--name", self.name)
        wait_for("no job is left", lambda: not self.run("squeue", "--noheader"), seconds=90)


def _path() -> str:
    return os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
