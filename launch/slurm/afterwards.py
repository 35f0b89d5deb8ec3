"""What comes after a start, decided by progress (decision 0011): the run has ended, goes back into the queue, or is given up.

The batch script asks when its ranks have ended. If the batch script was killed, the agent of the first node asks in its place;
who asks second finds the answer in the history and does nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from framework.errors import EXIT_FINISHED, EXIT_PREEMPTED, EXIT_REFUSED, ZerostreamError
from launch.slurm import scheduler
from launch.slurm.context import Start, this_start
from launch.slurm.history import Event
from launch.slurm.job import Job, JobDir
from launch.slurm.progress import read_progress

Action = Literal["end", "requeue", "follow_up", "give_up", "cancelled", "leave"]
_ENDS = ("ended", "requeued", "followed_up", "gave_up", "cancelled")
_UPDATE_SECONDS = 10.0


@dataclass(frozen=True)
class Facts:
    """All that the decision depends on."""

    exit_code: int
    """Of the ranks together, or of what kept them from starting."""
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
        return Decision("end", "refused: config, input or machine do not fit, and another start would not change that")
    if not facts.is_resumable:
        return Decision("end", f"{why}; it keeps nothing to go on from")
    if _has_advanced(facts.step_before, facts.step_now):
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
    count, running = 0, None
    for event in events:
        if event.event == "submitted":
            count, running = 0, None
        elif event.event == "started":
            if running is not None:
                count = 0 if _has_advanced(running.step, event.step) else count + 1
            running = event
        elif event.event in _ENDS and running is not None and _is_of(event, running):
            if _has_advanced(running.step, event.step):
                count = 0
            elif not event.is_excused:
                count += 1
            running = None
    return count


def has_ended(events: Sequence[Event], start: Start) -> bool:
    """Whether the history says what came after this start."""
    return any(
        event.event in _ENDS and (event.job_id, event.restart) == (start.job_id, start.restart) for event in events
    )


def conclude(job_dir: JobDir, start: Start, exit_code: int) -> Decision | None:
    """Decides and acts; None if somebody has done so for this start already.

    Raises:
        ZerostreamError: neither a requeue nor a follow-up job was possible; the history says so.
    """
    with _only_one(job_dir):
        history = job_dir.history
        events = history.read()
        if has_ended(events, start):
            return None
        job = job_dir.read()
        facts = _gather(job_dir, job, start, exit_code, events)
        decision = decide(facts)
        if decision.action in ("requeue", "follow_up"):
            decision = _go_on(job_dir, job, start, decision)
        elif decision.action == "leave":
            _keep_off(job_dir, job, start)
        happened = {
            "end": "ended", "requeue": "requeued", "leave": "requeued", "follow_up": "followed_up", "give_up": "gave_up",
            "cancelled": "cancelled",
        }[decision.action]  # fmt: skip
        history.append(
            happened,  # type: ignore[arg-type]
            job_id=start.job_id,
            restart=start.restart,
            step=facts.step_now,
            exit_code=exit_code,
            reason=decision.reason,
            is_excused=decision.is_excused,
        )
        return decision


def _gather(job_dir: JobDir, job: Job, start: Start, exit_code: int, events: Sequence[Event]) -> Facts:
    mine = [event for event in events if event.event == "started" and _is_start(event, start)]
    try:
        seen = scheduler.read_job(start.job_id)
    except ZerostreamError as error:  # the controller is away: what the ranks said has to do
        print(f"zerostream: {error}", file=sys.stderr, flush=True)
        seen = None
    requeued = seen is not None and seen.restarts > start.restart
    ended_by_slurm = seen is not None and not requeued and seen.state in ("COMPLETING", "CANCELLED")
    # scancel leaves no reason; a time limit, a lost node and a killed batch script do.
    cancelled = ended_by_slurm and seen is not None and not seen.reason and not seen.was_preempted
    return Facts(
        exit_code=exit_code,
        step_before=mine[-1].step if mine else None,
        step_now=read_progress(job_dir, job),
        in_vain=starts_in_vain(events),
        most_in_vain=job.profile.max_starts_without_progress,
        may_requeue=job.profile.requeue,
        is_resumable=job.kind != "benchmark",
        was_cancelled=cancelled or job_dir.cancel_request.exists(),
        slurm_requeues=requeued,
        slurm_reason=seen.reason if seen is not None and seen.state != "RUNNING" else "",
    )


def _go_on(job_dir: JobDir, job: Job, start: Start, decision: Decision) -> Decision:
    """The next start is in the queue when this returns; a site that refuses a requeue gets a follow-up job."""
    if decision.action == "requeue":
        try:
            scheduler.requeue(start.job_id)
        except ZerostreamError as error:
            with suppress(ZerostreamError):
                seen = scheduler.read_job(start.job_id)
                if seen is not None and seen.restarts > start.restart:  # SLURM was faster
                    _keep_off(job_dir, job, start)
                    return Decision(
                        "leave", f"SLURM has put it back into the queue; {decision.reason}", is_excused=True
                    )
            decision = Decision("follow_up", f"{decision.reason}; no requeue ({error.cause})")
        else:
            _keep_off(job_dir, job, start)
            return decision
    from launch.slurm.submit import submit_job

    bad = (*job.excluded_nodes, *_found_bad(job_dir, job, start))
    following = job.model_copy(
        update={"follow_up": True, "excluded_nodes": tuple(dict.fromkeys(bad)), "array": job.array}
    )
    try:
        submitted = submit_job(following, job_dir.run, depends_on=start.job_id)
    except ZerostreamError as error:
        return Decision("give_up", f"{decision.reason}; neither requeue nor follow-up job: {error.cause}")
    return Decision("follow_up", f"{decision.reason}; job {submitted.job_id} takes over")


def _keep_off(job_dir: JobDir, job: Job, start: Start) -> None:
    """Bad nodes of this start are left out of the next one, if enough others remain."""
    bad = _found_bad(job_dir, job, start)
    if not bad:
        return
    excluded = tuple(dict.fromkeys((*job.profile.exclude, *job.excluded_nodes, *bad)))
    deadline = time.monotonic() + _UPDATE_SECONDS
    while True:
        try:
            scheduler.exclude_nodes(start.job_id, excluded)
            break
        except ZerostreamError as error:
            if time.monotonic() >= deadline:
                print(f"zerostream: {', '.join(bad)} could not be excluded: {error}", file=sys.stderr, flush=True)
                return
            time.sleep(0.5)
    job_dir.write(job.model_copy(update={"excluded_nodes": tuple(dict.fromkeys((*job.excluded_nodes, *bad)))}))
    job_dir.history.append(
        "excluded", job_id=start.job_id, restart=start.restart, nodes=bad, reason=_why_bad(job_dir, start, bad)
    )


def _found_bad(job_dir: JobDir, job: Job, start: Start) -> tuple[str, ...]:
    """Nodes that failed their health check or never came, unless too few others are left to run on."""
    bad = tuple(dict.fromkeys(name for name, _ in _bad_reports(job_dir, start)))
    if not bad:
        return ()
    with suppress(ZerostreamError):
        partitions = scheduler.read_partitions()
        chosen = partitions.get(job.profile.partition or "") or next(
            (each for each in partitions.values() if each.is_default), None
        )
        if chosen is not None:
            out = {*bad, *job.profile.exclude, *job.excluded_nodes}
            if len([node for node in chosen.nodes if node.name not in out]) < job.nodes:
                print(
                    f"zerostream: {', '.join(bad)} should be excluded, but {chosen.name} would have too few nodes left",
                    file=sys.stderr,
                    flush=True,
                )
                return ()
    return bad


def _why_bad(job_dir: JobDir, start: Start, nodes: Sequence[str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in _bad_reports(job_dir, start) if name in nodes)


def _bad_reports(job_dir: JobDir, start: Start) -> Iterator[tuple[str, str]]:
    folder = job_dir.logs(start.job_id, start.restart)
    for path in sorted(folder.glob("health-*.json")):
        with suppress(OSError, ValueError, KeyError):
            report = json.loads(path.read_text(encoding="utf-8"))
            if report["problems"]:
                yield str(report["node"]), ", ".join(report["problems"])


def _describe_end(facts: Facts) -> str:
    if facts.exit_code == EXIT_PREEMPTED:
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


def _is_of(event: Event, start: Event) -> bool:
    return (event.job_id, event.restart) == (start.job_id, start.restart)


def _is_start(event: Event, start: Start) -> bool:
    return (event.job_id, event.restart) == (start.job_id, start.restart)


@contextmanager
def _only_one(job_dir: JobDir) -> Iterator[None]:
    descriptor = os.open(job_dir.path / "afterwards.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with suppress(OSError):  # a file system without locks: the history alone keeps a second answer out
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main(arguments: Sequence[str]) -> int:
    """``python -m launch.slurm.afterwards RUN_DIR --exit-code N``"""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # a requeue ends the batch script, which this is a part of
    parser = argparse.ArgumentParser(prog="launch.slurm.afterwards")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--exit-code", type=int, required=True)
    options = parser.parse_args(arguments)
    try:
        decision = conclude(JobDir(options.run_dir), this_start(), options.exit_code)
    except ZerostreamError as error:
        print(f"zerostream: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    if decision is not None:
        print(f"zerostream: {decision.action.replace('_', ' ')}: {decision.reason}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
