"""``zerostream submit``: from a config and a cluster's profile to a job in the queue, or a refusal before anything is written."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from framework.durable import storage_errors, write_durably
from launch.slurm import scheduler
from launch.slurm.job import Job, JobDir
from launch.slurm.memory import warn_of_memory
from launch.slurm.next_command import typed
from launch.slurm.planning import Plan, Request, plan_job, task_job
from launch.slurm.script import ScriptExecutor

__all__ = ["Plan", "Request", "plan_job", "run_submit", "submit_job"]

_SNAPSHOT = ("framework", "launch", "benchmarks", "configs")
_NOT_CODE = ("__pycache__", "*.pyc", "results", ".*")
# What squeue says of jobs that will not start unless somebody changes something.
_NEVER = {
    "AssocMaxJobsLimit", "AccountNotAllowed", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS",
    "JobHeldAdmin", "JobHeldUser", "PartitionDown", "PartitionInactive", "PartitionNodeLimit", "PartitionTimeLimit",
    "QOSNotAllowed", "ReqNodeNotAvail", "QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit",
}  # fmt: skip


def submit_job(job: Job, run_dir: Path, *, config: Path | None = None, depends_on: str | None = None) -> Job:
    """Writes the job's files, queues it, and returns it with its id; an array's tasks get files of their own.

    Args:
        job: as ``plan_job`` or ``JobDir.read`` gives it.
        run_dir: absolute; of the sweep, for an array.
        config: the user's config file: it is copied to ``slurm/config.yaml``, and the code is copied as well. None keeps the
            config that is there; a follow-up job keeps the code as well.
        depends_on: a job id after whose end, whatever it is, this one may start.

    Raises:
        SchedulerError: SLURM refuses the job; its own words are in the message.
        StorageError: the file system refuses.
    """
    job_dir = JobDir(run_dir)
    waiting = job.model_copy(update={"job_id": job.job_id if job.follow_up else None, "submitted_at": time.time()})
    with _undone_on_refusal(job_dir, len(job.tasks or ())):
        job_dir.write(waiting)
        with storage_errors(job_dir.path):
            job_dir.all_logs.mkdir(exist_ok=True)
            if not job.follow_up:
                job_dir.cancel_request.unlink(missing_ok=True)
                _take_snapshot(job_dir, config)
            for number in range(len(job.tasks or ())):
                _write_task(job_dir, waiting, number)
            job_id = ScriptExecutor(job, run_dir, depends_on).submit_script()
    submitted = waiting.model_copy(update={"job_id": job_id, "script": job_dir.script})
    job_dir.write(submitted)
    if not job.follow_up:
        job_dir.history.append("submitted", job_id=job_id)
    for number in range(len(job.tasks or ())):
        _write_task(job_dir, submitted, number)
        job_dir.task(number).history.append("submitted", job_id=f"{job_id}_{number}")
    return submitted


@contextmanager
def _undone_on_refusal(job_dir: JobDir, tasks: int) -> Iterator[None]:
    """A job that SLURM refuses changes nothing: what is new goes, what was there before comes back."""
    all_dirs = [job_dir, *map(job_dir.task, range(tasks))]
    new = [_first_missing(each.path) for each in all_dirs if not each.path.exists()]
    files = [job_dir.config, job_dir.script, *(path for each in all_dirs for path in (each.job, each.cancel_request))]
    before = {path: path.read_bytes() if path.exists() else None for path in files}
    replaced = _replaced_code(job_dir)
    try:
        yield
    except BaseException:
        for folder in new:
            shutil.rmtree(folder, ignore_errors=True)
        for path, content in before.items():
            if content is None:
                path.unlink(missing_ok=True)
            elif not path.is_symlink():  # a task's are its array's
                write_durably(path, content)
        if replaced.is_symlink() or replaced.exists():
            shutil.rmtree(job_dir.code, ignore_errors=True)
            replaced.rename(job_dir.code)
        raise
    _remove(replaced)


def _replaced_code(job_dir: JobDir) -> Path:
    return job_dir.code.with_name("code.before")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _first_missing(path: Path) -> Path:
    """The uppermost folder on the way to ``path`` that is not there."""
    while not path.parent.exists():
        path = path.parent
    return path


def _write_task(job_dir: JobDir, job: Job, number: int) -> None:
    task = job_dir.task(number)
    task.write(task_job(job, job_dir.run, number))
    task.cancel_request.unlink(missing_ok=True)
    task.all_logs.mkdir(exist_ok=True)
    for mine, its in ((job_dir.config, task.config), (job_dir.code, task.code)):
        if mine.exists() and not its.is_symlink():
            _remove(its)  # its own, where it was submitted again alone
            its.symlink_to(mine)


def _take_snapshot(job_dir: JobDir, config: Path | None) -> None:
    """Copies of what later edits must not change, without compiled files; code that was there before is put aside."""
    if config is not None and config.resolve() != job_dir.config.resolve():
        shutil.copyfile(config, job_dir.config)
    source = Path(__file__).resolve().parents[2]
    if source == job_dir.code.resolve():
        return
    fresh = job_dir.code.with_name("code.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name in _SNAPSHOT:
        if (source / name).is_dir():
            shutil.copytree(source / name, fresh / name, ignore=shutil.ignore_patterns(*_NOT_CODE))
    if (source / "pyproject.toml").is_file():
        shutil.copyfile(source / "pyproject.toml", fresh / "pyproject.toml")
    _remove(_replaced_code(job_dir))
    if job_dir.code.exists():
        job_dir.code.rename(_replaced_code(job_dir))
    fresh.rename(job_dir.code)


def run_submit(request: Request, *, dry_run: bool, as_json: bool) -> None:
    """Plans, submits, and says what comes next; or prints the script of a dry run.

    Raises:
        UserError: something does not fit; nothing has been queued or written.
    """
    if dry_run:
        from launch.slurm.dry_run import show_plan

        show_plan(request, as_json=as_json)
        return
    plan = plan_job(request)
    job = submit_job(plan.job, plan.run_dir, config=plan.config)
    assert job.job_id is not None
    say_submitted(job, plan, as_json=as_json)


def say_submitted(job: Job, plan: Plan, *, as_json: bool) -> None:
    """Job id, paths, and the three commands that come next."""
    job_dir = JobDir(plan.run_dir)
    first = job_dir.task(0) if job.tasks else job_dir  # each task of an array has logs of its own
    shown, logged = _short(plan.run_dir), _short(first.run)
    reason = _why_it_never_starts(job.job_id or "")
    memory = warn_of_memory(plan.loaded, job) if plan.loaded is not None and plan.batch is not None else None
    report: dict[str, Any] = {
        "job_id": job.job_id,
        "run_dir": str(plan.run_dir),
        "nodes": job.nodes,
        "ranks": job.ranks,
        "script": str(job_dir.script),
        "logs": str(first.path / "logs"),
        "pending_reason": reason,
        "memory_warning": memory,
        "next": [typed("status", shown), typed("logs -f", logged), typed("cancel", shown)],
    }
    if as_json:
        print(json.dumps(report))
        return
    many = f", {len(job.tasks)} tasks" if job.tasks else ""
    print(f"job      {job.job_id}: {job.nodes} x {job.ranks_per_node} ranks{many}, at most {job.time_limit} a start")
    if plan.batch is not None:
        print(f"step     {plan.batch}")
    print(f"run      {shown}")
    print(f"script   {_short(job_dir.script)}")
    print(f"logs     {_short(first.path / 'logs')}")
    if memory:
        print(f"warning  memory {memory}")
    if reason:
        print(f"warning  SLURM will not start it as things are: {reason}; see `scontrol show job {job.job_id}`")
    for word, command in zip(("next", "", ""), report["next"], strict=True):
        print(f"{word:<8} {command}")


def _why_it_never_starts(job_id: str) -> str | None:
    try:
        reason = scheduler.pending_reason(job_id)
    except scheduler.SchedulerError:
        return None  # `status` tells
    word = (reason or "").partition(",")[0].strip("() ")
    return reason if word in _NEVER or word.startswith("Invalid") else None


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
