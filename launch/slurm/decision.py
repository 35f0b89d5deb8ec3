"""Whether another start is worth it: decided by progress alone (decision 0011). Pure functions of facts and of the history."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from framework.errors import EXIT_FINISHED, EXIT_PREEMPTED, EXIT_REFUSED
from launch.slurm.context import Start
from launch.slurm.history import Event

Action = Literal["end", "stop", "requeue", "follow_up", "give_up", "cancelled", "leave"]
_ENDS = ("ended", "stopped", "requeued", "followed_up", "gave_up", "cancelled")


@dataclass(frozen=True)
class Facts:
    """All that the decision depends on."""

    exit_code: int | None
    """Of the ranks together, or of what kept them from starting; None while they live."""
    step_before: int | None
    """Newest checkpoint when the start began."""
    step_now: int | None
    in_vain: int
    """Starts in a row before this one that ended without a newer checkpoint."""
    most_in_vain: int
    """The profile's ``max_starts_without_progress``."""
    may_requeue: bool
    """Whether the site lets jobs go back into the queue."""
    is_resumable: bool = True
    """Whether another start would go on and not begin again."""
    was_cancelled: bool = False
    """By the user, through ``zerostream cancel`` or scancel."""
    slurm_requeues: bool = False
    """SLURM has put the job back itself: preemption, `scontrol requeue`, or a node that failed."""
    slurm_reason: str = ""
    """SLURM's word for why it ended the start, if it did."""
    stop_at_step: int | None = None
    """Where the user wants the run to stop: the config's ``train.stop_at_step``."""
    last_words: str = ""
    """What rank 0 named as the cause of its end."""


@dataclass(frozen=True)
class Decision:
    """What to do, and why, for the history."""

    action: Action
    reason: str
    is_excused: bool = False
    """Whether the start does not count as one in vain, as it was not its own fault that it ended."""


def decide(facts: Facts) -> Decision:
    """What comes after a start. A pure function: its table is in ``tests/unit/launch/slurm/test_afterwards.py``."""
    why = _describe_end(facts)
    if facts.was_cancelled:
        return Decision("cancelled", "cancelled by the user")
    if facts.exit_code == EXIT_FINISHED:
        return Decision("end", "finished")
    if facts.slurm_requeues:
        return Decision("leave", f"SLURM has put it back into the queue; {why}", is_excused=True)
    if facts.exit_code == EXIT_REFUSED:
        cause = facts.last_words or "config, input or machine do not fit, and another start would not change that"
        return Decision("end", f"refused: {cause}")
    has_advanced = _has_advanced(facts.step_before, facts.step_now)
    if facts.exit_code == EXIT_PREEMPTED and has_advanced and facts.step_now == facts.stop_at_step:
        return Decision("stop", f"saved at step {facts.step_now}, as train.stop_at_step asks")
    if not facts.is_resumable:
        return Decision("end", f"{why}; it keeps nothing to go on from")
    if has_advanced:
        why = f"{why}, after progress to step {facts.step_now}"
    else:
        starts = facts.in_vain + 1
        why = f"{why}, without a newer checkpoint ({starts} of at most {facts.most_in_vain} such starts in a row)"
        if starts >= facts.most_in_vain:
            return Decision("give_up", why)
    return Decision("requeue" if facts.may_requeue else "follow_up", why)


def starts_in_vain(events: Sequence[Event]) -> int:
    """How many of the last starts in a row ended without a newer checkpoint; a submission by the user begins a new count.

    A start that has no end in the history died with its batch script; the next one's first step tells whether it came further.
    """
    count, running, latest = 0, None, None
    for event in events:
        if event.event == "submitted":
            count, running, latest = 0, None, None
        elif event.event == "started":
            if running is not None:
                count += 1
            # What ranks saved after their end had been written down counts as well.
            if latest is not None and _has_advanced(latest.step, event.step):
                count = 0
            running = latest = event
        elif event.event in _ENDS and running is not None and is_of(event, running):
            if _has_advanced(running.step, event.step):
                count = 0
            elif not event.is_excused:
                count += 1
            running = None
    return count


def has_ended(events: Sequence[Event], start: Start) -> bool:
    """Whether these events say what came after this start; an older start of the same name is none of theirs."""
    return any(event.event in _ENDS and is_of(event, start) for event in events)


def is_of(event: Event, start: Event | Start) -> bool:
    """Whether an event tells of this start, or of the same one as another event."""
    return (event.job_id, event.restart) == (start.job_id, start.restart)


def _describe_end(facts: Facts) -> str:
    if facts.exit_code is None:
        said = "ended before its ranks did"
    elif facts.exit_code == EXIT_PREEMPTED:
        said = "saved and wants to go on"
    elif facts.exit_code > 128:
        said = (
            f"killed by {signal.Signals(facts.exit_code - 128).name}" if facts.exit_code - 128 in _NUMBERS else "killed"
        )
    else:
        said = f"failed with exit code {facts.exit_code}"
    return f"{said} ({facts.slurm_reason})" if facts.slurm_reason else said


_NUMBERS = {int(number) for number in signal.Signals}


def _has_advanced(before: int | None, now: int | None) -> bool:
    return now is not None and (before is None or now > before)
