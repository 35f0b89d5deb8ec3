"""From what the user asked for to a job that nothing speaks against: asks SLURM, writes nothing, and needs no torch."""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from framework.config import BatchPlan, Config, load_config, plan_batch
from framework.errors import ConfigError, RunDirError, ShardError
from framework.run_dir import RunDir
from launch.slurm.fitting import check_limit, fit_to_cluster
from launch.slurm.job import Job, JobDir, JobKind
from launch.slurm.next_command import typed
from launch.slurm.profile import Profile, load_profile
from launch.slurm.queue import ask
from launch.slurm.scheduler import SchedulerError

_BENCHMARK = re.compile(r"benchmarks\.[A-Za-z_]\w*")
_KINDS: dict[str, JobKind] = {"train": "train", "finetune": "finetune", "prepare": "prepare"}


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
    _refuse_unshared("data.shards_dir" if kind == "prepare" else "run_dir", run_dir, profile)
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
        profile, limit = fit_to_cluster(profile, nodes, ranks_per_node, limit, request.cluster)
        _refuse_live_run(run_dir)
    check_limit(limit)
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
            f"{key} {folder} is not below a folder that all nodes share ({there})",
            fix=f"set {key} to a folder below one of them, or add its file system to `shared` in the cluster profile",
        )
    missing = [folder for folder in profile.shared if not folder.is_dir()]
    if missing and not any(resolved.is_relative_to(folder.resolve()) for folder in profile.shared if folder.is_dir()):
        raise RunDirError(
            f"the shared folder {missing[0]} does not exist on this machine",
            fix="submit from a machine that mounts it, or correct `shared` in the cluster profile",
        )


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
