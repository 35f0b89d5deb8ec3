"""The command that makes sense next, given how a run is."""

from __future__ import annotations

import shlex
from pathlib import Path

from launch.slurm.job import Job
from launch.slurm.state import ALIVE, State


def next_command(run_dir: Path, job: Job | None, state: State, step: int | None) -> str:
    """One line for a shell, or what to wait for."""
    folder = shlex.quote(str(run_dir))
    if job is None:
        return _of_local_run(folder, state)
    if state.name in ALIVE:
        return f"zerostream logs -f {folder}"
    if state.name == "finished":
        return _of_finished_job(job, folder)
    if state.name == "unknown":
        return f"zerostream status {folder}, when SLURM answers again"
    if state.name == "cancelled":
        return f"zerostream resubmit {folder}"
    return f"zerostream logs {folder}, then zerostream resubmit {folder}"


def _of_local_run(folder: str, state: State) -> str:
    if state.name == "finished":
        return f"zerostream generate {folder}"
    return f"zerostream board {folder}" if state.name in ALIVE else "the command that started it, once more"


def _of_finished_job(job: Job, folder: str) -> str:
    if job.kind == "train":
        return f"zerostream generate {folder}"
    if job.kind == "finetune":
        return f"zerostream predict {folder}"
    if job.kind == "prepare":
        return "zerostream submit with the same config: its shards are ready"
    return f"zerostream logs {folder}"
