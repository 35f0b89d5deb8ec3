"""What a run met that was not planned, told once to the person and once to ``events.jsonl``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from framework.metrics.records import JsonLines, read_json_lines
from framework.run_dir import RunDir

_SKIPPED = "sequences_skipped"


class EventLog:
    """Unusual events of one start. On every rank; rank 0 alone writes and speaks.

    Args:
        run_dir: of the run.
        resume_step: events of later steps leave ``events.jsonl``, as those steps are taken again: it tells of the run that
            counts. A save that failed, or a number that was not finite, need not come again: they move to
            ``abandoned_events.jsonl``.
        say: shows a line to the person.
        is_main: whether this is rank 0.
    """

    def __init__(self, run_dir: RunDir, resume_step: int, say: Callable[[str], None], *, is_main: bool) -> None:
        if is_main:
            with suppress(OSError):  # what cannot be kept is no reason to stand still
                _keep_abandoned(run_dir, resume_step)
        self._lines = JsonLines(run_dir.events, resume_step=resume_step) if is_main else None
        self._say = say
        self._bad_shards: set[str] = set()
        if is_main:
            with suppress(OSError):  # then what earlier starts have named is named once more
                for event in _skips(run_dir):
                    self._bad_shards.update(event.get("bad_shards", ()))

    def note(self, event: str, step: int, message: str, **details: Any) -> None:
        """Notes ``event`` at ``step``: ``message`` for the person, ``details`` (JSON values) for the file."""
        if self._lines is not None:
            self._say(f"warning: step {step}: {message}")
            self._lines.append({"event": event, "step": step, "message": message, **details})

    def note_skipped(self, step: int, cursors: range, skipped_sequences: int, bad_shards: Sequence[str]) -> None:
        """Notes what bad shards have cost a step: each step in the file, but to the person each shard once in the whole run.

        Args:
            step: from 1.
            cursors: of the step, over all ranks.
            skipped_sequences: how many of them were empty.
            bad_shards: named by any rank in this step; what the run has named before is left out.
        """
        if self._lines is None:
            return
        new = [name for name in bad_shards if name not in self._bad_shards]
        self._bad_shards.update(new)
        for name in new:
            self._say(
                f"warning: step {step}: shard {name} is bad; its sequences are left out from here on, and counted"
            )
        line = {
            "event": _SKIPPED,
            "step": step,
            "message": f"{skipped_sequences} of {len(cursors)} sequences left out, as their shards are bad",
            "skipped_sequences": skipped_sequences,
            "cursors": [cursors.start, cursors.stop],
        }
        self._lines.append({**line, "bad_shards": new} if new else line)

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()


def _keep_abandoned(run_dir: RunDir, resume_step: int) -> None:
    """Skipped sequences are left: they depend on the step alone."""
    lines = [line for line in read_json_lines(run_dir.events) if isinstance(line.get("step"), int)]
    abandoned = [line for line in lines if line["step"] > resume_step and line.get("event") != _SKIPPED]
    if abandoned:
        history = JsonLines(run_dir.abandoned_events, resume_step=None)
        for line in abandoned:
            history.append({**line, "resumed_at_step": resume_step})
        history.close()


def count_skipped_sequences(run_dir: RunDir) -> int:
    """Training sequences that bad shards have cost the run so far, over all its starts."""
    return sum(event["skipped_sequences"] for event in _skips(run_dir))


def _skips(run_dir: RunDir) -> Iterator[dict[str, Any]]:
    return (event for event in read_json_lines(run_dir.events) if event.get("event") == _SKIPPED)
