"""From what the user asked for to a job that nothing speaks against: asks SLURM, writes nothing, and needs no torch."""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.config import BatchPlan, Config, load_config, plan_batch
from framework.errors import ConfigError, RunDirError, ShardError
from framework.run_dir import RunDir
from launch.rendezvous import resolve
from launch.slurm import scheduler
from launch.slurm.job import Job, JobDir, JobKind
from launch.slurm.next_command import typed
from launch.slurm.profile import Profile, load_profile, memory_megabytes, time_limit_seconds
from launch.slurm.queue import ask
from launch.slurm.scheduler import Partition, SchedulerError

_BENCHMARK = re.compile(r"benchmarks\.[A-Za-z_]\w*")
_KINDS: dict[str, JobKind] = {"train": "train", "finetune": "finetune", "prepare": "prepare"}
_DEFAULT_SECONDS = 3600
_MOST_NAMES = 64  # that are looked up: a name server may take its time for each


@dataclass(frozen=True)
class Request:
    """What the user asked for on the command line; None is what the profile says."""

    config: Path
    """A config file; or a benchmark's module, such as ``benchmarks.checkpoint``."""
    cluster: Path
    """The cluster profile's file."""
    profile: Profile | None = None
    """What it says, if that is known already, as of a run that is submitted again."""
    overrides: tuple[str, ...] = ()
    nodes: int | None = None
    ranks_per_node: int | None = None
    time_limit: str | None = None
    command: str = "train"
    tasks: tuple[tuple[str, ...], ...] | None = None
    """Further arguments of each task of an array: overrides of a sweep, or ``--part K/N``. A task's ``run_dir`` is added."""
    array_parallelism: int | None = None
    run_dir: Path | None = None
    """Where the job's files go, if not to the config's run_dir: the folder of a sweep."""


@dataclass(frozen=True)
class Plan:
    """A job that nothing speaks against; nothing has been written or queued yet."""

    job: Job
    run_dir: Path
    """Absolute; ``JobDir(run_dir)`` names the job's files."""
    config: Path | None
    """The user's config file, to be copied; None for a benchmark."""
    loaded: Config | None
    batch: BatchPlan | None
    """None for what is not trained in ranks."""


def plan_job(request: Request, *, ask_cluster: bool = True) -> Plan:
    """Everything that can be known before the job is queued. Needs no torch, writes nothing.

    Args:
        request: what is wanted.
        ask_cluster: whether SLURM's commands are there to be asked (a dry run on another machine does without).

    Raises:
        UserError: config, profile, shards, run directory, batch arithmetic or cluster do not fit together.
    """
    profile = request.profile or load_profile(request.cluster)
    kind, loaded = _what(request)
    run_dir = _run_dir(request, kind, loaded)
    _refuse_no_array(request)
    _refuse_backslash(run_dir)
    _refuse_unshared("run_dir (of `prepare`: data.shards_dir)", run_dir, profile)
    if loaded is not None and kind == "train":
        for part in loaded.data.parts:
            if part.remote is None:
                _refuse_unshared("data.shards_dir", part.shards_dir.absolute(), profile)
    nodes = request.nodes or profile.nodes
    ranks_per_node = profile.ranks_of_node(request.ranks_per_node)
    if kind != "train" and nodes > 1:
        raise ConfigError(
            f"{kind} starts ranks on one node only, not on {nodes}", fix="leave --nodes out, or give --nodes 1"
        )
    limit = request.time_limit or profile.time_limit
    if ask_cluster:
        profile, limit = _fit_to_cluster(profile, nodes, ranks_per_node, limit, request.cluster)
        _refuse_live_run(run_dir)
    _check_limit(limit)
    batch = _check_run(request, kind, loaded, run_dir, nodes * ranks_per_node)
    job = Job(
        kind=kind,
        name=f"zs-{run_dir.name}",
        command=_command(request, kind, run_dir, ranks_per_node),
        profile=profile,
        nodes=nodes,
        ranks_per_node=ranks_per_node,
        time_limit=limit or "60",
        submitter=sys.executable,
        directory=Path.cwd(),
        tasks=request.tasks,
        array_parallelism=request.array_parallelism,
    )
    return Plan(job, run_dir, None if kind == "benchmark" else request.config, loaded, batch)


