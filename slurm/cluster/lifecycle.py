"""What the commands do: up, down, status, cut, heal."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import hosts, network
from .conf import render
from .errors import ClusterError
from .install import program, require_root
from .plan import Plan, load_plan, make_plan
from .processes import daemons, kill_all
from .start import USABLE, node_states, start, wait_until_usable

DEFAULT_NODES, DEFAULT_CPUS = 2, 8


@dataclass(frozen=True)
class Wish:
    """What ``up`` was asked for; None is "as it is, or the default"."""

    nodes: int | None = None
    cpus_per_node: int | None = None
    namespaces: bool | None = None


def up(name: str, state_dir: Path, wish: Wish) -> Plan:
    """Brings the cluster up, or what is missing of it, and returns when all of its nodes take jobs.

    A cluster that did not come up for the first time is taken down again.

    Raises:
        ClusterError: SLURM is not installed, a cluster is there that differs from the wish, or a daemon did not start.
    """
    require_root()
    programs = {role: program(role) for role in ("munged", "slurmctld", "slurmd", "sinfo", "scontrol")}
    with hosts.alone():
        plan = load_plan(state_dir)
        if plan is not None:
            _check_wish(plan, wish)
            start(plan, programs)
            return plan
        subnet = network.free_subnet() if wish.namespaces else ""
        nodes = DEFAULT_NODES if wish.nodes is None else wish.nodes
        cpus_per_node = DEFAULT_CPUS if wish.cpus_per_node is None else wish.cpus_per_node
        plan = make_plan(name, state_dir, nodes, cpus_per_node, subnet)
        kill_all(state_dir, plan.conf)  # of a cluster whose directory somebody has removed
        try:
            _write_state(plan)
            start(plan, programs)
        except BaseException:
            _remove(plan)
            raise
        return plan


def down(state_dir: Path) -> bool:
    """Leaves nothing of the cluster; False if there was none.

    Raises:
        ClusterError: a process did not end, or a file could not be changed.
    """
    require_root()
    with hosts.alone():
        plan = load_plan(state_dir)
        if plan is None:
            kill_all(state_dir, state_dir / "slurm.conf")
            hosts.remove_names(state_dir)
            return False
        _remove(plan)
        return True


def status(state_dir: Path) -> dict[str, Any] | None:
    """What lives of the cluster; None if there is none. Only root sees process numbers."""
    plan = load_plan(state_dir)
    if plan is None:
        return None
    running = daemons(state_dir)
    states = node_states(plan) if "slurmctld" in running or os.geteuid() else {}
    nodes = [
        asdict(node)
        | {
            "state": states.get(node.name, "unknown"),
            "slurmd_pid": running.get(f"slurmd {node.name}"),
            "connected": network.is_connected(node) if plan.namespaces else True,
        }
        for node in plan.nodes
    ]
    return {
        "name": plan.name,
        "state_dir": str(state_dir),
        "slurm_conf": str(plan.conf),
        "network_namespaces": plan.namespaces,
        "munged_pid": running.get("munged"),
        "slurmctld_pid": running.get("slurmctld"),
        "nodes": nodes,
        "ready": all(node["state"] in USABLE for node in nodes),
    }


def set_link(state_dir: Path, node_name: str, *, connected: bool) -> None:
    """Cuts a node off from all others and from the controller; or heals that, and returns when it takes jobs again.

    Raises:
        ClusterError: no such cluster or node, or its nodes have no network of their own.
    """
    require_root()
    plan = existing(state_dir)
    if not plan.namespaces:
        raise ClusterError(
            "the nodes share this machine's network, so that none can be cut off",
            fix="take the cluster down and up again with --network-namespaces",
        )
    node = plan.node(node_name)
    network.set_link(node, connected=connected)
    if connected:
        wait_until_usable(plan, (node,), {})


def existing(state_dir: Path) -> Plan:
    """
    Raises:
        ClusterError: there is no cluster.
    """
    plan = load_plan(state_dir)
    if plan is None:
        raise ClusterError(f"there is no cluster in {state_dir}", fix="start one with `slurm/local-cluster up`")
    return plan


def _check_wish(plan: Plan, wish: Wish) -> None:
    differences = [
        f"{option} {have}"
        for option, asked, have in (
            ("--nodes", wish.nodes, len(plan.nodes)),
            ("--cpus-per-node", wish.cpus_per_node, plan.cpus_per_node),
            ("--network-namespaces", wish.namespaces, plan.namespaces),
        )
        if asked not in (None, have)
    ]
    if differences:
        raise ClusterError(
            f"a cluster is up in {plan.state_dir} with {', '.join(differences)}",
            fix="take it down first, or give the new one another --name",
        )


def _write_state(plan: Plan) -> None:
    plan.state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    plan.save()  # first: from here on `down` knows what to remove
    plan.state_dir.chmod(0o755)  # whatever the umask: other users' clients read slurm.conf and speak to munge
    for folder in (plan.munge_key.parent, plan.logs, plan.state_dir / "controller", plan.state_dir / "spool"):
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
    descriptor = os.open(plan.munge_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(128))
    plan.conf.write_text(render(plan), encoding="utf-8")
    plan.conf.chmod(0o644)


def _remove(plan: Plan) -> None:
    kill_all(plan.state_dir, plan.conf)
    if plan.namespaces:
        network.remove(plan)
    hosts.remove_names(plan.state_dir)
    shutil.rmtree(plan.state_dir)
