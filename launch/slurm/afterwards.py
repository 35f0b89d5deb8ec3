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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from framework.errors import EXIT_FAILED, ZerostreamError
from launch.slurm import scheduler
from launch.slurm.context import Start, this_start
from launch.slurm.decision import Action, Decision, Facts, decide, has_ended, is_of, starts_in_vain
from launch.slurm.history import Event, Kind, of_newest_submission
from launch.slurm.job import Job, JobDir
from launch.slurm.progress import read_progress, read_stop

_EVENTS: dict[Action, Kind] = {
    "end": "ended",
    "stop": "stopped",
    "requeue": "requeued",
    "leave": "requeued",
    "follow_up": "followed_up",
    "give_up": "gave_up",
    "cancelled": "cancelled",
}
_UPDATE_SECONDS = 10.0
_PATIENCE_SECONDS = 600.0
_MARK = "zerostream: "


def conclude(
    job_dir: JobDir, start: Start, exit_code: int | None, *, patience_seconds: float = _PATIENCE_SECONDS
) -> Decision | None:
    """Decides and acts; None if somebody has done so for this start already.

    Args:
        job_dir: of the run.
        start: the one that has ended.
        exit_code: of its ranks together, or of what kept them from starting. None if SLURM is ending the start while ranks may
            still save: then it is decided whether to go on, and all else is left for their end.
        patience_seconds: how long to go on asking a controller that is away.

    Raises:
        ZerostreamError: run directory or file system do not answer.
    """
    with _only_one(job_dir):
        events = of_newest_submission(job_dir.history.read())
        if has_ended(events, start):
            return None
        job = job_dir.read()
        facts = _gather(job_dir, job, start, exit_code, events, patience_seconds)
        decision = decide(facts)
        if exit_code is None and decision.action not in ("requeue", "follow_up"):
            return None
        if decision.action in ("requeue", "follow_up"):
            decision = _go_on(job_dir, job, start, decision, patience_seconds)
        elif decision.action == "leave":
            _keep_off(job_dir, job, start)
        job_dir.history.append(
            _EVENTS[decision.action],
            job_id=start.job_id,
            restart=start.restart,
            step=facts.step_now,
            exit_code=exit_code,
            reason=decision.reason,
            is_excused=decision.is_excused,
        )
    if decision.action in ("end", "stop", "give_up", "cancelled"):
        tell_array(job)
    return decision


def tell_array(job: Job) -> None:
    """A task of an array has ended for good: the last one to do so compares them all."""
    if job.array is None:
        return
    from launch.slurm.arrays import task_has_ended

    try:
        task_has_ended(Path(job.array))
    except (ZerostreamError, OSError) as error:  # `zerostream status` does it as well
        print(f"zerostream: the tasks could not be compared: {error}", file=sys.stderr, flush=True)


def _gather(
    job_dir: JobDir, job: Job, start: Start, exit_code: int | None, events: Sequence[Event], patience_seconds: float
) -> Facts:
    begun = [event for event in events if event.event == "started" and event.job_id == start.job_id]
    mine = [event for event in begun if is_of(event, start)]
    # A start that could not even write that it began (a full disk) was in vain, and so were those just before it.
    unwritten = 0 if mine else start.restart - max((event.restart for event in begun), default=-1) - 1
    step_now = read_progress(job_dir, job)
    try:
        seen = scheduler.patiently(lambda: scheduler.read_job(start.job_id), patience_seconds)
    except ZerostreamError as error:  # what the ranks said has to do
        print(f"zerostream: {error}", file=sys.stderr, flush=True)
        seen = None
    requeued = seen is not None and seen.restarts > start.restart
    ended_by_slurm = seen is not None and not requeued and seen.state in ("COMPLETING", "CANCELLED")
    # scancel leaves no reason; a time limit, a lost node and a killed batch script do.
    cancelled = ended_by_slurm and seen is not None and not seen.reason and not seen.was_preempted
    return Facts(
        exit_code=exit_code,
        step_before=mine[-1].step if mine else step_now,
        step_now=step_now,
        in_vain=starts_in_vain(events) + unwritten,
        most_in_vain=job.profile.max_starts_without_progress,
        may_requeue=job.profile.requeue,
        is_resumable=job.kind != "benchmark",
        was_cancelled=cancelled or job_dir.cancel_request.exists(),
        slurm_requeues=requeued,
        slurm_reason=seen.reason if seen is not None and seen.state != "RUNNING" else "",
        stop_at_step=read_stop(job),
        last_words=_last_words(job_dir, start),
    )


def _last_words(job_dir: JobDir, start: Start) -> str:
    """Every failure's last line names the cause and what to do; empty if there is none."""
    with suppress(OSError):
        lines = (
            job_dir.rank_log(start.job_id, start.restart, 0).read_text(encoding="utf-8", errors="replace").splitlines()
        )
        return next((line.removeprefix(_MARK) for line in reversed(lines) if line.startswith(_MARK)), "")
    return ""


def _go_on(job_dir: JobDir, job: Job, start: Start, decision: Decision, patience_seconds: float) -> Decision:
    """The next start is in the queue when this returns; a site that refuses a requeue gets a follow-up job."""
    if decision.action == "requeue":
        try:
            scheduler.patiently(lambda: scheduler.requeue(start.job_id), patience_seconds)
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
    for path in job_dir.all_health(start.job_id, start.restart):
        with suppress(OSError, ValueError, KeyError):
            report = json.loads(path.read_text(encoding="utf-8"))
            if report["problems"]:
                yield str(report["node"]), ", ".join(report["problems"])


@contextmanager
def _only_one(job_dir: JobDir) -> Iterator[None]:
    with ExitStack() as stack:
        with suppress(OSError):  # a full disk, or one without locks: the history alone keeps a second answer out
            descriptor = os.open(job_dir.decision_lock, os.O_RDWR | os.O_CREAT, 0o644)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def code_of_ranks(job_dir: JobDir, start: Start, of_srun: int) -> int:
    """What the agents agreed on. srun's own code is the largest of any task's, 0 after a lost node (seen with SLURM 22.05)."""
    with suppress(OSError, ValueError):
        return int(job_dir.exit_code(start.job_id, start.restart).read_text(encoding="utf-8"))
    return of_srun or EXIT_FAILED


def main(arguments: Sequence[str]) -> int:
    """``python -m launch.slurm.afterwards RUN_DIR --exit-code N``"""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # a requeue ends the batch script, which this is a part of
    parser = argparse.ArgumentParser(prog="launch.slurm.afterwards")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--exit-code", type=int, required=True)
    options = parser.parse_args(arguments)
    try:
        job_dir, start = JobDir(options.run_dir), this_start()
        decision = conclude(job_dir, start, code_of_ranks(job_dir, start, options.exit_code))
    except ZerostreamError as error:
        print(f"zerostream: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    if decision is not None:
        print(f"zerostream: {decision.action.replace('_', ' ')}: {decision.reason}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
