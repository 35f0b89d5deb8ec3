"""``zerostream submit``: from a config and a cluster's profile to a job in the queue, or a refusal before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launch.slurm.job import Job


@dataclass(frozen=True)
class Request:
    """What the user asked for on the command line; None is what the profile says."""

    config: Path
    cluster: Path
    overrides: tuple[str, ...] = ()
    nodes: int | None = None
    ranks_per_node: int | None = None
    time_limit: str | None = None
    command: str = "train"
    tasks: tuple[tuple[str, ...], ...] | None = None
    """Further arguments of each task of an array: overrides of a sweep, or ``--part K/N``."""
    run_dir: Path | None = None
    """Where the job's files go, if not to the config's run_dir: the folder of a sweep."""


@dataclass(frozen=True)
class Plan:
    """A job that nothing speaks against; nothing has been written or queued yet."""

    job: Job
    run_dir: Path
    """Absolute; ``JobDir(run_dir)`` names the job's files."""
    config: Path
    """The user's config file, to be copied."""


def plan_job(request: Request, *, ask_cluster: bool = True) -> Plan:
    """Everything that can be known before the job is queued. Needs no torch, writes nothing.

    Args:
        request: what is wanted.
        ask_cluster: whether SLURM's commands are there to be asked (a dry run on another machine does without).

    Raises:
        UserError: config, profile, shards, run directory, batch arithmetic or cluster do not fit together.
    """
    raise NotImplementedError


def submit_job(job: Job, run_dir: Path, *, config: Path | None = None, depends_on: str | None = None) -> Job:
    """Writes the job's files, queues it, and returns it with its id; an array's tasks get files of their own.

    Args:
        job: as ``plan_job`` or ``JobDir.read`` gives it.
        run_dir: absolute; of the sweep, for an array.
        config: the user's config file, copied to ``slurm/config.yaml``; None keeps the copy that is there, and the code snapshot.
        depends_on: a job id after whose end, whatever it is, this one may start.

    Raises:
        UserError: SLURM refuses the job; its own words are in the message.
    """
    raise NotImplementedError


def run_submit(request: Request, *, dry_run: bool, as_json: bool) -> None:
    """Plans, submits, and says what comes next; or prints the script of a dry run."""
    raise NotImplementedError
