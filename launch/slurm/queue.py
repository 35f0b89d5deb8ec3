"""What SLURM knows of jobs: ``squeue``, and ``sacct`` for those it has forgotten, where there is accounting.

Every question has a deadline, and an answer may be that SLURM could not be asked: whoever looks at a run then still has the run
directory. An id alone names no job, as a new cluster counts from 1 again: its batch script has to be this run directory's.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from launch.slurm.job import Job
from launch.slurm.scheduler import SchedulerError, call

_SECONDS = 10.0
_FIELDS = ("%i", "%T", "%P", "%D", "%V", "%S", "%e", "%N", "%r", "%o")  # the script last: it may be named anyhow
_ENDED = {
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY", "REVOKED",
}  # fmt: skip
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_SACCT_FIELDS = (
    "JobID",
    "State",
    "Partition",
    "NNodes",
    "Submit",
    "Start",
    "End",
    "NodeList",
    "ExitCode",
    "SubmitLine",
)
_SUBMITTED = re.compile(r"\S*sbatch (?:--\S+ )*(.*)")  # as ``launch.slurm.script`` calls it


@dataclass(frozen=True)
class QueuedJob:
    """One job, or one task of an array, as SLURM sees it. Times are unix seconds."""

    job_id: str
    """``12``, or ``12_3`` for a task of an array."""
    state: str
    """SLURM's word, such as ``PENDING``."""
    partition: str = ""
    node_count: int = 0
    submitted_at: float | None = None
    starts_at: float | None = None
    """When it began, or when SLURM expects it to."""
    ends_at: float | None = None
    """When it ended, or when its time is up."""
    nodes: str = ""
    reason: str = ""
    script: str = ""
    """The batch script's path, as sbatch was given it."""

    @property
    def is_waiting(self) -> bool:
        return self.state in _WAITING

    @property
    def has_ended(self) -> bool:
        return self.state in _ENDED


@dataclass(frozen=True)
class Answer:
    """What was found; ``unreachable`` says why SLURM could not be asked."""

    jobs: tuple[QueuedJob, ...] = ()
    unreachable: str | None = None

    def of(self, job: Job) -> list[QueuedJob]:
        """What SLURM still knows of this job: of an array every task; of any other at most one."""
        return [
            found
            for found in self.jobs
            if job.job_id in (found.job_id, found.job_id.partition("_")[0]) and found.script == str(job.script)
        ]


def ask(jobs: Iterable[Job], *, seconds: float = _SECONDS) -> Answer:
    """Asks for these jobs; an array brings all of its tasks. Takes no longer than ``seconds`` for each of two questions."""
    asked = [job for job in jobs if job.job_id is not None]
    wanted = list(dict.fromkeys(job.job_id for job in asked if job.job_id is not None))
    if not wanted:
        return Answer()
    command = ["squeue", "--noheader", "--array", "--states=all", f"--format={'|'.join(_FIELDS)}"]
    try:
        output = call(*command, f"--jobs={','.join(wanted)}", seconds=seconds, environment=_environment())
    except SchedulerError as error:
        if "Invalid job id" not in error.cause:
            return Answer(unreachable=_in_short(error.cause))
        output = ""
    answer = Answer(tuple(parse_squeue(output)))
    if forgotten := list(dict.fromkeys(job.job_id for job in asked if job.job_id is not None and not answer.of(job))):
        answer = Answer((*answer.jobs, *_ask_accounting(forgotten, seconds)))
    return answer


def parse_squeue(text: str) -> list[QueuedJob]:
    """The lines that ``squeue`` prints in the format that ``ask`` wants."""
    found = []
    for line in text.splitlines():
        parts = line.split("|", len(_FIELDS) - 1)
        if len(parts) == len(_FIELDS):
            job_id, state, partition, count, submitted, starts, ends, nodes, reason, script = (
                part.strip() for part in parts
            )
            found.append(
                QueuedJob(
                    job_id,
                    state,
                    partition,
                    _whole(count),
                    _time(submitted),
                    _time(starts),
                    _time(ends),
                    nodes,
                    reason,
                    script,
                )
            )
    return found


def parse_sacct(text: str) -> list[QueuedJob]:
    """The lines that ``sacct --parsable2`` prints; of a job that was requeued, the last one counts."""
    found = {}
    for line in text.splitlines():
        parts = line.split("|", len(_SACCT_FIELDS) - 1)
        if len(parts) == len(_SACCT_FIELDS):
            job_id, state, partition, count, submitted, starts, ends, nodes, code, command = parts
            word = state.split(" ")[0].rstrip("+")  # CANCELLED by 1000
            times = (_time(submitted), _time(starts), _time(ends))
            reason = "" if code in ("", "0:0") else f"exit code {code.partition(':')[0]}"
            named = _SUBMITTED.fullmatch(command)
            script = named[1] if named else ""
            job = QueuedJob(job_id, word, partition, _whole(count), *times, nodes, reason, script)
            found[job_id, script] = job
    return list(found.values())


def _ask_accounting(job_ids: Sequence[str], seconds: float) -> list[QueuedJob]:
    """Nothing where there is no accounting, or one before SLURM 21.08: the controller forgets a job minutes after its end."""
    command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--format={','.join(_SACCT_FIELDS)}"]
    try:
        return parse_sacct(call(*command, f"--jobs={','.join(job_ids)}", seconds=seconds, environment=_environment()))
    except SchedulerError:
        return []


def _in_short(cause: str) -> str:
    """Without the command's arguments, and of several complaints the last one."""
    words = re.sub(r"`(\S+)[^`]*`", r"\1", cause)
    said, colon, complaints = words.partition(": ")
    return f"{said}{colon}{re.split(r'(?:error|fatal): ', complaints)[-1]}"


def _environment() -> dict[str, str]:
    """Times as unix seconds, and none of the user's own defaults for ``squeue``, such as hiding what has ended."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SACCT_"))}
    return {**kept, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"}


def _time(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:  # N/A, NONE, Unknown
        return None
    return value if math.isfinite(value) and value > 0 else None


def _whole(text: str) -> int:
    return int(text) if text.isdigit() else 0
