"""How a run is, in one word and one sentence: decided from what SLURM says, what the job wrote down, and how far the run is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from framework.errors import EXIT_FINISHED, EXIT_REFUSED
from launch.slurm.gauges import Gauges
from launch.slurm.history import Event, of_newest_submission
from launch.slurm.queue import QueuedJob
from launch.slurm.reasons import in_plain_words

Name = Literal[
    "queued", "starting", "running", "suspended", "requeued",  # alive
    "finished", "failed", "gave up", "cancelled",  # ended
    "stopped",  # has saved where train.stop_at_step asked for it; a local run also where it was interrupted
    "lost",  # nobody knows how it ended
    "unknown",  # SLURM cannot be asked, and the run's own signs of life are old
]  # fmt: skip
ALIVE: frozenset[Name] = frozenset({"queued", "starting", "running", "suspended", "requeued"})
OVER: frozenset[Name] = frozenset({"finished", "failed", "gave up", "cancelled", "stopped", "lost"})
_SECONDS_TO_COME_BACK = 60.0  # a job that goes back into the queue ends first
_COMES_BACK = ("requeued", "followed_up")
_SUSPENDED = {"SUSPENDED", "STOPPED"}


@dataclass(frozen=True)
class State:
    """``reason`` is a sentence without a full stop, or empty."""

    name: Name
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come without a new command."""
        return self.name in OVER

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" if self.reason else self.name


def state_of_local_run(gauges: Gauges) -> State:
    """Of a run that was started by hand, here or on another machine that shares the folder."""
    beats = gauges.heartbeats
    if gauges.is_locked:
        return State("running")
    if gauges.is_finished:
        return State("finished")
    if beats is not None and not beats.is_late:
        return State("running", "on another machine, by its heartbeats")
    if beats is not None:
        return State("lost", "its ranks left without a word; the same command goes on from the newest checkpoint")
    if gauges.step is None:
        return State("stopped", "before its first step")
    return State("stopped", "the same command goes on")


def state_of_job(
    queued: QueuedJob | None,
    events: Sequence[Event],
    gauges: Gauges,
    *,
    is_queued: bool,
    unreachable: str | None,
    is_cancelled: bool,
    now: float,
) -> State:
    """Of a run that was submitted.

    Args:
        queued: what SLURM knows of its newest job.
        events: of the history, oldest first.
        gauges: of the run directory.
        is_queued: whether SLURM ever took it.
        unreachable: why SLURM could not be asked.
        is_cancelled: whether the user has asked for no further start.
        now: unix seconds.
    """
    events = of_newest_submission(events)
    if queued is not None and not queued.has_ended:
        return _state_in_queue(queued, events, gauges, is_cancelled=is_cancelled)
    if gauges.is_finished:
        return State("finished")
    if (ended := _state_by_history(events, is_cancelled=is_cancelled)) is not None:
        return ended
    if events and events[-1].event in _COMES_BACK and now - events[-1].time < _SECONDS_TO_COME_BACK:
        return State("requeued", "SLURM takes it back")
    if queued is not None:
        return _state_by_slurm(queued)
    if not is_queued:
        return State("failed", "SLURM has not taken the job")
    if unreachable is None:
        return State("lost", "SLURM does not know the job any more, and it has not said how it ended")
    beats = gauges.heartbeats
    if beats is not None and not beats.is_late:
        return State("running", "by its heartbeats; SLURM cannot be asked")
    return State("unknown", "SLURM cannot be asked")


def _state_in_queue(queued: QueuedJob, events: Sequence[Event], gauges: Gauges, *, is_cancelled: bool) -> State:
    if queued.is_waiting:
        has_started = any(event.event == "started" for event in events)
        return State("requeued" if has_started else "queued", in_plain_words(queued.reason))
    if queued.state in _SUSPENDED:
        return State("suspended", "SLURM has taken its nodes away for a while")
    if queued.state == "CONFIGURING":
        return State("starting", "its nodes are being made ready")
    if gauges.is_finished:
        return State("finished")  # the job clears up
    last = _last(events)
    if last is not None and last.job_id is not None:  # an end that the user has asked for, but not seen, has none
        if (ended := _state_by_history(events, is_cancelled=False)) is not None:
            return ended
        if last.event in _COMES_BACK:
            return State("requeued", "this start clears up")
    if is_cancelled:
        return State("running", "was asked to save and end")
    if queued.state == "COMPLETING":
        return State("running", "this start comes to its end")
    return State("running") if gauges.heartbeats is not None else State("starting", "its ranks have not begun yet")


def _state_by_history(events: Sequence[Event], *, is_cancelled: bool) -> State | None:
    """What the job itself wrote about its end; None if it has not ended by its own account."""
    if is_cancelled:
        return State("cancelled", next((event.reason for event in reversed(events) if event.event == "cancelled"), ""))
    last = _last(events)
    if last is None or last.event not in ("ended", "stopped", "gave_up", "cancelled"):
        return None
    if last.event == "stopped":
        return State("stopped", last.reason)
    if last.event == "gave_up":
        return State("gave up", last.reason)
    if last.event == "cancelled":
        return State("cancelled", last.reason)
    if last.exit_code == EXIT_FINISHED:
        return State("finished")
    if last.exit_code == EXIT_REFUSED:
        return State("failed", last.reason or "the start was refused; the log's last line says what to change")
    return State("failed", last.reason or f"exit code {last.exit_code}")


def _last(events: Sequence[Event]) -> Event | None:
    return next((event for event in reversed(events) if event.event != "excluded"), None)


def _state_by_slurm(queued: QueuedJob) -> State:
    """The job has ended and had no time to write it down."""
    if queued.state == "CANCELLED":
        return State("cancelled", "with scancel")
    if queued.state == "COMPLETED":
        return State("lost", "SLURM says that it has ended, but it has not said how")
    words = queued.state.lower().replace("_", " ")
    reason = in_plain_words(queued.reason)
    return State("failed", f"SLURM says {words}" + (f": {reason}" if reason else ""))
