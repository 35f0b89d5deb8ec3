"""Whether a job fits the cluster as SLURM describes it, and what SLURM's defaults fill in. Asks, and changes nothing."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from framework.errors import ConfigError
from launch.rendezvous import resolve
from launch.slurm import scheduler
from launch.slurm.profile import Profile, memory_megabytes, time_limit_seconds
from launch.slurm.scheduler import Partition, SchedulerError

_DEFAULT_SECONDS = 3600
_MOST_NAMES = 64  # that are looked up: a name server may take its time for each


def fit_to_cluster(
    profile: Profile, nodes: int, ranks_per_node: int, limit: str | None, origin: Path
) -> tuple[Profile, str]:
    """The profile and the time limit, with what SLURM's defaults say for what they leave open.

    Args:
        profile: as the user wrote it.
        nodes: of the job.
        ranks_per_node: of each.
        limit: in SLURM's form; None for the partition's own.
        origin: the profile's file, for what is said to the user.

    Raises:
        SchedulerError: the partition is not there, is down, or has no such nodes.
        ConfigError: a time limit that the partition does not allow, or that leaves no time to train.
    """
    scheduler.require_commands()
    partition = _partition(scheduler.read_partitions(), profile, origin)
    _refuse_too_many_nodes(partition, profile, nodes)
    check_limit(limit)
    seconds = time_limit_seconds(limit) if limit else None
    longest = partition.time_limit_seconds
    if seconds is not None and longest is not None and seconds > longest:
        raise ConfigError(
            f"time limit {limit} is beyond the {partition.time_limit} that partition {partition.name} allows",
            fix=f"give --time {partition.time_limit} or less: a run goes on in its next start by itself",
        )
    if limit is None:
        limit = partition.default_time or (partition.time_limit if longest is not None else f"{_DEFAULT_SECONDS // 60}")
        seconds = time_limit_seconds(limit)
    if seconds is not None and seconds <= profile.signal_lead_seconds:
        raise ConfigError(
            f"time limit {limit} leaves no time to train: the run is told to save {profile.signal_lead_seconds} s before it",
            fix="give a longer --time, or lower signal_lead_seconds in the cluster profile",
        )
    _refuse_impossible_node(partition, profile)
    if nodes > 1:
        _refuse_unresolvable(partition, profile)
    return profile.model_copy(update=_filled(profile, partition, ranks_per_node)), limit


def check_limit(limit: str | None) -> None:
    """Refuses what SLURM would not read as a time.

    Raises:
        ConfigError: it is none.
    """
    if limit is None:
        return
    try:
        time_limit_seconds(limit)
    except ValueError as error:
        raise ConfigError(f"--time: {error}", fix="write it as 2:00:00") from None


def _partition(partitions: dict[str, Partition], profile: Profile, origin: Path) -> Partition:
    if profile.partition is None:
        default = next((each for each in partitions.values() if each.is_default), None)
        if default is None:
            raise SchedulerError(
                "this cluster has no default partition", fix=f"name one in {origin}: partition: {_any(partitions)}"
            )
        return default
    found = partitions.get(profile.partition)
    if found is None:
        near = difflib.get_close_matches(profile.partition, partitions, n=1)
        fix = f"write partition: {near[0]}" if near else "name one of them"
        raise SchedulerError(
            f"{origin}: partition {profile.partition} does not exist; there are {', '.join(sorted(partitions)) or 'none'}",
            fix=fix,
        )
    if not found.is_up:
        raise SchedulerError(
            f"partition {found.name} is down", fix=f"wait for it, or name another of {_any(partitions)}"
        )
    return found


def _any(partitions: dict[str, Partition]) -> str:
    return ", ".join(sorted(name for name, each in partitions.items() if each.is_up)) or "none"


def _refuse_too_many_nodes(partition: Partition, profile: Profile, nodes: int) -> None:
    usable = [node for node in partition.nodes if node.name not in profile.exclude]
    if nodes > len(usable):
        without = (
            f", {len(partition.nodes) - len(usable)} of them excluded" if len(usable) < len(partition.nodes) else ""
        )
        count = len(partition.nodes)
        raise SchedulerError(
            f"--nodes {nodes} is more than partition {partition.name} has: {count} {'node' if count == 1 else 'nodes'}{without}",
            fix=f"give --nodes {len(usable)} or fewer, or name another partition"
            if usable
            else "name another partition",
        )


def _refuse_impossible_node(partition: Partition, profile: Profile) -> None:
    usable = [node for node in partition.nodes if node.name not in profile.exclude]
    cpus = max(node.cpus for node in usable)
    if profile.cpus_per_task is not None and profile.cpus_per_task > cpus:
        raise SchedulerError(
            f"cpus_per_task {profile.cpus_per_task} is more than any node of partition {partition.name} has ({cpus})",
            fix=f"set cpus_per_task to {cpus} or less in the cluster profile",
        )
    memory = max(node.memory_megabytes for node in usable)
    if profile.memory is not None and memory_megabytes(profile.memory) > memory:
        raise SchedulerError(
            f"memory {profile.memory} is more than any node of partition {partition.name} has ({memory}M)",
            fix=f"set memory to {memory}M or less in the cluster profile, or to 0 for all of a node's",
        )
    gpus = max(node.gpus for node in usable)
    if profile.gpus_per_node is not None and profile.gpus_per_node > gpus:
        raise SchedulerError(
            f"gpus_per_node {profile.gpus_per_node} is more than any node of partition {partition.name} has ({gpus})",
            fix=f"set gpus_per_node to {gpus} or less in the cluster profile" if gpus else "name a partition with GPUs",
        )


def _refuse_unresolvable(partition: Partition, profile: Profile) -> None:
    """SLURM itself reaches nodes by these addresses, and so do ranks."""
    unknown = [
        node
        for node in partition.nodes[:_MOST_NAMES]
        if node.name not in profile.exclude and resolve(node.address or node.name) is None
    ]
    if unknown:
        shown = ", ".join(node.name for node in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise SchedulerError(
            f"the names of nodes {shown} do not resolve, so the nodes of a run could not find each other",
            fix="ask the site to add them to DNS or /etc/hosts, or put them under `exclude` in the cluster profile",
        )


def _filled(profile: Profile, partition: Partition, ranks_per_node: int) -> dict[str, Any]:
    """SLURM gives a task one core if nothing is said, which eight GPUs' ranks would have to share."""
    if profile.cpus_per_task is not None:
        return {}
    usable = [node for node in partition.nodes if node.name not in profile.exclude]
    cpus = min(node.cpus for node in usable)
    if profile.exclusive:
        return {"cpus_per_task": cpus}
    if profile.gpus_per_node is not None:
        gpus = min((node.gpus for node in usable if node.gpus), default=profile.gpus_per_node)
        return {"cpus_per_task": max(1, min(cpus, cpus * profile.gpus_per_node // gpus))}
    return {"cpus_per_task": max(1, min(cpus, ranks_per_node))}
