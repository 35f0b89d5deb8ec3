"""What a sweep has found: one line per run, the best validation loss first; ``comparison.json`` and ``comparison.md``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.durable import write_durably
from framework.metrics.records import read_last_json_lines
from framework.run_dir import RunDir
from launch.report import describe
from launch.slurm.job import JobDir
from launch.slurm.sweep import parameters_of

JSON_NAME = "comparison.json"
MARKDOWN_NAME = "comparison.md"
_FIRST_METRICS = ("loss", "bits_per_byte", "perplexity")


@dataclass(frozen=True)
class Compared:
    """One run of a sweep. ``validation`` is its last evaluation, which ``validation_step`` took."""

    run_dir: Path
    parameters: dict[str, str]
    state: str
    step: int | None
    validation_step: int | None
    validation: dict[str, float]
    train_loss: float | None
    tokens_per_second: float | None

    def report(self) -> dict[str, Any]:
        return {**vars(self), "run_dir": str(self.run_dir)}


def compare(
    sweep: JobDir, states: Sequence[str], steps: Sequence[tuple[int | None, float | None, float | None]]
) -> list[Compared]:
    """The runs of a sweep, best first; those without an evaluation last, in the order of their tasks.

    Args:
        sweep: of the array.
        states: of each task.
        steps: of each task: steps taken, training loss, tokens per second.
    """
    rows = []
    tasks = sweep.read().tasks or ()
    for number, (task, state, (step, loss, rate)) in enumerate(zip(tasks, states, steps, strict=True)):
        run_dir = sweep.task(number).run
        evaluation = next(iter(read_last_json_lines(RunDir(run_dir).evaluations, 1)), {})
        numbers = {key: float(value) for key, value in evaluation.items() if isinstance(value, int | float)}
        at = numbers.pop("step", None)
        rows.append(
            Compared(
                run_dir, dict(parameters_of(task)), state, step, None if at is None else int(at), numbers, loss, rate
            )
        )
    return sorted(rows, key=lambda row: row.validation.get("loss", math.inf))


def table(rows: Sequence[Compared]) -> list[list[str]]:
    """A head and one row per run, as text."""
    keys = list(dict.fromkeys(key for row in rows for key in row.parameters))
    there = {name for row in rows for name in row.validation}
    metrics = [name for name in _FIRST_METRICS if name in there]
    metrics += sorted(there - set(_FIRST_METRICS))
    head = [
        "run",
        *keys,
        "state",
        "step",
        *(f"validation {name.replace('_', ' ')}" for name in metrics),
        "training loss",
        "tokens/s",
    ]
    body = [
        [
            row.run_dir.name,
            *(row.parameters.get(key, "-") for key in keys),
            row.state,
            describe(row.step),
            *(describe(row.validation.get(name)) for name in metrics),
            describe(row.train_loss),
            "-" if row.tokens_per_second is None else f"{row.tokens_per_second:,.0f}",
        ]
        for row in rows
    ]
    return [head, *body]


def write_comparison(sweep: JobDir, rows: Sequence[Compared]) -> None:
    """``comparison.json`` and ``comparison.md`` in the sweep's folder, each whole or not at all.

    Raises:
        StorageError: the file system refuses.
    """
    report = {"sweep": str(sweep.run), "runs": [row.report() for row in rows]}
    write_durably(sweep.run / JSON_NAME, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    head, *body = table(rows)
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body)]
    title = f"# {sweep.run.name}: {len(rows)} runs, the best validation loss first"
    write_durably(sweep.run / MARKDOWN_NAME, "\n".join([title, "", *lines, ""]).encode())
