"""How far a run has come, by what is on its disk: the one thing that tells whether another start is worth it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from framework.checkpoint.manifest import load_manifest
from framework.durable import size_of
from framework.errors import CheckpointError, ConfigError
from framework.run_dir import RunDir
from launch.slurm.job import Job, JobDir

if TYPE_CHECKING:
    from framework.config import Config


def read_progress(job_dir: JobDir, job: Job) -> int | None:
    """A number that grows when a start was not in vain: the newest whole checkpoint's step; None if there is nothing yet.

    A fine-tuning counts the steps of all its folds, a preparation its finished shards, a part of one the bytes that it has
    tokenized. A benchmark has none.
    """
    if job.kind == "train":
        return newest_step(RunDir(job_dir.run))
    if job.kind == "finetune":
        runs = [job_dir.run, *(entry for entry in job_dir.run.iterdir() if entry.is_dir())]
        return sum(newest_step(RunDir(run)) or 0 for run in runs) or None
    if job.kind == "prepare":
        return _count_shards(job) or None
    return None


def newest_step(run_dir: RunDir) -> int | None:
    """Step of the newest checkpoint whose files are all there in their full size; hashes are left to the start itself."""
    for step in reversed(run_dir.checkpoint_steps()):
        folder = run_dir.checkpoint(step)
        try:
            manifest = load_manifest(folder)
        except CheckpointError:
            continue
        if all(size_of(folder / name) == entry.size_bytes for name, entry in manifest.files.items()):
            return step
    return None


def read_stop(job: Job) -> int | None:
    """At which step the user wants a training to stop; None if at none before its last."""
    if job.kind != "train":
        return None
    with suppress(ConfigError):  # then its ranks have refused it as well
        return _config(job).train.stop_at_step
    return None


def shards_dir(job: Job) -> Path:
    """Where a preparation writes.

    Raises:
        ConfigError: the config that was submitted cannot be read any more.
    """
    return job.directory / _config(job).data.shards_dir


def _config(job: Job) -> Config:
    from framework.config import load_config

    return load_config(Path(job.command[1]), [word for word in job.command[2:] if "=" in word and word[0] != "-"])


def _count_shards(job: Job) -> int:
    folder = shards_dir(job)
    part = next((word.removeprefix("--part=") for word in job.command[2:] if word.startswith("--part=")), None)
    if part is not None:
        from framework.data.parts_folder import PartsFolder

        return size_of(PartsFolder(folder).log(int(part.partition("/")[0]))) or 0
    return sum(1 for _ in folder.glob("**/*.tar")) if folder.is_dir() else 0
