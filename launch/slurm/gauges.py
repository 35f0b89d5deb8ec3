"""How far a run is, by its directory alone: no SLURM, no torch, and never more of a file than its end."""

from __future__ import annotations

import json
import statistics
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.config.load import read_yaml
from framework.durable import is_locked
from framework.errors import ConfigError
from framework.metrics.records import read_last_json_lines
from framework.run_dir import RunDir
from launch.slurm.progress import newest_step

_RECENT_STEPS = 50


@dataclass(frozen=True)
class Heartbeats:
    """What the ranks of the live start have last said."""

    ranks: int
    newest_age_seconds: float
    oldest_age_seconds: float
    is_late: bool
    """Whether a rank has missed the deadline that it set itself."""


@dataclass(frozen=True)
class Gauges:
    """What a run directory tells about its run; None where it does not tell."""

    run_dir: Path
    """Whose they are; of a cross-validation, that of its newest fold."""
    step: int | None
    max_steps: int | None
    loss: float | None
    validation_loss: float | None
    validation_step: int | None
    bits_per_byte: float | None
    tokens_per_second: float | None
    seconds_to_end: float | None
    """By the pace of the newest steps; evaluations and checkpoints come on top."""
    newest_checkpoint: int | None
    """The newest step whose checkpoint is there in full size; it is verified when it is loaded."""
    heartbeats: Heartbeats | None
    is_locked: bool
    """Whether a rank 0 on this machine, or where locks reach across machines, holds the run now."""
    result: dict[str, Any] | None

    @property
    def is_finished(self) -> bool:
        return self.result is not None


def read_gauges(run_dir: RunDir, now: float) -> Gauges:
    """Reads it all; what is missing or damaged is None.

    Args:
        run_dir: of the run.
        now: unix seconds.
    """
    steps = _lines(run_dir, "metrics", _RECENT_STEPS)
    evaluation = next(iter(_lines(run_dir, "evaluations", 1)), {})
    checkpoint, beats, result = newest_step(run_dir), _read_heartbeats(run_dir, now), _read_object(run_dir)
    step = steps[-1].get("step") if steps else result.get("step") if result else checkpoint
    max_steps = _max_steps(run_dir)
    pace = statistics.fmean(paces) if (paces := _numbers(steps, "step_seconds")) else None
    return Gauges(
        run_dir=run_dir.path,
        step=step,
        max_steps=max_steps,
        loss=next(iter(reversed(_numbers(steps, "loss"))), None),
        validation_loss=_number(evaluation.get("loss")),
        validation_step=evaluation.get("step"),
        bits_per_byte=_number(evaluation.get("bits_per_byte")),
        tokens_per_second=statistics.median(rates) if (rates := _numbers(steps, "tokens_per_second")) else None,
        seconds_to_end=None if None in (pace, step, max_steps) else max(0, max_steps - step) * pace,  # type: ignore[operator]
        newest_checkpoint=checkpoint,
        heartbeats=beats,
        is_locked=is_locked(run_dir.lock),
        result=result,
    )


def _lines(run_dir: RunDir, name: str, count: int) -> list[dict[str, Any]]:
    with suppress(OSError):
        return read_last_json_lines(getattr(run_dir, name), count)
    return []


def _read_object(run_dir: RunDir) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        values = json.loads(run_dir.result.read_text(encoding="utf-8"))
        return values if isinstance(values, dict) else None
    return None


def _max_steps(run_dir: RunDir) -> int | None:
    with suppress(ConfigError, AttributeError):
        value = read_yaml(run_dir.config).get("train", {}).get("max_steps")
        return value if isinstance(value, int) else None
    return None


def _read_heartbeats(run_dir: RunDir, now: float) -> Heartbeats | None:
    times, deadlines = [], []
    for path in run_dir.heartbeat(0).parent.glob("rank-*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            values = json.loads(path.read_text(encoding="utf-8"))
            times.append(float(values["time"]))
            deadlines.append(float(values["deadline"]))
    if not times:
        return None
    return Heartbeats(len(times), now - max(times), now - min(times), now > min(deadlines))


def _numbers(lines: list[dict[str, Any]], key: str) -> list[float]:
    return [number for line in lines if (number := _number(line.get(key))) is not None]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
