"""Starts the daemons of a plan, and asks SLURM how its nodes are."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import Popen

from . import hosts, network
from .errors import ClusterError
from .install import program
from .plan import Node, Plan
from .processes import daemons, start_daemon, wait_until

USABLE = {"idle", "mixed", "allocated", "completing"}
_SECONDS_TO_START = 60.0
_SECONDS_TO_ANSWER = 15.0


def start(plan: Plan, programs: dict[str, str]) -> None:
    """What does not run yet, each when the one before it answers; returns when all nodes take jobs.

    Raises:
        ClusterError: a daemon ended, or did not answer in time.
    """
    hosts.add_names(plan)
    if plan.namespaces:
        network.build(plan)
    running = daemons(plan.state_dir)
    if "munged" not in running:
        started = {"munged": _start_munged(plan, programs["munged"])}
        _wait(plan, "munged does not answer", plan.munge_socket.exists, started)
    if "slurmctld" not in running:
        started = {"slurmctld": _start_one(plan, "slurmctld", [programs["slurmctld"], "-D", "-f", str(plan.conf)])}
        address = (plan.controller_address, plan.controller_port)
        _wait(plan, "slurmctld does not answer", lambda: _listens(*address), started)
    started = {}
    for node in plan.nodes:
        role = f"slurmd {node.name}"
        if role not in running:
            (plan.state_dir / "spool" / node.name).mkdir(exist_ok=True)
            command = [programs["slurmd"], "-D", "-N", node.name, "-f", str(plan.conf)]
            started[role] = _start_one(plan, role, command, node)
    wait_until_usable(plan, plan.nodes, started)


def wait_until_usable(plan: Plan, nodes: Sequence[Node], started: Mapping[str, Popen[bytes]]) -> None:
    """
    Raises:
        ClusterError: one of those that were started has ended, or a node was not ready in time.
    """

    def holds() -> bool:
        states = node_states(plan)
        for node in nodes:
            if states.get(node.name, "").startswith(("down", "drain")):
                _ask(plan, "scontrol", "update", f"nodename={node.name}", "state=resume")
        return all(states.get(node.name) in USABLE for node in nodes)

    _wait(plan, "the nodes do not take jobs", holds, started)


def node_states(plan: Plan) -> dict[str, str]:
    """SLURM's word by node; a trailing ``*`` says that the node does not answer. Empty when the controller does not."""
    result = _ask(plan, "sinfo", "--noheader", "--Node", "--partition=batch", "--format=%N %T")
    return dict(line.split() for line in result.splitlines())


def _start_munged(plan: Plan, path: str) -> Popen[bytes]:
    folder = plan.munge_key.parent
    command = [path, "--foreground", "--force", "--num-threads=2", f"--key-file={plan.munge_key}"]
    command += [f"--socket={plan.munge_socket}", f"--pid-file={folder}/pid", f"--seed-file={folder}/seed"]
    plan.munge_socket.unlink(missing_ok=True)
    return _start_one(plan, "munged", command)


def _start_one(plan: Plan, role: str, command: list[str], node: Node | None = None) -> Popen[bytes]:
    enter = network.entrance(node) if node and plan.namespaces else None
    return start_daemon(role, command, state_dir=plan.state_dir, conf=plan.conf, log=_log(plan, role), enter=enter)


def _log(plan: Plan, role: str) -> Path:
    return plan.logs / f"{role.replace(' ', '-')}.out"


def _wait(plan: Plan, what: str, holds: Callable[[], bool], started: Mapping[str, Popen[bytes]]) -> None:
    """Until it holds; an end of one that was started is noticed at once."""

    def holds_now() -> bool:
        for role, process in started.items():
            if process.poll() is not None:
                words = _log(plan, role).read_text(errors="replace").strip().splitlines()[-3:]
                raise ClusterError(f"{role} has ended: {' / '.join(words)}", fix="repair what it names")
        return holds()

    wait_until(what, holds_now, seconds=_SECONDS_TO_START, hint=f"read the logs in {plan.logs}")


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def _ask(plan: Plan, name: str, *arguments: str) -> str:
    """A SLURM command's output; empty when it failed or took too long."""
    environment = {**os.environ, "SLURM_CONF": str(plan.conf)}
    command = [program(name), *arguments]
    try:
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_SECONDS_TO_ANSWER, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    return result.stdout if result.returncode == 0 else ""
