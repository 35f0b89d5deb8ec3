"""Job arrays as a whole: how their tasks are, and what is done once when the last of them has ended."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from framework.data.manifest import MANIFEST_NAME
from framework.errors import StorageError
from launch.report import print_report, print_table
from launch.slurm.comparison import MARKDOWN_NAME, Compared, compare, table, write_comparison
from launch.slurm.history import Event, of_newest_submission
from launch.slurm.job import JobDir
from launch.slurm.next_command import typed
from launch.slurm.progress import shards_dir
from launch.slurm.queue import Answer
from launch.slurm.status import RunStatus, look_at

_LAST_EVENTS = ("ended", "stopped", "gave_up", "cancelled")


def run_array_status(run_dir: Path, *, as_json: bool) -> None:
    """Says how each task is. The comparison of a sweep that is over is written again: its last task may have been killed."""
    array = JobDir(run_dir)
    job = array.read()
    statuses = look_at([task.run for task in array.tasks()])
    counts = Counter(status.state.name for status in statuses)
    is_over = all(status.state.is_over for status in statuses)
    rows = [] if job.kind == "prepare" else compare_tasks(array, statuses)
    if rows and is_over:
        with suppress(StorageError):
            write_comparison(array, rows)
    merged = _describe_merge(array, is_over) if job.kind == "prepare" else None
    if as_json:
        print_report(
            {
                "run_dir": str(run_dir),
                "kind": job.kind,
                "job_id": job.job_id,
                "states": dict(counts),
                "is_over": is_over,
                "tasks": [status.report() for status in statuses],
                "comparison": [row.report() for row in rows],
                "shards": merged,
            },
            as_json=True,
        )
        return
    print(f"{run_dir}: {job.kind}, array {job.job_id or '-'}, {len(statuses)} tasks: " + _count(counts))
    if rows:
        print_table(table(rows))
        if is_over:
            print(f"also in {run_dir / MARKDOWN_NAME}")
    else:
        print_table([("task", "arguments", "state"), *_describe_tasks(array, statuses)])
    if merged:
        print(merged)
    if unreachable := next((status.unreachable for status in statuses if status.unreachable), None):
        print(f"SLURM could not be asked ({unreachable}): states are as the run directories tell them")


def compare_tasks(array: JobDir, statuses: Sequence[RunStatus]) -> list[Compared]:
    """The rows of the comparison as the tasks are now."""
    gauges = [status.gauges for status in statuses]
    return compare(
        array,
        [status.state.name for status in statuses],
        [(each.step, each.loss, each.tokens_per_second) for each in gauges],
    )


def task_has_ended(array_dir: Path) -> None:
    """Called on the node by each task that has ended for good, after it has written so: the last one does what is left to do.

    Two that end at once may both take themselves for the last: what is done here can be done twice.
    """
    array = JobDir(array_dir)
    if not all(_has_ended(task.history.read()) for task in array.tasks()):
        return
    if array.read().kind == "prepare":  # its last part merges
        return
    # SLURM still sees the task that asks: it runs.
    rows = compare_tasks(array, look_at([task.run for task in array.tasks()], answer=Answer()))
    write_comparison(array, rows)
    print(f"the last of {len(rows)} tasks has ended: {array_dir / MARKDOWN_NAME}", file=sys.stderr, flush=True)


def _has_ended(events: Sequence[Event]) -> bool:
    newest = [event for event in of_newest_submission(events) if event.event != "excluded"]
    return bool(newest) and newest[-1].event in _LAST_EVENTS


def _describe_tasks(array: JobDir, statuses: Sequence[RunStatus]) -> list[tuple[str, str, str]]:
    tasks = array.read().tasks or ()
    return [
        (status.run_dir.name, " ".join(word for word in task if not word.startswith("run_dir=")), str(status.state))
        for task, status in zip(tasks, statuses, strict=True)
    ]


def _describe_merge(array: JobDir, is_over: bool) -> str:
    folder = shards_dir(array.read())
    if (folder / MANIFEST_NAME).exists():
        return f"the shards are ready: {os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else folder}"
    return (
        f"not all parts are finished: {typed('resubmit', array.run)}" if is_over else "the last part to end merges them"
    )


def _count(counts: Counter[Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
