"""When a start has to end before the run does: a signal, or a time limit. Standard library only: it is installed first of all.

Until its first step is done, a start has nothing to save, and a rank may be waiting for others in a call that no Python handler
can interrupt: a thread ends it at once, with exit code 75. From then on a signal is only remembered. At the end of each step all
ranks learn whether any of them has been asked to stop, save together, and end with 75. A handler that saved by itself would wait
for ranks which know of nothing. When all is said, signals are ignored: Python, while it ends, gives them their defaults back, and
one that came late would kill a rank that has saved.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from framework.errors import EXIT_PREEMPTED, PreemptedError

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
        self._has_stepped = False
        self._is_installed = False
        self._ends_at = float(os.environ.get("SLURM_JOB_END_TIME") or "inf")

    def install(self, report: Callable[[str], None]) -> None:
        """From now on signals end the start, later the run; and the death of torchrun's agent counts as one.

        Args:
            report: takes the last words of a start that ends at once, from a thread.
        """
        # The interpreter writes the signal's number there whatever the main thread is waiting for.
        self._numbers, wakeup = socket.socketpair()
        wakeup.setblocking(False)
        self._wakeup = wakeup
        threading.Thread(target=self._end_start, args=(report,), name="stop", daemon=True).start()
        self._wakeup_before = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a child's signals are its own
        for number in _SIGNALS:
            signal.signal(number, self._remember)
        if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        self._is_installed = True

    def close(self) -> None:
        """The last thing a rank does: from now on signals are ignored, until the process is gone.

        Python's handlers do not live as long: the interpreter takes them away before it tears down its modules, which takes
        seconds after a training; only what is ignored stays ignored.
        """
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self._is_installed:
            self._is_installed = False
            signal.set_wakeup_fd(self._wakeup_before)
            self._wakeup.close()  # ends the thread

    def step_done(self) -> None:
        """From now on there is something to save, and all ranks agree on the end."""
        self._has_stepped = True

    @property
    def has_ended_start(self) -> bool:
        """Whether a signal came before the first step: then a rank may hear of the others' end before it ends itself."""
        return self._code in _SIGNALS and not self._has_stepped

    def _end_start(self, report: Callable[[str], None]) -> None:
        while numbers := self._numbers.recv(1):
            if numbers[0] in _SIGNALS and not self._has_stepped:
                report(str(stopped_before_first_step(numbers[0])))
                sys.stdout.flush()
                os._exit(EXIT_PREEMPTED)

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


def stopped_before_first_step(code: int) -> PreemptedError:
    """What a start says that was told to stop before it had anything to save."""
    return PreemptedError(
        f"stopped before the first step ({describe_stop(code)}), with nothing new to save",
        fix="start the same command again to go on",
    )
