"""``zerostream resubmit``: a run that has ended goes on in its own directory, on as many nodes as are wanted now."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from framework.errors import ConfigError, RunDirError
from launch.slurm.job import Job, JobDir
from launch.slurm.next_command import typed
from launch.slurm.planning import Plan, Request, plan_job
from launch.slurm.profile import Profile, load_profile
from launch.slurm.status import look_at, refuse_no_run
from launch.slurm.submit import say_submitted, submit_job
from launch.slurm.sweep import parameters_of


@dataclass(frozen=True)
class Change:
    """What is to be another way than in the last submission; None leaves it."""

    nodes: int | None = None
    ranks_per_node: int | None = None
    time_limit: str | None = None
    cluster: Path | None = None
    overrides: tuple[str, ...] = ()


def run_resubmit(run_dir: Path, change: Change, *, as_json: bool) -> None:
    """Submits a run again, or every run of an array that has not finished; checks are those of ``zerostream submit``.

    The config is the one that was submitted; the code is the present one.

    Raises:
        UserError: it was not submitted, still waits or runs, has finished, or something does not fit; nothing has been queued.
    """
    refuse_no_run(run_dir)
    job_dir = JobDir(run_dir.absolute())
    if job_dir.read().tasks is None:
        plan = plan_again(job_dir, change)
        say_submitted(_submit(plan), plan, as_json=as_json)
        return
    left = [each for each in look_at([task.run for task in job_dir.tasks()]) if each.state.name != "finished"]
    waiting = [status.run_dir for status in left if not status.state.is_over]
    if not left or waiting:
        raise RunDirError(
            f"{run_dir}: {len(waiting)} of its tasks wait or run" if waiting else f"{run_dir}: all tasks have finished",
            fix=f"see them with `{typed('status', run_dir)}`",
        )
    plans = [plan_again(JobDir(status.run_dir), change) for status in left]  # all of them, before the first is queued
    jobs = [_submit(plan) for plan in plans]
    if as_json:
        print(json.dumps({"run_dir": str(run_dir), "job_ids": [job.job_id for job in jobs]}))
        return
    for plan, job in zip(plans, jobs, strict=True):
        print(f"job      {job.job_id}: {plan.run_dir}")
    print(f"next     {typed('status', run_dir)}")


def plan_again(job_dir: JobDir, change: Change) -> Plan:
    """The job of a run with what has changed, checked as a new one is.

    Raises:
        UserError: it has finished, or something does not fit.
    """
    job = job_dir.read()
    [status] = look_at([job_dir.run])
    if not status.state.is_over and status.state.name != "unknown":
        raise RunDirError(
            f"{job_dir.run} is already job {job.job_id} ({status.state.name})",
            fix=f"see it with `{typed('status', job_dir.run)}`, or end it with `{typed('cancel', job_dir.run)}` first",
        )
    if status.state.name == "finished" and job.kind != "benchmark":
        raise RunDirError(
            f"{job_dir.run} has finished: there is nothing to go on with", fix="give a new run a run_dir of its own"
        )
    if not job.directory.is_dir():
        raise RunDirError(
            f"{job.directory}, from which {job_dir.run} was submitted, does not exist any more",
            fix="submit the config again from where it is now",
        )
    _refuse_what_stays(job_dir, job, change.overrides)
    profile = load_profile(change.cluster) if change.cluster else job.profile
    with contextlib.chdir(job.directory):  # relative paths in the config count from there
        plan = plan_job(_request(job_dir, job, change, profile))
    kept = {
        "name": job.name,
        "array": job.array,
        "excluded_nodes": () if change.cluster else job.excluded_nodes,
        "directory": job.directory,
    }
    return Plan(plan.job.model_copy(update=kept), plan.run_dir, None, plan.loaded, plan.batch)


def _refuse_what_stays(job_dir: JobDir, job: Job, overrides: Sequence[str]) -> None:
    """Where a run is, and what its array has swept, make it the run that it is."""
    swept = parameters_of((JobDir(Path(job.array)).read().tasks or ((),))[0]) if job.array else {}
    place = {"run_dir", "data.shards_dir"} if job.kind == "prepare" else {"run_dir"}
    for key in parameters_of(overrides, place | swept.keys()):
        why = "its array gave this run a value of its own" if key in swept else f"{job_dir.run} goes on where it is"
        raise ConfigError(
            f"{key} cannot change when a run is submitted again: {why}", fix=f"leave {key} out, or submit a new run"
        )


def _request(job_dir: JobDir, job: Job, change: Change, profile: Profile) -> Request:
    is_benchmark = job.kind == "benchmark"
    words = job.command[1:] if is_benchmark else _without_ranks(job.command[2:])
    return Request(
        config=Path(job.command[0]) if is_benchmark else job_dir.config,
        cluster=change.cluster or job_dir.job,
        profile=profile,
        overrides=(*words, *change.overrides),
        nodes=change.nodes or job.nodes,
        ranks_per_node=change.ranks_per_node or (None if change.cluster else job.ranks_per_node),
        time_limit=change.time_limit or (None if change.cluster else job.time_limit),
        command="train" if is_benchmark else job.kind,
        run_dir=job_dir.run,
    )


def _without_ranks(words: Sequence[str]) -> tuple[str, ...]:
    """Ranks of a fine-tuning are counted anew."""
    if "--nproc" not in words:
        return tuple(words)
    at = words.index("--nproc")
    return (*words[:at], *words[at + 2 :])


def _submit(plan: Plan) -> Job:
    try:
        return submit_job(plan.job, plan.run_dir)
    except BaseException:
        print(f"zerostream: {plan.run_dir} was not queued", file=sys.stderr, flush=True)
        raise
