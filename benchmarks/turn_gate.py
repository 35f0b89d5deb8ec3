"""In a process that is measured beside others: waits for its turns, and tells what each took.

Standard library alone, and one file: it also runs in the environment of a peer, and as a plugin of another revision of
zerostream. Two named pipes lie in a folder: a byte in ``go`` begins a turn, a line of JSON in ``answers`` ends it. Between its
turns a process stands still in ``begin_turn``: the machine belongs to whoever's turn it is. The first turn is the warm-up.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GIVER = "ZEROSTREAM_TURNS_PID"
"""Names the process that gives turns: a side must not outlive it, and torchrun's ranks are not its children."""
_LOOK_SECONDS = 2.0


def _lives(pid: str | None) -> bool:
    return pid is None or Path("/proc", pid).exists() or not Path("/proc/self").exists()


class TurnGate:
    """The measured process's side; ``benchmarks.turns.Side`` is the other.

    Args:
        folder: holds both pipes.
        warmup: steps of the first turn.
        steps: of every later one.
    """

    def __init__(self, folder: Path, warmup: int, steps: int) -> None:
        # Both ways, so that opening waits for nobody.
        self._go = os.open(folder / "go", os.O_RDWR)
        self._answers = os.open(folder / "answers", os.O_RDWR)
        self._warmup = warmup
        self._steps = steps
        self._began = (0.0, 0.0)

    def begin_turn(self) -> None:
        """Waits until it is this process's turn, and starts the clock. Ends the process if nobody is left to give turns."""
        while not select.select([self._go], [], [], _LOOK_SECONDS)[0]:
            if not _lives(os.environ.get(GIVER)):
                os._exit(1)
        os.read(self._go, 1)
        self._began = time.perf_counter(), time.process_time()

    def ends_turn(self, step: int) -> bool:
        """Whether a turn is over after ``step`` steps, counted from the start of the process."""
        return step >= self._warmup and (step - self._warmup) % self._steps == 0

    def end_turn(self, values: Mapping[str, float] | None = None) -> None:
        """Stops the clock and tells: wall and processor seconds of this process, and what else was counted."""
        self.answer({**self.stop_clock(), **(values or {})})

    def stop_clock(self) -> dict[str, float]:
        """Wall and processor seconds of the turn so far: for who has to count, when no clock runs, before it answers."""
        seconds, cpu_seconds = self._began
        return {"seconds": time.perf_counter() - seconds, "cpu_seconds": time.process_time() - cpu_seconds}

    def answer(self, values: Mapping[str, float]) -> None:
        """Ends the turn."""
        os.write(self._answers, (json.dumps(values) + "\n").encode())


class GateHook:
    """In zerostream's own loop: a turn is so many steps. On rank 0.

    Args:
        slowdown: for trying the measurement itself: spends this share of each step's time once more, computing nothing.
    """

    def __init__(self, gate: TurnGate, slowdown: float = 0.0) -> None:
        self._gate = gate
        self._slowdown = slowdown
        self._tokens = self._first = self._step = 0

    def on_start(self, step: int) -> None:
        self._first = step
        self._gate.begin_turn()

    def on_step(self, record: Any) -> None:
        if self._slowdown:
            until = time.perf_counter() + self._slowdown * record.step_seconds
            while time.perf_counter() < until:
                pass
        step = record.step - self._first
        if self._gate.ends_turn(step):
            values = {
                "steps": step - self._step,
                "tokens": record.tokens - self._tokens,
                "peak_memory_bytes": record.peak_memory_bytes,
            }
            self._tokens, self._step = record.tokens, step
            self._gate.end_turn(values)
            self._gate.begin_turn()

    def on_evaluate(self, step: int, metrics: Any) -> None: ...

    def on_finish(self, step: int) -> None: ...


def make_hooks(config: Any, options: Any) -> list[GateHook]:
    """Of the plugin: on rank 0 alone; the others wait for it in the next step."""
    if os.environ.get("RANK", "0") != "0":
        return []
    return [GateHook(TurnGate(Path(options.folder), options.warmup, options.steps), options.slowdown)]
