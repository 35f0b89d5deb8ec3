"""Deadlines and heartbeats: a rank that stands still says so, and ends, without anybody's help.

The deadline is kept by a thread in C (``faulthandler``), which needs no Python lock: it works when the process hangs in a
collective, in a driver call or in a deadlock, writes down where every thread stands, and exits with 1. Each rank has its own, so
that a rank which is stopped altogether is missed by all others at the same time.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import time
from contextlib import suppress
from typing import Any, TextIO

from framework.run_dir import RunDir

_HEARTBEAT_SECONDS = 5.0
_SIGN_OF_TIMEOUT = "Timeout ("  # faulthandler's own heading


class Watch:
    """Guards one rank of one start.

    Args:
        run_dir: of the run; before it exists, stacks go to standard error.
        rank: whose.
    """

    def __init__(self, run_dir: RunDir, rank: int) -> None:
        self._run_dir = run_dir
        self._rank = rank
        self._file: TextIO | None = None
        self._last_beat = 0.0

    def expect(self, phase: str, step: int, within_seconds: float) -> None:
        """From now on ``phase`` may take so long; each call replaces the deadline before."""
        faulthandler.dump_traceback_later(within_seconds, exit=True, file=self._stacks_file())
        now = time.time()
        if now - self._last_beat >= _HEARTBEAT_SECONDS:
            self._last_beat = now
            self._beat({"phase": phase, "step": step, "time": now, "deadline": now + within_seconds})

    def close(self) -> None:
        """Ends the guard; what it has left behind, if nothing went wrong, is removed."""
        faulthandler.cancel_dump_traceback_later()
        if self._file is not None:
            self._file.close()
            with suppress(OSError):
                self._run_dir.stacks(self._rank).unlink()
        with suppress(OSError):
            self._run_dir.heartbeat(self._rank).unlink()

    def forget_gone(self, ranks: int) -> None:
        """Removes the heartbeats of an earlier start on more ranks, which nobody else would. Rank 0 calls it."""
        for path in self._run_dir.heartbeat(0).parent.glob("rank-*.json"):
            if int(path.stem.removeprefix("rank-")) >= ranks:
                path.unlink(missing_ok=True)

    def _stacks_file(self) -> TextIO:
        if self._file is None and self._run_dir.config.exists():
            path = self._run_dir.stacks(self._rank)
            with suppress(OSError):
                path.parent.mkdir(exist_ok=True)
                self._file = path.open("w", encoding="utf-8")
                self._file.write(f"rank {self._rank}, process {os.getpid()} on {socket.gethostname()}\n")
                self._file.flush()
        return self._file or sys.stderr

    def _beat(self, values: dict[str, Any]) -> None:
        path = self._run_dir.heartbeat(self._rank)
        values |= {"rank": self._rank, "pid": os.getpid(), "host": socket.gethostname()}
        with suppress(OSError):  # whoever watches will see that it is old
            path.parent.mkdir(exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(values), encoding="utf-8")
            temporary.replace(path)


def ranks_that_hung(run_dir: RunDir) -> list[int]:
    """The ranks that missed a deadline in the last start, by what they left in ``stacks/``."""
    files = sorted(run_dir.stacks(0).parent.glob("rank-*.txt"))
    hung = []
    for path in files:
        with suppress(OSError):
            if _SIGN_OF_TIMEOUT in path.read_text(encoding="utf-8"):
                hung.append(int(path.stem.removeprefix("rank-")))
    return hung
