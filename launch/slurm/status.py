"""``zerostream status``: how a run is, from SLURM, from what its job wrote down, and from its directory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.errors import RunDirError
from framework.metrics.console import format_seconds
from framework.run_dir import RunDir
from launch.report import print_report
from launch.slurm.gauges import Gauges, read_gauges
from launch.slurm.history import Event
from launch.slurm.job import Job, JobDir
from launch.slurm.next_command import next_command
from launch.slurm.queue import Answer, QueuedJob, ask
from launch.slurm.state import State, state_of_job, state_of_local_run

_LAST_EVENTS = 6


@dataclass(frozen=True)
class RunStatus:
    """All that is known of one run at one moment."""

    run_dir: Path
    job: Job | None
    """None for a run that was not submitted."""
    state: State
    gauges: Gauges
    events: tuple[Event, ...]
    queued: QueuedJob | None
    unreachable: str | None
    """Why SLURM could not be asked; None if it answered, or had not to be asked."""
    at: float
    """Unix seconds."""

    @property
    def starts(self) -> int:
        return sum(event.event == "started" for event in self.events)

    @property
    def restarts(self) -> int | None:
        """How often it has begun again, over all its jobs; None for a run that keeps no history."""
        return None if self.job is None else max(0, self.starts - 1)

    @property
    def seconds_to_limit(self) -> float | None:
        """Until SLURM ends this start."""
        if self.state.is_over or self.queued is None or self.queued.state != "RUNNING" or self.queued.ends_at is None:
            return None
        return max(0.0, self.queued.ends_at - self.at)

    @property
    def seconds_to_end(self) -> float | None:
        """Until the run has taken its steps, at its present pace; None for one that does not run."""
        return self.gauges.seconds_to_end if self.state.name in ("running", "starting") else None

    def report(self) -> dict[str, Any]:
        """One JSON object."""
        job, gauges, queued, beats = self.job, self.gauges, self.queued, self.gauges.heartbeats
        return {
            "run_dir": str(self.run_dir),
            "kind": job.kind if job else None,
            "state": self.state.name,
            "reason": self.state.reason,
            "job_id": job.job_id if job else None,
            "slurm_state": queued.state if queued else None,
            "slurm_unreachable": self.unreachable,
            "partition": queued.partition if queued else None,
            "nodes": queued.nodes if queued else None,
            "ranks": job.ranks if job else None,
            "expected_start": queued.starts_at if queued and queued.is_waiting else None,
            "step": gauges.step,
            "max_steps": gauges.max_steps,
            "loss": gauges.loss,
            "validation_loss": gauges.validation_loss,
            "validation_step": gauges.validation_step,
            "bits_per_byte": gauges.bits_per_byte,
            "tokens_per_second": gauges.tokens_per_second,
            "seconds_to_limit": self.seconds_to_limit,
            "seconds_to_end": self.seconds_to_end,
            "restarts": self.restarts,
            "heartbeat_age_seconds": beats.oldest_age_seconds if beats else None,
            "newest_checkpoint": gauges.newest_checkpoint,
            "history": [event.model_dump(mode="json") for event in self.events[-_LAST_EVENTS:]],
            "next": next_command(self.run_dir, self.job, self.state, gauges.step),
        }


def run_status(run_dir: Path, *, as_json: bool) -> None:
    """Says how the run, or each task of an array, is. Asks SLURM with a deadline, and does without it if it must.

    Raises:
        RunDirError: there is no run and no job.
    """
    refuse_no_run(run_dir)
    job = job_of(run_dir)
    if job is not None and job.tasks is not None:
        from launch.slurm.arrays import run_array_status

        run_array_status(run_dir, as_json=as_json)
        return
    [status] = look_at([run_dir])
    print_report(status.report() if as_json else describe(status), as_json)


def refuse_no_run(run_dir: Path) -> None:
    """A folder that holds neither a run nor a job.

    Raises:
        RunDirError: it is none.
    """
    fix = "name the run directory of a run; `zerostream jobs` lists them"
    with _readable(run_dir):
        if not run_dir.is_dir():
            raise RunDirError(f"{run_dir} does not exist", fix=fix)
        if not JobDir(run_dir).job.is_file() and not RunDir(run_dir).config.is_file():
            raise RunDirError(f"{run_dir} holds no run and no job", fix=fix)


@contextmanager
def _readable(run_dir: Path) -> Iterator[None]:
    """Names the folder and what to do, if it is not this user's to read.

    Raises:
        RunDirError: it cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise RunDirError(
            f"{error.filename or run_dir} cannot be read: {error.strerror}",
            fix="ask its owner to let you read it, or ask as its owner",
        ) from None


def look_at(run_dirs: Sequence[Path], *, answer: Answer | None = None) -> list[RunStatus]:
    """How each of these runs is.

    Args:
        run_dirs: of the runs.
        answer: SLURM's, if it has been asked already; an empty one lets their histories alone say how they have ended.

    Raises:
        RunDirError: a job's file is damaged, or cannot be read.
    """
    jobs = [job_of(run_dir) for run_dir in run_dirs]
    if answer is None:
        answer = ask(job for job in jobs if job is not None)
    at = time.time()
    return [_look(run_dir, job, answer, at) for run_dir, job in zip(run_dirs, jobs, strict=True)]


def job_of(run_dir: Path) -> Job | None:
    """None for a run that was not submitted.

    Raises:
        RunDirError: the job's file is damaged, or cannot be read.
    """
    with _readable(run_dir):
        return JobDir(run_dir).read() if JobDir(run_dir).job.is_file() else None


