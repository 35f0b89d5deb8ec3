"""The first thing of every start, on the first node, before any rank: is this start wanted, and what must its ranks know?

``python -m launch.slurm.start RUN_DIR`` prints shell lines for the batch script. Exit codes: 0 go on; 3 this start is not wanted,
and the history says why.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from framework.durable import storage_errors
from framework.errors import EXIT_FAILED, ZerostreamError
from launch.slurm import scheduler
from launch.slurm.afterwards import tell_array
from launch.slurm.context import Start, announce, this_start
from launch.slurm.decision import has_ended, starts_in_vain
from launch.slurm.job import JobDir
from launch.slurm.progress import read_progress

EXIT_NOT_WANTED = 3


def begin(job_dir: JobDir, start: Start, nodes: tuple[str, ...]) -> str | None:
    """Writes the start into the history; None, or why it is not wanted.

    Raises:
        ZerostreamError: run directory or file system do not answer.
    """
    job, history = job_dir.read(), job_dir.history
    _forget_namesake(job_dir, start)
    step = read_progress(job_dir, job)
    _tell_the_end_of_the_last(job_dir, step)
    with storage_errors(job_dir.path):
        job_dir.signals(start.job_id, start.restart).unlink(missing_ok=True)
    events = history.read()
    here = {"job_id": start.job_id, "restart": start.restart, "step": step}
    if job_dir.cancel_request.exists():
        history.append("cancelled", **here, reason="cancelled by the user")  # type: ignore[arg-type]
        tell_array(job)
        return "the run was cancelled"
    in_vain, most = starts_in_vain(events), job.profile.max_starts_without_progress
    if in_vain >= most:
        reason = f"{in_vain} starts in a row ended without a newer checkpoint"
        history.append("gave_up", **here, reason=reason)  # type: ignore[arg-type]
        tell_array(job)
        return reason
    history.append("started", **here, nodes=nodes)  # type: ignore[arg-type]
    announce(job_dir, start)
    return None


def _forget_namesake(job_dir: JobDir, start: Start) -> None:
    """On a new cluster ids begin anew: what an older start of this name has left would be taken for this one's."""
    name = (start.job_id, start.restart)
    with storage_errors(job_dir.path):
        for path in (job_dir.exit_code(*name), job_dir.rendezvous(*name), *job_dir.all_health(*name)):
            path.unlink(missing_ok=True)


def _tell_the_end_of_the_last(job_dir: JobDir, step: int | None) -> None:
    """A start that was killed with its batch script could not say that it ended."""
    events = job_dir.history.read()
    number = max((number for number, event in enumerate(events) if event.event == "started"), default=None)
    if number is None:
        return
    started = events[number]
    if started.job_id is None or has_ended(events[number:], Start(started.job_id, started.restart)):
        return
    told = _signals(job_dir.signals(started.job_id, started.restart))
    reason = f"killed after {', '.join(told)}" if told else "killed without a word, or its node was lost"
    job_dir.history.append(
        "ended",
        job_id=started.job_id,
        restart=started.restart,
        step=step,
        reason=reason,
        is_excused="SIGTERM" in told,  # preempted or requeued, and too slow to save
    )


def _signals(path: Path) -> list[str]:
    try:
        return list(dict.fromkeys(path.read_text(encoding="utf-8").split()))
    except OSError:
        return []


def main(arguments: Sequence[str]) -> int:
    """As the module says."""
    job_dir, start = JobDir(Path(arguments[0])), this_start()
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    try:
        nodes = scheduler.expand_nodes(os.environ.get("SLURM_JOB_NODELIST", ""))
        refusal = begin(job_dir, start, nodes)
        if refusal is not None:
            print(f"zerostream: this start is not wanted: {refusal}", file=sys.stderr, flush=True)
            return EXIT_NOT_WANTED
        for name, value in _variables(start).items():
            print(f"export {name}={shlex.quote(value)}")
    except ZerostreamError as error:
        print(f"zerostream: {error}", file=sys.stderr, flush=True)
        return EXIT_FAILED
    return 0


def _variables(start: Start) -> dict[str, str]:
    """SLURM_JOB_END_TIME came with SLURM 23; ranks read it so as to save before the limit."""
    if os.environ.get("SLURM_JOB_END_TIME"):
        return {}
    try:
        seen = scheduler.read_job(start.job_id)
    except ZerostreamError as error:  # the signal before the limit comes all the same
        print(f"zerostream: {error}", file=sys.stderr, flush=True)
        return {}
    return {} if seen is None or seen.ends_at is None else {"SLURM_JOB_END_TIME": str(int(seen.ends_at))}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
