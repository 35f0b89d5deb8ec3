"""What a run met that was not planned, told once to the person and once to ``events.jsonl``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from framework.metrics.records import JsonLines
from framework.run_dir import RunDir


class EventLog:
    """Unusual events of one start. On every rank; rank 0 alone writes and speaks.

    Args:
        run_dir: of the run.
        resume_step: events of later steps are forgotten, as those steps are taken again.
        say: shows a line to the person.
        is_main: whether this is rank 0.
    """

    def __init__(self, run_dir: RunDir, resume_step: int, say: Callable[[str], None], *, is_main: bool) -> None:
        self._lines = JsonLines(run_dir.events, resume_step=resume_step) if is_main else None
        self._say = say

    def note(self, event: str, step: int, message: str, **details: Any) -> None:
        """Notes ``event`` at ``step``: ``message`` for the person, ``details`` (JSON values) for the file."""
        if self._lines is not None:
            self._say(f"warning: step {step}: {message}")
            self._lines.append({"event": event, "step": step, "message": message, **details})

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()
