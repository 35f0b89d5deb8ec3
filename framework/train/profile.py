"""Where the time of a step goes: a few steps of rank 0 under torch's profiler, as a trace and as a page of text.

The trace lies beside the curves (``tensorboard/*.pt.trace.json.gz``): TensorBoard shows it with the plugin torch-tb-profiler, and
https://ui.perfetto.dev shows it without. The page, ``profile.txt``, is also in TensorBoard's text tab.

Documentation: https://docs.pytorch.org/docs/stable/profiler.html.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, tensorboard_trace_handler

from framework.config import Config
from framework.durable import write_durably
from framework.engine import BACKWARD, FORWARD, OPTIMIZER
from framework.errors import DeviceMemoryError
from framework.plugins.interface import StepRecord
from framework.run_dir import RunDir
from framework.train.hooks import TensorBoardHook
from framework.train.loop import DATA_WAIT

PHASES = {"waiting for data": DATA_WAIT, "forward": FORWARD, "backward": BACKWARD, "optimizer": OPTIMIZER}
_COLLECTIVES = ("gloo:", "nccl:", "ncclDevKernel", "ncclKernel")
_OPERATORS_SHOWN = 12


@dataclass(frozen=True)
class Span:
    """One event of a trace, in microseconds of the trace's clock."""

    name: str
    start: float
    end: float


def split_step(spans: Sequence[Span], step_seconds: float, steps: int) -> dict[str, float]:
    """Seconds of each phase in a mean step, by name.

    ``communication`` is the time in which at least one collective was under way; it lies within the phases, and may pass beside
    computation. ``the rest`` is what no phase covers: reductions of a few numbers, hooks, evaluation of nothing.
    """
    seconds = {name: _covered(span for span in spans if span.name == phase) / steps for name, phase in PHASES.items()}
    seconds["the rest"] = max(0.0, step_seconds - sum(seconds.values()))
    seconds["communication"] = _covered(span for span in spans if span.name.startswith(_COLLECTIVES)) / steps
    return seconds


def _covered(spans: Iterable[Span]) -> float:
    """Seconds in which at least one of them was open."""
    total, until = 0.0, float("-inf")
    for span in sorted(spans, key=lambda span: span.start):
        total += max(0.0, span.end - max(span.start, until))
        until = max(until, span.end)
    return total / 1e6


class ProfileHook:
    """Traces ``train.profile.steps`` steps of this start. On rank 0.

    Args:
        config: of the run.
        board: of the run, if there is one.
    """

    def __init__(self, config: Config, board: TensorBoardHook | None) -> None:
        self._run_dir = RunDir(config.run_dir)
        self._options = config.train.profile
        self._board = board
        self._first = self._last = 0
        self._began = 0.0
        self._profile: profile | None = None

    def on_start(self, step: int) -> None:
        self._first = step + self._options.skip_steps + 1
        self._last = self._first + self._options.steps - 1
        if self._options.skip_steps == 0:
            self._begin()

    def on_step(self, record: StepRecord) -> None:
        if record.step == self._last:
            self._end()
        elif record.step == self._first - 1:
            self._begin()

    def on_evaluate(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def on_finish(self, step: int) -> None:
        if self._profile is not None:  # the run ended before its last traced step did
            self._last = step
            self._end()

    def _begin(self) -> None:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities)
        self._profile.start()
        self._began = time.perf_counter()

    def _end(self) -> None:
        assert self._profile is not None
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        steps = self._last - self._first + 1
        step_seconds = (time.perf_counter() - self._began) / steps
        self._profile.stop()
        spans = [
            Span(event.name, event.time_range.start, event.time_range.end) for event in self._profile.events() or ()
        ]
        split = split_step(spans, step_seconds, steps)
        page = _describe(self._profile, split, step_seconds, f"steps {self._first} to {self._last}")
        write_durably(self._run_dir.profile, page.encode())
        write_durably(self._run_dir.step_split, (json.dumps(split, indent=1) + "\n").encode())
        tensorboard_trace_handler(str(self._run_dir.tensorboard), worker_name="rank-0", use_gzip=True)(self._profile)
        if self._board is not None:
            self._board.show_text(self._last, "profile", page)
        self._profile = None
        gc.collect()  # the events of a trace refer to each other


def _describe(trace: profile, split: Mapping[str, float], step_seconds: float, steps: str) -> str:
    lines = [f"{steps}: {step_seconds * 1e3:,.1f} ms a step, traced (tracing itself costs some of it)", ""]
    for name, seconds in split.items():
        share = seconds / step_seconds
        # Communication lies within the phases: in brackets, and without a bar.
        within = name == "communication"
        shown, bar = (f"({name})", "") if within else (name, "#" * round(40 * share))
        lines.append(f"  {shown:<18} {seconds * 1e3:>10,.1f} ms {share:>6.1%}  {bar}".rstrip())
    lines.append("")
    on_gpu = torch.cuda.is_available()
    order = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    lines.append(f"the {_OPERATORS_SHOWN} operators that took most:")
    table = trace.key_averages().table(sort_by=order, row_limit=_OPERATORS_SHOWN, max_name_column_width=48)
    return "\n".join(lines) + f"\n{table}\n"


@contextmanager
def explained_out_of_memory(config: Config, *, is_main: bool) -> Iterator[None]:
    """Tells what to do when a device's memory does not suffice; of a profiled run, a snapshot shows what was in it.

    Raises:
        DeviceMemoryError: on the ranks that ran out.
    """
    keeps_history = torch.cuda.is_available() and config.train.profile.steps > 0
    if keeps_history:
        _cuda_memory()._record_memory_history(max_entries=100_000)
    try:
        yield
    except torch.OutOfMemoryError as error:
        snapshot = RunDir(config.run_dir).memory_snapshot
        if keeps_history and is_main:
            _cuda_memory()._dump_snapshot(str(snapshot))
        shown = f"; {snapshot} shows what was in it (https://docs.pytorch.org/memory_viz)" if keeps_history else ""
        raise DeviceMemoryError(
            f"out of memory: {str(error).splitlines()[0].rstrip('.')}{shown}",
            fix="lower engine.micro_batch_size, set engine.activation_checkpointing=true, or raise engine.zero_stage; "
            "`zerostream plan` says what fits",
        ) from error
    finally:
        if keeps_history:
            _cuda_memory()._record_memory_history(enabled=None)


def _cuda_memory() -> Any:
    return torch.cuda.memory