# --- What is to be run ---


def _what(request: Request) -> tuple[JobKind, Config | None]:
    if _BENCHMARK.fullmatch(str(request.config)) and not request.config.exists():
        _check_benchmark(request)
        return "benchmark", None
    kind = _KINDS.get(request.command)
    if kind is None:
        near = difflib.get_close_matches(request.command, _KINDS, n=1)
        fix = f"write --command {near[0]}" if near else f"choose one of {', '.join(_KINDS)}"
        raise ConfigError(f"--command {request.command} is nothing that can be submitted", fix=fix)
    words = (*request.overrides, *(word for task in request.tasks or () for word in task))
    options = [word for word in words if word.startswith("-")]
    if options and kind != "prepare":  # whose parts are one
        raise ConfigError(
            f"{options[0]} is no override, and options cannot be handed on to `zerostream {kind}`",
            fix="write overrides as key.path=value",
        )
    loaded = load_config(request.config, [word for word in request.overrides if not word.startswith("-")])
    if kind == "finetune":
        _check_fine_tuning(request, loaded)
    return kind, loaded


def _check_benchmark(request: Request) -> None:
    name = str(request.config)
    there = [f"benchmarks.{path.stem}" for path in Path(__file__).parents[2].glob("benchmarks/[!_]*.py")]
    if name not in there:
        near = difflib.get_close_matches(name, there, n=1)
        fix = f"write {near[0]}" if near else "name a module of benchmarks, or a config file"
        raise ConfigError(f"there is no {name}", fix=fix)
    if request.tasks is not None or request.command != "train":
        raise ConfigError(
            f"{name} is a benchmark, which is one job with options of its own",
            fix="leave out --sweep, --command and --tasks; its own options follow after `--`",
        )


def _check_fine_tuning(request: Request, loaded: Config) -> None:
    """What `zerostream finetune` itself refuses; it reads the texts only where it runs."""
    from framework.plugins.registry import active_plugins

    recipes = [active for active in active_plugins(loaded) if active.plugin.recipe is not None]
    if not recipes:
        raise ConfigError(
            f"{request.config} names no plugin that fine-tunes, such as plugins.lora",
            fix="copy configs/age_honest.yaml, or leave --command out to pretrain",
        )
    if "fold" in getattr(recipes[0].options, "model_fields_set", ()):
        raise ConfigError(
            f"plugins.{recipes[0].plugin.name}.fold is set, but `zerostream finetune` trains every fold",
            fix="leave it out, or leave --command out to train that fold alone",
        )


def _run_dir(request: Request, kind: JobKind, loaded: Config | None) -> Path:
    if request.run_dir is not None:
        return request.run_dir.absolute()
    if loaded is None:
        return (Path("runs") / str(request.config)).absolute()
    if kind == "prepare":  # beside the shards, as their folder holds nothing else
        folder = loaded.data.shards_dir
        return folder.with_name(f"{folder.name}.prepare").absolute()
    return loaded.run_dir.absolute()


def _command(request: Request, kind: JobKind, run_dir: Path, ranks_per_node: int) -> tuple[str, ...]:
    if kind == "benchmark":
        return (str(request.config), *request.overrides)
    words = (kind, str(JobDir(run_dir).config), *request.overrides)
    return (*words, "--nproc", str(ranks_per_node)) if kind == "finetune" else words


def _check_run(request: Request, kind: JobKind, loaded: Config | None, run_dir: Path, ranks: int) -> BatchPlan | None:
    """What each start would be refused for is refused now."""
    if loaded is None or kind == "prepare":
        return None
    plan = None
    for number, task in enumerate(request.tasks or ((),)):
        where = f"run_dir={JobDir(run_dir).task(number).run}"
        config = load_config(request.config, [*request.overrides, *task, where]) if task else loaded
        if RunDir(config.run_dir).result.is_file():
            raise RunDirError(
                f"{config.run_dir} has finished: there is nothing to go on with",
                fix="give a new run a run_dir of its own",
            )
        plan = plan_batch(config, ranks)
        if kind == "train":
            _check_training(config, ranks)
    return plan


