"""Which start of which job this process belongs to, as SLURM's variables and the batch script say it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from framework.durable import storage_errors, write_durably
from framework.errors import UserError
from launch.slurm.job import JobDir

BATCH_PROCESS = "ZEROSTREAM_BATCH_PID"


@dataclass(frozen=True)
class Start:
    """One start of a job: SLURM counts them from 0 and keeps the job's id when it puts a job back into the queue."""

    job_id: str
    """``ARRAY_TASK`` for the task of an array."""
    restart: int

    @property
    def name(self) -> str:
        return f"{self.job_id}-{self.restart}"


def this_start() -> Start:
    """From SLURM's variables.

    Raises:
        UserError: this process was not started by SLURM.
    """
    job = os.environ.get("SLURM_JOB_ID")
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if not job:
        raise UserError(
            "SLURM_JOB_ID is not set", fix="leave this command to the batch script that `zerostream submit` writes"
        )
    job_id = f"{array}_{task}" if array and task else job
    return Start(job_id, int(os.environ.get("SLURM_RESTART_COUNT") or 0))


def announce(job_dir: JobDir, start: Start) -> None:
    """From now on this is the run's current start: agents of an older one, on nodes that SLURM has lost, end themselves.

    Raises:
        StorageError: the file system refuses.
    """
    with storage_errors(job_dir.current):
        job_dir.current.parent.mkdir(parents=True, exist_ok=True)
    write_durably(job_dir.current, json.dumps(asdict(start)).encode())


def current_start(job_dir: JobDir) -> Start | None:
    """The newest start that was announced; None if there is none that can be read."""
    try:
        return Start(**json.loads(job_dir.current.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def append_line(path: Path, text: str) -> None:
    """Adds a line to a log in one write; a file system that refuses loses a line, not the run."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, (text + "\n").encode())
        finally:
            os.close(descriptor)
    except OSError:
        pass