def _look(run_dir: Path, job: Job | None, answer: Answer, now: float) -> RunStatus:
    with _readable(run_dir):
        return _look_into(run_dir, job, answer, now)


def _look_into(run_dir: Path, job: Job | None, answer: Answer, now: float) -> RunStatus:
    gauges = read_gauges(RunDir(_newest_fold(run_dir) if job and job.kind == "finetune" else run_dir), now)
    if job is None:
        return RunStatus(run_dir, None, state_of_local_run(gauges), gauges, (), None, None, now)
    job_dir = JobDir(run_dir)
    events = tuple(job_dir.history.read())
    queued = next(iter(answer.of(job)), None)
    state = state_of_job(
        queued,
        events,
        gauges,
        is_queued=job.job_id is not None,
        unreachable=answer.unreachable,
        is_cancelled=job_dir.cancel_request.exists(),
        now=now,
    )
    return RunStatus(run_dir, job, state, gauges, events, queued, answer.unreachable, now)


def _newest_fold(run_dir: Path) -> Path:
    """A cross-validation trains its folds one after the other, each in a run directory below its own."""
    folds = [path.parent for path in run_dir.glob("*/metrics.jsonl")]
    return max(folds, key=lambda fold: fold.joinpath("metrics.jsonl").stat().st_mtime, default=run_dir)


def describe(status: RunStatus) -> dict[str, str]:
    """One line per subject, for people; what is not known is left out."""
    lines = {
        "run": _describe_run(status),
        "state": _describe_state(status),
        "step": _describe_progress(status.gauges, status.job),
        "left": _describe_time_left(status),
        "restarts": _describe_restarts(status),
        "heartbeat": _describe_heartbeats(status),
        "checkpoint": _describe_checkpoint(status),
        "history": "\n".join(describe_event(event) for event in status.events[-_LAST_EVENTS:]),
        "slurm": f"could not be asked: {status.unreachable}" if status.unreachable else "",
        "next": next_command(status.run_dir, status.job, status.state, status.gauges.step),
    }
    return {key: text for key, text in lines.items() if text}


def describe_event(event: Event) -> str:
    """``2026-11-25 18:04:11  started 12, restart 1 on zs1, zs2; step 40``."""
    words = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(event.time))}  {event.event.replace('_', ' ')}"
    if event.job_id is not None:
        words += f"  job {event.job_id}" + (f", restart {event.restart}" if event.restart else "")
    details = (
        f"on {', '.join(event.nodes)}" if event.nodes and event.event == "started" else ", ".join(event.nodes),
        f"step {event.step}" if event.step is not None else "",
        f"exit code {event.exit_code}" if event.exit_code is not None else "",
        event.reason,
    )
    return "; ".join((words, *(detail for detail in details if detail)))


def _describe_run(status: RunStatus) -> str:
    job = status.job
    if job is None:
        return f"{status.run_dir}, started by hand"
    nodes = "1 node" if job.nodes == 1 else f"{job.nodes} nodes"
    ranks = "1 rank" if job.ranks_per_node == 1 else f"{job.ranks_per_node} ranks"
    return f"{status.run_dir}: {job.kind}, job {job.job_id or '-'}, {nodes} x {ranks}"


def _describe_state(status: RunStatus) -> str:
    text, queued = str(status.state), status.queued
    if queued is None:
        return text
    if queued.is_waiting and queued.starts_at is not None and queued.starts_at > status.at:
        return f"{text}; expected to start in {format_seconds(queued.starts_at - status.at)}"
    if queued.nodes and not status.state.is_over and not queued.is_waiting:
        return f"{text}; on {queued.nodes} of partition {queued.partition}"
    return text


def _describe_progress(gauges: Gauges, job: Job | None) -> str:
    if gauges.step is None:
        return "none taken yet" if gauges.max_steps else ""
    parts = [f"{gauges.step}" + (f" of {gauges.max_steps}" if gauges.max_steps else "")]
    if gauges.loss is not None:
        parts.append(f"loss {gauges.loss:.4f}")
    if gauges.tokens_per_second is not None:
        counted = "examples or targets" if job and job.kind == "finetune" else "tokens"
        parts.append(f"{gauges.tokens_per_second:,.0f} {counted}/s")
    if gauges.validation_loss is not None:
        validation = f"validation loss {gauges.validation_loss:.4f}"
        if gauges.bits_per_byte is not None:
            validation += f", {gauges.bits_per_byte:.4f} bits per byte"
        parts.append(f"{validation} at step {gauges.validation_step}")
    return "; ".join(parts)


def _describe_time_left(status: RunStatus) -> str:
    parts = []
    if status.seconds_to_end is not None:
        parts.append(f"about {format_seconds(status.seconds_to_end)} of steps")
    if status.seconds_to_limit is not None:
        parts.append(f"{format_seconds(status.seconds_to_limit)} to the limit of this start")
    return "; ".join(parts)


def _describe_restarts(status: RunStatus) -> str:
    return "" if status.job is None or not status.starts else str(status.restarts)


def _describe_heartbeats(status: RunStatus) -> str:
    beats = status.gauges.heartbeats
    if beats is None or status.state.is_over:
        return ""
    ranks = "1 rank" if beats.ranks == 1 else f"{beats.ranks} ranks"
    late = "; a rank has missed its deadline" if beats.is_late else ""
    return f"{format_seconds(beats.oldest_age_seconds)} ago, the oldest of {ranks}{late}"


def _describe_checkpoint(status: RunStatus) -> str:
    step = status.gauges.newest_checkpoint
    return "" if step is None else f"step {step}, {RunDir(status.gauges.run_dir).checkpoint(step)}"
