"""Saves, chooses and retains the checkpoints of one run. All ranks call everything here together.

The life of a save::

    step-00000100.tmp/        rank 0 makes it; a stale one is removed
      every rank writes       engine part, random state; rank 0 the full weights
      every rank hashes       its share of the files, and syncs them
      rank 0 writes           manifest.json, syncs file and folder
    step-00000100/            one rename: from here on it exists
    older ones go             beyond checkpoint.keep
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from framework.checkpoint.manifest import (
    ENGINE_FOLDER,
    MANIFEST_NAME,
    WEIGHTS_NAME,
    CheckpointManifest,
    sync_and_describe,
    verify,
)
from framework.config import Config, identity_fingerprint
from framework.durable import storage_errors, sync_folder
from framework.engine import Engine, World
from framework.errors import CheckpointError, StorageError
from framework.run_dir import RunDir

# How torch's writer says that the file system refused; it keeps the cause to itself.
_TORCH_WRITER_SIGNS = ("PytorchStreamWriter", "iostream", "unexpected pos")


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        config: of the run.
        data_fingerprint: of the shards it reads.
        world: the ranks.
    """

    def __init__(self, config: Config, data_fingerprint: str, world: World) -> None:
        self._config = config
        self._run_dir = RunDir(config.run_dir)
        self._data_fingerprint = data_fingerprint
        self._world = world

    def save(self, step: int, engine: Engine, *, tokens: int) -> Path:
        """Saves the state after ``step`` steps and ``tokens`` targets, then removes what ``checkpoint.keep`` leaves out.

        Raises:
            StorageError: on all ranks, when any of them cannot write; older checkpoints are untouched.
        """
        target = self._run_dir.checkpoint(step)
        temporary = target.with_name(target.name + ".tmp")
        self._world.from_main(lambda: _make_empty(temporary))
        self._save_engine(engine, temporary)
        weights = engine.weights()
        self._world.together(lambda: self._write_own_files(temporary, weights))
        names = self._world.from_main(
            lambda: sorted(str(p.relative_to(temporary)) for p in temporary.rglob("*") if p.is_file())
        )
        mine = names[self._world.rank :: self._world.world_size]
        described = self._world.together(lambda: sync_and_describe(temporary, mine))
        files = {name: entry for part in described for name, entry in part.items()}
        self._world.from_main(lambda: self._commit(step, tokens, temporary, dict(sorted(files.items()))))
        return target

    def newest_verified(self) -> CheckpointManifest | None:
        """The newest checkpoint whose every file verifies; rank 0 looks, all ranks get the same answer.

        Raises:
            CheckpointError: there are checkpoints, but none verifies; starting from scratch would lose the run.
        """
        return self._world.from_main(lambda: find_newest_verified(self._run_dir))

    def load(self, manifest: CheckpointManifest, engine: Engine) -> None:
        """Restores weights, optimizer and random state; the checkpoint has been verified and fits this start."""
        folder = self._run_dir.checkpoint(manifest.step)
        engine.load(folder / ENGINE_FOLDER)
        state = torch.load(folder / _rank_name(self._world.rank), weights_only=True)
        torch.set_rng_state(state["cpu"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"])

    def _save_engine(self, engine: Engine, folder: Path) -> None:
        refusal: StorageError | None = None
        try:
            with _writing(folder):
                engine.save(folder / ENGINE_FOLDER)
        except StorageError as error:  # the others must hear of it before they go into the next collective
            refusal = error
        self._world.together(lambda: _raise(refusal))

    def _write_own_files(self, folder: Path, weights: dict[str, torch.Tensor] | None) -> None:
        with _writing(folder):
            cuda = torch.cuda.get_rng_state() if self._world.device.type == "cuda" else None
            torch.save({"cpu": torch.get_rng_state(), "cuda": cuda}, folder / _rank_name(self._world.rank))
            if weights is not None:  # docs/decisions/0005
                save_file(weights, folder / WEIGHTS_NAME, metadata={"format": "pt"})

    def _commit(self, step: int, tokens: int, temporary: Path, files: dict[str, Any]) -> None:
        engine, target = self._config.engine, self._run_dir.checkpoint(step)
        manifest = CheckpointManifest(
            step=step,
            cursor=step * engine.global_batch_size,
            tokens=tokens,
            world_size=self._world.world_size,
            engine_kind=engine.kind,
            zero_stage=engine.zero_stage if engine.kind == "deepspeed" else 0,
            precision=engine.precision,
            identity_fingerprint=identity_fingerprint(self._config),
            data_fingerprint=self._data_fingerprint,
            files=files,
        )
        with storage_errors(temporary):
            manifest.save(temporary)
            for folder in {temporary, *(path for path in temporary.rglob("*") if path.is_dir())}:
                sync_folder(folder)
            if target.exists():  # a checkpoint of this step that did not verify, or this run would have begun there
                shutil.rmtree(target)
            temporary.rename(target)
            sync_folder(target.parent)
        self._retain(step)

    def _retain(self, newest: int) -> None:
        """Keeps the newest ``checkpoint.keep``; later ones did not verify, or this run would have begun there."""
        steps = self._run_dir.checkpoint_steps()
        abandoned = [step for step in steps if step > newest]
        older = [step for step in steps if step <= newest][: -self._config.checkpoint.keep]
        for step in older + abandoned:
            folder = self._run_dir.checkpoint(step)
            # Without its manifest a folder is no checkpoint: a removal that is cut short leaves none that looks whole.
            (folder / MANIFEST_NAME).unlink(missing_ok=True)
            # What cannot be removed now (a file held open over NFS) is no reason to lose a run that has just saved.
            shutil.rmtree(folder, ignore_errors=True)


def find_newest_verified(run_dir: RunDir) -> CheckpointManifest | None:
    """The newest checkpoint whose every file verifies; None when the run has none at all. No collective.

    Raises:
        CheckpointError: there are checkpoints, but none verifies.
    """
    problems = []
    for step in reversed(run_dir.checkpoint_steps()):
        try:
            return verify(run_dir.checkpoint(step))
        except CheckpointError as error:
            problems.append(error.cause)
    if problems:
        raise CheckpointError(
            f"no checkpoint below {run_dir.checkpoints} verifies: {problems[0]}",
            fix=f"restore one from a backup, or remove {run_dir.checkpoints} to start from the beginning",
        )
    return None


def _rank_name(rank: int) -> str:
    return f"rank-{rank:05d}.pt"


def _make_empty(folder: Path) -> None:
    with storage_errors(folder):
        for stale in folder.parent.glob("step-*.tmp"):
            shutil.rmtree(stale)
        (folder / ENGINE_FOLDER).mkdir(parents=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """``storage_errors``, also for serialisers that hide the file system's refusal in an error of their own."""
    with storage_errors(folder):
        try:
            yield
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error)) from error
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _TORCH_WRITER_SIGNS):
                raise
            raise OSError(errno.EIO, f"torch could not write it, the disk may be full ({error})") from error


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error
