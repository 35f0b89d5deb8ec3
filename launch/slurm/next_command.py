"""The command that makes sense next, given how a run is."""

from __future__ import annotations

import shlex
from pathlib import Path

from launch.slurm.job import Job
from launch.slurm.state import ALIVE, State


def typed(command: str, *words: object) -> str:
    """A command of zerostream to paste into a shell: ``typed("logs -f", run_dir)``."""
    return f"zerostream {command} {shlex.join(map(str, words))}"


def next_command(run_dir: Path, job: Job | None, state: State, step: int | None) -> str:
    """One line for a shell, or what to wait for."""
    if job is None:
        return _of_local_run(run_dir, state)
    if state.name in ALIVE:
        return typed("logs -f", run_dir)
    if state.name == "finished":
        return _of_finished_job(job, run_dir)
    if state.name == "unknown":
        return f"{typed('status', run_dir)}, when SLURM answers again"
    if state.name in ("cancelled", "stopped"):
        return typed("resubmit", run_dir)
    return f"{typed('logs', run_dir)}, then {typed('resubmit', run_dir)}"


def _of_local_run(run_dir: Path, state: State) -> str:
    if state.name == "finished":
        return typed("generate", run_dir)
    return typed("board", run_dir) if state.name in ALIVE else "the command that started it, once more"


def _of_finished_job(job: Job, run_dir: Path) -> str:
    if job.kind == "train":
        return typed("generate", run_dir)
    if job.kind == "finetune":
        return typed("predict", run_dir)
    if job.kind == "prepare":
        return "zerostream submit with the same config: its shards are ready"
    return typed("logs", run_dir)
