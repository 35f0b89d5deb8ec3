"""``zerostream jobs``: all submitted runs below some folders, one line each."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from framework.errors import RunDirError
from framework.metrics.console import format_seconds
from launch.report import print_report, print_table
from launch.slurm.job import Job, JobDir
from launch.slurm.queue import Answer, ask
from launch.slurm.status import RunStatus, job_of, look_at

_DEPTH = 4  # folders below the one that is named
_UNREADABLE = "unreadable"
_HEAD = ("run", "kind", "job", "state", "step", "loss", "tokens/s", "restarts", "submitted")


def run_jobs(folders: Sequence[Path], *, as_json: bool) -> None:
    """A table of the runs, the oldest submission first.

    Raises:
        RunDirError: a folder does not exist.
    """
    for folder in folders:
        if not folder.is_dir():
            raise RunDirError(f"{folder} does not exist", fix="name a folder with runs below it")
    found = sorted({run for folder in folders for run in submitted_runs(folder)})
    answer = ask(job for run in found for job in _jobs(run))  # once for all
    rows = [_row(run, answer) for run in found]
    rows.sort(key=lambda row: row["submitted_at"] or 0.0)
    if as_json:
        print_report({"jobs": rows, "slurm_unreachable": answer.unreachable}, as_json=True)
        return
    if not rows:
        print(f"no submitted run below {', '.join(map(str, folders))}")
        return
    print_table([_HEAD, *(_cells(row) for row in rows)])
    for row in rows:
        if row["state"] == _UNREADABLE:
            print(row["reason"])
    if answer.unreachable:
        print(f"SLURM could not be asked ({answer.unreachable}): states are as the run directories tell them")


def submitted_runs(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Run directories with a job, at ``folder`` or below it; tasks of an array are not named beside it."""
    try:
        if JobDir(folder).job.is_file():
            yield folder
            return
        if depth == 0:
            return
        with os.scandir(folder) as entries:
            below = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:  # not ours to read
        return
    for name in below:
        if not name.startswith("."):
            yield from submitted_runs(folder / name, depth - 1)


def _members(run: Path) -> list[Path]:
    """The tasks of an array, or the run itself."""
    return [task.run for task in JobDir(run).tasks()] or [run]


def _jobs(run: Path) -> list[Job]:
    """What SLURM is to be asked for; nothing for a run that cannot be read."""
    with suppress(RunDirError):
        return [job for each in _members(run) if (job := job_of(each)) is not None]
    return []


def _row(run: Path, answer: Answer) -> dict[str, Any]:
    """One bad folder must not hide the others."""
    try:
        return _describe(run, look_at(_members(run), answer=answer))
    except RunDirError as error:
        nothing = dict.fromkeys(("kind", "job_id", "submitted_at", "restarts"))
        return {"run_dir": str(run), **nothing, "state": _UNREADABLE, "reason": error.cause}


def _describe(run: Path, statuses: Sequence[RunStatus]) -> dict[str, Any]:
    job = JobDir(run).read()
    row: dict[str, Any] = {
        "run_dir": str(run),
        "kind": job.kind,
        "job_id": job.job_id,
        "submitted_at": job.submitted_at,
        "restarts": sum(status.restarts or 0 for status in statuses),
    }
    if job.tasks is not None:
        counts = Counter(status.state.name for status in statuses)
        return {**row, "state": ", ".join(f"{count} {name}" for name, count in counts.items()), "tasks": len(statuses)}
    [status] = statuses
    gauges = status.gauges
    return {
        **row,
        "job_id": status.job.job_id if status.job else None,
        "state": status.state.name,
        "step": gauges.step,
        "max_steps": gauges.max_steps,
        "loss": gauges.loss,
        "tokens_per_second": gauges.tokens_per_second,
    }


def _cells(row: dict[str, Any]) -> list[Any]:
    step, max_steps, rate, submitted = (
        row.get(key) for key in ("step", "max_steps", "tokens_per_second", "submitted_at")
    )
    return [
        row["run_dir"],
        row["kind"],
        row["job_id"],
        row["state"],
        None if step is None else f"{step}/{max_steps}",
        row.get("loss"),
        None if rate is None else f"{rate:,.0f}",
        row["restarts"],
        None if submitted is None else f"{format_seconds(max(0.0, time.time() - submitted))} ago",
    ]
