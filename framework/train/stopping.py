"""When a start has to end before the run does: a signal, or a time limit. Standard library only: it is installed first of all.

A signal is only remembered. At the end of each step all ranks learn whether any of them has been asked to stop, save together,
and end with exit code 75. A handler that saved by itself would wait for ranks which know of nothing.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
_TIME_UP = 1000
_PR_SET_PDEATHSIG = 1


class StopRequest:
    """What this rank knows of the end. Made in the main thread, before anything takes long.

    A second signal changes nothing: the save that the first one asked for is under way.
    """

    def __init__(self) -> None:
        self._began = time.time()
        self._code = 0
        self._ends_at = float(os.environ.get("SLURM_JOB_END_TIME") or "inf")

    def install(self) -> None:
        """From now on signals are remembered; and the death of torchrun's agent counts as one."""
        for number in _SIGNALS:
            signal.signal(number, self._remember)
        if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def limit(self, seconds: int | None) -> None:
        """Ends this start when it has taken so long, or earlier when SLURM says so."""
        if seconds is not None:
            self._ends_at = min(self._ends_at, self._began + seconds)

    def code(self, reserve_seconds: float) -> int:
        """0, or a number that says why to stop; ``reserve_seconds`` is what one more step and a save may take."""
        if not self._code and time.time() + reserve_seconds >= self._ends_at:
            self._code = _TIME_UP
        return self._code

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._code = number


def describe_stop(code: int) -> str:
    """What an agreed code means."""
    return "the time is nearly up" if code == _TIME_UP else f"{signal.Signals(code).name} was received"
