"""What a person sees while training runs: a progress bar on a terminal, plain lines in a log. All on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from framework.plugins.interface import StepRecord

_SMOOTHING = 0.9


class Console:
    """Prints the progress of one start, on rank 0.

    Args:
        unit: what speed is counted in.
    """

    def __init__(self, unit: str = "tokens") -> None:
        self._unit = unit
        self._rich = RichConsole(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._loss: float | None = None
        self._began = time.monotonic()
        self._first_step = 0
        self._max_steps = 0

    def say(self, text: str) -> None:
        """One line, above the bar where there is one."""
        with _ignoring_refusal():
            if self._bar is not None:
                self._bar.console.print(text, highlight=False, markup=False)
            else:
                print(text, file=sys.stderr, flush=True)

    def begin(self, step: int, max_steps: int) -> None:
        """Starts counting at ``step``."""
        self._first_step, self._max_steps, self._began = step, max_steps, time.monotonic()
        if self._rich.is_terminal:
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[now]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._rich,
            )
            self._task = self._bar.add_task("", total=max_steps, completed=step, now="")
            with _ignoring_refusal():
                self._bar.start()

    def step(self, record: StepRecord, *, is_due: bool) -> None:
        """A step was taken; in a log, a line is printed when ``is_due``."""
        if record.loss is not None:  # a step that was left out has none to show
            self._loss = record.loss if self._loss is None else _SMOOTHING * self._loss + (1 - _SMOOTHING) * record.loss
        if self._bar is not None:
            now = f"{_describe_loss(self._loss, 3)}  {record.tokens_per_second:,.0f} {self._unit}/s"
            with _ignoring_refusal():
                self._bar.update(self._task, completed=record.step, now=now)
        elif is_due:
            done = record.step - self._first_step
            left = (time.monotonic() - self._began) / done * (self._max_steps - record.step)
            self.say(
                f"step {record.step:>6}/{self._max_steps}  {_describe_loss(record.loss, 4)}  lr {record.lr:.2e}  "
                f"{_describe_norm(record.grad_norm)}  {record.tokens_per_second:>9,.0f} {self._unit}/s  "
                f"{record.peak_memory_bytes / 2**30:.2f} GiB  {format_seconds(left)} left"
            )

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """The metrics of an evaluation."""
        self.say(f"step {step:>6}  validation  " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))

    def end(self) -> None:
        """Takes the bar down."""
        if self._bar is not None:
            with _ignoring_refusal():
                self._bar.stop()
            self._bar = None


def _ignoring_refusal() -> suppress:
    """Standard error may be a file on a full disk, or a terminal that is gone: that is no reason to stop training."""
    return suppress(OSError)


def _describe_loss(loss: float | None, digits: int) -> str:
    return "no loss" if loss is None else f"loss {loss:.{digits}f}"


def _describe_norm(norm: float | None) -> str:
    return "step left out" if norm is None else f"grad norm {norm:.2f}"


def format_seconds(seconds: float) -> str:
    """``1h02m``, ``3m20s`` or ``14s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
