"""Names every file of a submitted job, and what is written down about it. Nothing else builds a path below ``RUN_DIR/slurm``.

A job array keeps its job in ``SWEEP_DIR/slurm``. Each of its tasks has a run directory of its own, ``SWEEP_DIR/task-000`` and so
on, with a ``slurm`` folder like any other run's: whoever looks at a task need not know of the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from framework.durable import storage_errors, write_durably
from framework.errors import RunDirError
from framework.run_dir import RunDir
from launch.slurm.history import History
from launch.slurm.profile import Profile

JobKind = Literal["train", "finetune", "prepare", "benchmark"]


class Job(BaseModel):
    """What was asked of SLURM, enough to ask again: ``job.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: JobKind
    name: str
    """What the queue shows."""
    command: tuple[str, ...]
    """Arguments of ``zerostream``, or a benchmark's module and arguments; the config's path is absolute. A task's own follow."""
    profile: Profile
    nodes: int
    ranks_per_node: int
    time_limit: str
    submitter: str
    """Interpreter for what talks to SLURM on the first node, outside any container."""
    directory: Path
    """Working directory: relative paths in the config count from here."""
    job_id: str | None = None
    """The newest one, ``ARRAY_TASK`` for a task; None until SLURM has taken the job."""
    script: Path | None = None
    """The batch script as sbatch was given it, which tells the job from others of the same id on another cluster."""
    tasks: tuple[tuple[str, ...], ...] | None = None
    """Further arguments of each task of an array, task 0 first; None for a job that is no array."""
    array_parallelism: int | None = None
    """How many tasks may run at a time; None for all."""
    array: str | None = None
    """Of a task: the run directory of its array."""
    follow_up: bool = False
    """Whether this job took over from another one, because the site lets no job go back into the queue."""
    excluded_nodes: tuple[str, ...] = ()
    """Nodes that failed this job; beside those of the profile."""
    submitted_at: float | None = None
    """Unix time."""

    @property
    def ranks(self) -> int:
        """World size."""
        return self.nodes * self.ranks_per_node


@dataclass(frozen=True)
class JobDir:
    """The ``slurm`` folder of a run directory."""

    run: Path

    @property
    def path(self) -> Path:
        return RunDir(self.run).slurm

    @property
    def job(self) -> Path:
        """``Job`` as JSON: its presence is what makes a run a submitted one."""
        return self.path / "job.json"

    @property
    def config(self) -> Path:
        """A copy of the config as the user gave it."""
        return self.path / "config.yaml"

    @property
    def code(self) -> Path:
        """A snapshot of zerostream, so that later edits do not change a queued run."""
        return self.path / "code"

    @property
    def script(self) -> Path:
        """What sbatch was given."""
        return self.path / "script.sh"

    @property
    def history(self) -> History:
        return History(self.path / "history.jsonl")

    @property
    def decision_lock(self) -> Path:
        """Held by who decides what comes after a start."""
        return self.path / "afterwards.lock"

    @property
    def all_logs(self) -> Path:
        """One folder for each start, and SLURM's own words."""
        return self.path / "logs"

    @property
    def cancel_request(self) -> Path:
        """Its presence says that the user wants no further start."""
        return self.path / "cancelled"

    @property
    def current(self) -> Path:
        """Which start is the run's newest (``launch.slurm.context``)."""
        return self.path / "rendezvous" / "current.json"

    def signals(self, job_id: str, restart: int) -> Path:
        """Signals that the first node's agent was sent, one name a line."""
        return self.path / "rendezvous" / f"{job_id}-{restart}.signals"

    def health(self, job_id: str, restart: int, node: int) -> Path:
        """What one node found out about itself before a start, as JSON."""
        return self.logs(job_id, restart) / f"health-{node:05d}.json"

    def all_health(self, job_id: str, restart: int) -> list[Path]:
        """What the nodes of one start have found out."""
        return sorted(self.logs(job_id, restart).glob("health-*.json"))

    def logs(self, job_id: str, restart: int) -> Path:
        """Folder of one start's logs; ``restart`` counts from 0."""
        return self.all_logs / f"{job_id}-{restart}"

    def batch_log(self, job_id: str, restart: int) -> Path:
        """The batch script, all agents, and rank 0."""
        return self.logs(job_id, restart) / "batch.out"

    def node_log(self, job_id: str, restart: int, node: int) -> Path:
        """What the agent of one node said."""
        return self.logs(job_id, restart) / f"node-{node:05d}.out"

    def rank_log(self, job_id: str, restart: int, rank: int) -> Path:
        """Standard output and error of one rank."""
        return self.logs(job_id, restart) / f"rank-{rank:05d}.out"

    def rendezvous(self, job_id: str, restart: int) -> Path:
        """Where the first node says on which port it listens."""
        return self.path / "rendezvous" / f"{job_id}-{restart}.json"

    def exit_code(self, job_id: str, restart: int) -> Path:
        """How the ranks of one start ended, by the agent of the first node: also when the batch script did not live to see it."""
        return self.path / "rendezvous" / f"{job_id}-{restart}.exit"

    def task(self, number: int) -> JobDir:
        """The run directory of one task of this array."""
        return JobDir(self.run / f"task-{number:03d}")

    def tasks(self) -> list[JobDir]:
        """All tasks of this array by number; empty for a job that is none."""
        return [self.task(number) for number in range(len(self.read().tasks or ()))]

    def starts(self) -> list[Path]:
        """Log folders of all starts, oldest first: by the history, as ids begin anew on a new cluster."""
        folder = self.all_logs
        found = [entry for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
        begun = (event for event in self.history.read() if event.event in ("started", "cancelled", "gave_up"))
        times = {f"{event.job_id}-{event.restart}": event.time for event in begun}
        # A start on its way, or on a full disk, has not written that it began.
        return sorted(found, key=lambda entry: times.get(entry.name) or entry.stat().st_mtime)

    def read(self) -> Job:
        """The job of this run directory.

        Raises:
            RunDirError: it was never submitted, or ``job.json`` is damaged.
        """
        try:
            return Job.model_validate_json(self.job.read_bytes())
        except FileNotFoundError:
            raise RunDirError(
                f"{self.run} was not submitted to SLURM ({self.path.name}/{self.job.name} is missing)",
                fix="name the run directory that `zerostream submit` has printed",
            ) from None
        except (OSError, ValidationError) as error:
            reason = " ".join(str(error).split())
            raise RunDirError(f"{self.job} cannot be read: {reason}", fix="submit the run again") from None

    def write(self, job: Job) -> None:
        """Writes ``job.json`` whole or not at all.

        Raises:
            StorageError: the file system refuses.
        """
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_durably(self.job, (json.dumps(job.model_dump(mode="json"), indent=1) + "\n").encode())
