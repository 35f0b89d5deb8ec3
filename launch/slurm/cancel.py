"""``zerostream cancel``: the run saves and ends, and nobody starts it again.

What the user wants is written down first: whatever ends the job then, its last words ask for no further start. A running job is
asked to save with SIGUSR2, which has all the time it takes; `scancel` alone would leave it SLURM's KillWait, 30 seconds.
"""

from __future__ import annotations

import getpass
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.durable import storage_errors, write_durably
from framework.errors import ZerostreamError
from framework.run_dir import RunDir
from launch.report import print_report
from launch.slurm.afterwards import tell_array
from launch.slurm.job import JobDir
from launch.slurm.next_command import typed
from launch.slurm.progress import newest_step
from launch.slurm.scheduler import SchedulerError, call
from launch.slurm.status import RunStatus, look_at, refuse_no_run

_SECONDS_OF_SCANCEL = 20.0
_SECONDS_TO_KILL = 120.0  # KillWait, and what SLURM takes to clear up
_SECONDS_TO_ASK_AGAIN = 10.0
_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Cancelled:
    """How one run was left."""

    run_dir: Path
    state: str
    step: int | None
    saved_step: int | None


def run_cancel(run_dir: Path, *, at_once: bool, wait_seconds: float, as_json: bool) -> None:
    """Ends a run, or all tasks of an array, and says what was saved.

    Args:
        run_dir: of the run or array.
        at_once: do not ask the run to save first; SLURM still sends SIGTERM before it kills.
        wait_seconds: how long a run may take to save before it is ended anyway.
        as_json: print one object.

    Raises:
        RunDirError: it was not submitted.
        ZerostreamError: SLURM could not be asked, or the job is still there.
    """
    refuse_no_run(run_dir)
    job_dir = JobDir(run_dir)
    job_dirs = job_dir.tasks() if job_dir.read().tasks is not None else [job_dir]
    alive = [status for status in look_at([each.run for each in job_dirs]) if not status.state.is_over]
    if not alive:
        print("zerostream: nothing to cancel: no job of this run waits or runs", file=sys.stderr)
    else:
        _note([JobDir(status.run_dir) for status in alive])
        _end(alive, at_once, wait_seconds)
        tell_array(JobDir(alive[0].run_dir).read())
    left = [_describe(status) for status in look_at([each.run for each in job_dirs])]
    _report(run_dir, left, as_json)


def _note(job_dirs: Sequence[JobDir]) -> None:
    for job_dir in job_dirs:
        with storage_errors(job_dir.cancel_request):
            write_durably(job_dir.cancel_request, b"")
        # Without the job's id: the start that lives will still write down how it ended.
        job_dir.history.append("cancelled", step=newest_step(RunDir(job_dir.run)), reason=f"asked by {_user()}")


def _end(alive: Sequence[RunStatus], at_once: bool, wait_seconds: float) -> None:
    _refuse_silence(alive)
    run_dirs = [status.run_dir for status in alive]
    if at_once:
        _scancel(alive)
        still = _wait(run_dirs, _SECONDS_TO_KILL)
    else:
        print("asked to save and end ...", file=sys.stderr, flush=True)
        still = _wait(run_dirs, wait_seconds, ask_to_save=True)
    if still and not at_once:
        print(f"has not ended within {wait_seconds:g} s; SLURM is told to end it", file=sys.stderr, flush=True)
        _refuse_silence(still)
        _scancel(still)
        still = _wait(run_dirs, _SECONDS_TO_KILL)
    if still:
        ids = " ".join(_job_id(status) for status in still)
        why = next((f" and could not be asked: {status.unreachable}" for status in still if status.unreachable), "")
        raise ZerostreamError(
            f"SLURM may still have job {ids}{why}",
            fix=f"ask `squeue --job {ids}` why; it does not start again when it has ended",
        )


def _wait(run_dirs: Sequence[Path], seconds: float, *, ask_to_save: bool = False) -> list[RunStatus]:
    """Those that SLURM still has when the time is up. What waits in the queue, or goes back there meanwhile, is taken out of it.

    Who is asked to save is asked again from time to time: a job whose ranks are not there yet has nobody to hear it.
    """
    began, asked_at = time.monotonic(), -math.inf
    while True:
        still = [status for status in look_at(run_dirs) if _is_there(status)]
        if not still or time.monotonic() >= began + seconds:
            return still
        _scancel([status for status in still if _waits(status)])
        if ask_to_save and time.monotonic() >= asked_at + _SECONDS_TO_ASK_AGAIN:
            asked_at = time.monotonic()
            _scancel([status for status in still if not _waits(status)], "--signal=USR2")
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _scancel(statuses: Sequence[RunStatus], *options: str) -> None:
    """Only what SLURM has said to be this run's job: another's may have its id on a new cluster."""
    known = [_job_id(status) for status in statuses if status.queued is not None]
    if not known:
        return
    try:
        call("scancel", *options, *known, seconds=_SECONDS_OF_SCANCEL)
    except SchedulerError as error:
        if "Invalid job id" in error.cause or "already completing or completed" in error.cause:
            return
        raise _untold(error.cause) from None


def _refuse_silence(statuses: Sequence[RunStatus]) -> None:
    """Without an answer it is not known whose the ids are."""
    if away := next((status.unreachable for status in statuses if status.unreachable), None):
        raise _untold(away)


def _untold(cause: str) -> ZerostreamError:
    return ZerostreamError(
        f"SLURM could not be told to cancel: {cause}",
        fix="try again when SLURM answers; until then the run goes on, but it does not start again when this start has ended",
    )


def _is_there(status: RunStatus) -> bool:
    """Whether SLURM has it, or may have it."""
    return status.unreachable is not None or (status.queued is not None and not status.queued.has_ended)


def _waits(status: RunStatus) -> bool:
    return status.queued is not None and status.queued.is_waiting


def _job_id(status: RunStatus) -> str:
    assert status.job is not None
    assert status.job.job_id is not None
    return status.job.job_id


def _describe(status: RunStatus) -> Cancelled:
    return Cancelled(status.run_dir, status.state.name, status.gauges.step, status.gauges.newest_checkpoint)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "its user"


def _report(run_dir: Path, left: Sequence[Cancelled], as_json: bool) -> None:
    if as_json:
        tasks: list[dict[str, Any]] = [{**vars(each), "run_dir": str(each.run_dir)} for each in left]
        print_report({"run_dir": str(run_dir), "runs": tasks}, as_json=True)
        return
    for each in left:
        saved = "nothing was saved" if each.saved_step is None else f"the checkpoint of step {each.saved_step} is there"
        reached = "" if each.step is None else f", it had taken {each.step} steps"
        print(f"{each.run_dir}: {each.state}; {saved}{reached}")
    print(f"to go on: {typed('resubmit', run_dir)}")