def _check_training(config: Config, ranks: int) -> None:
    from framework.train.preflight import check, refuse_live_copy

    for part in config.data.parts:
        if part.remote is None and not part.shards_dir.exists():
            raise ShardError(
                f"there are no shards in {part.shards_dir}", fix="run `zerostream prepare` with the same config first"
            )
    refuse_live_copy(RunDir(config.run_dir))
    check(config, ranks)


# --- Where it is to run ---


def _refuse_no_array(request: Request) -> None:
    if request.array_parallelism is not None and request.tasks is None:
        raise ConfigError(
            f"--at-a-time {request.array_parallelism} without an array",
            fix="leave it out, or make an array with --sweep, or of `--command prepare` with --tasks",
        )


def _refuse_backslash(run_dir: Path) -> None:
    """sbatch reads the log's name as a pattern; % can be doubled, but after a backslash nothing is a pattern any more."""
    if "\\" in str(run_dir):
        raise RunDirError(
            f"run_dir {run_dir} has a backslash in it, which sbatch does not take", fix="choose another name"
        )


def _refuse_unshared(key: str, folder: Path, profile: Profile) -> None:
    if not profile.shared:
        return
    resolved = folder.resolve()
    if not any(resolved.is_relative_to(folder.resolve()) for folder in profile.shared):
        there = ", ".join(map(str, profile.shared))
        raise RunDirError(
            f"{key.partition(' ')[0]} {folder} is not below a folder that all nodes share ({there})",
            fix=f"set {key} to a folder below one of them, or add its file system to `shared` in the cluster profile",
        )
    missing = [folder for folder in profile.shared if not folder.is_dir()]
    if missing and not any(resolved.is_relative_to(folder.resolve()) for folder in profile.shared if folder.is_dir()):
        raise RunDirError(
            f"the shared folder {missing[0]} does not exist on this machine",
            fix="submit from a machine that mounts it, or correct `shared` in the cluster profile",
        )


def _check_limit(limit: str | None) -> None:
    if limit is None:
        return
    try:
        time_limit_seconds(limit)
    except ValueError as error:
        raise ConfigError(f"--time: {error}", fix="write it as 2:00:00") from None


def _fit_to_cluster(
    profile: Profile, nodes: int, ranks_per_node: int, limit: str | None, origin: Path
) -> tuple[Profile, str]:
    """The profile with what SLURM's defaults say for what it leaves open."""
    scheduler.require_commands()
    partition = _partition(scheduler.read_partitions(), profile, origin)
    _refuse_too_many_nodes(partition, profile, nodes)
    _check_limit(limit)
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


def _refuse_live_run(run_dir: Path) -> None:
    job_dir = JobDir(run_dir)
    if not job_dir.job.exists():
        return
    before = job_dir.read()
    tasks = [JobDir(run_dir).task(number) for number in range(len(before.tasks or ()))]
    known = [
        before,
        *(task.read() for task in tasks if task.job.exists()),
    ]  # a task may have a follow-up job of its own
    answer = ask(known)
    if answer.unreachable:
        raise SchedulerError(
            f"SLURM cannot say whether this run is queued already: {answer.unreachable}",
            fix="ask `scontrol ping` whether the controller is up, then try again",
        )
    for job in known:
        for seen in answer.of(job):
            if not seen.has_ended:
                raise RunDirError(
                    f"this run is already job {job.job_id} ({seen.state.lower()})",
                    fix=f"see it with `{typed('status', run_dir)}`, or end it with `{typed('cancel', run_dir)}` first",
                )


def task_job(job: Job, run_dir: Path, number: int) -> Job:
    """The job of one task of ``job``; its command has the task's own arguments and run directory."""
    assert job.tasks is not None
    task = JobDir(run_dir).task(number)
    where = (f"run_dir={task.run}",) if job.kind in ("train", "finetune") else ()
    command = job.command
    return job.model_copy(
        update={
            "command": (*command, *job.tasks[number], *where),
            "tasks": None,
            "array": str(run_dir),
            "name": f"{job.name}-{number:03d}",
            "job_id": f"{job.job_id}_{number}" if job.job_id else None,
        }
    )
