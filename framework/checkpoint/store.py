"""Saves, chooses and retains the checkpoints of one run. All ranks call everything here together.

The life of a save::

    step-00000100.tmp/        rank 0 makes it; a stale one is removed
      every rank copies       its share of weights and optimizer to host memory; training goes on from here
      every rank writes       that copy, in the background: hashed, checked to be finite, synced
    all ranks have written    agreed at a later step; rank 0 learns every file's size and hash
      rank 0 writes           manifest.json, in the background, and syncs file and folder
    step-00000100/            one rename: from here on it exists
    others go                 as ``framework.checkpoint.retention`` says

A crash at any moment costs this checkpoint at most. Without ``checkpoint.asynchronous`` the same happens with training held.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from framework.checkpoint.fragments import CheckpointReader, fragment_key, write_fragments
from framework.checkpoint.manifest import MANIFEST_NAME, CheckpointManifest, FileEntry, load_manifest, verify
from framework.checkpoint.retention import Saved, superfluous
from framework.config import Config, identity_fingerprint
from framework.durable import storage_errors, sync_folder
from framework.engine import Engine, World
from framework.errors import CheckpointError
from framework.failpoints import failpoint
from framework.run_dir import RunDir


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
        self._host_copy: dict[str, torch.Tensor] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[FileEntry] | None = None
        self._committing: Future[None] | None = None
        self._commit: Callable[[dict[str, FileEntry]], None] = lambda files: None
        self._candidates: list[int] | None = None
        self._verifying: Future[CheckpointManifest] = Future()
        self.passed_over: list[str] = []
        """Why each checkpoint that is newer than the verified one did not verify."""

    def save(
        self,
        step: int,
        engine: Engine,
        *,
        tokens: int,
        train_loss: float | None = None,
        validation_loss: float | None = None,
    ) -> None:
        """Saves the state after ``step`` steps and ``tokens`` targets; returns when it has been copied.

        The copy takes as much host memory as this rank's share of weights and optimizer, and is kept for the next save.

        Raises:
            StorageError: on all ranks, when the folder cannot be made, or an earlier save has failed on any of them.
            NonFiniteError: as ``advance``.
        """
        self.finish()
        failpoint("save.begin", step=step)
        target = self._run_dir.checkpoint(step)
        temporary = target.with_name(target.name + ".tmp")
        self._world.from_main(lambda: _make_empty(temporary))
        arrays = self._copy_to_host(engine)
        failpoint("save.copy", step=step)
        manifest = self._describe(step, engine, tokens, train_loss, validation_loss)
        self._commit = lambda files: self._make_final(manifest(files), temporary, target)
        self._writing = self._thread.submit(self._write_share, temporary, arrays, step)
        if not self._config.checkpoint.asynchronous:
            self.finish()

    @property
    def is_busy(self) -> bool:
        """Whether this rank is still writing. No collective."""
        pending = self._writing or self._committing
        return pending is not None and not pending.done()

    @property
    def is_pending(self) -> bool:
        """Whether a save has begun and is not yet a checkpoint; the same on all ranks."""
        return self._writing is not None or self._committing is not None

    def advance(self) -> None:
        """Takes a pending save one stage on; called when it ``is_busy`` on no rank, or waits for that.

        Raises:
            StorageError, NonFiniteError: on all ranks, when the save has failed on any; it is given up.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            files = dict(zip(self._file_names(), self._world.together(writing.result), strict=True))
            self._committing = self._thread.submit(lambda: self._commit(files) if self._world.is_main else None)
        elif self._committing is not None:
            committing, self._committing = self._committing, None
            self._world.from_main(committing.result)

    def finish(self) -> None:
        """Waits until a pending save is a checkpoint.

        Raises:
            StorageError, NonFiniteError: as ``advance``.
        """
        while self.is_pending:
            self.advance()

    def begin_verifying(self) -> bool:
        """Whether there is any checkpoint; begins to verify the newest, while the ranks build what it is to fill."""
        self._candidates = self._world.from_main(self._run_dir.checkpoint_steps)
        if self._candidates:
            self._verify(self._candidates[-1])
        return bool(self._candidates)

    def newest_verified(self) -> CheckpointManifest | None:
        """The newest checkpoint whose every file verifies, the same on all ranks; None when ``begin_verifying`` found none.

        Every rank reads its share of the files: one alone would be hours at it where hundreds wrote them. What was passed over
        is told in ``passed_over``.

        Raises:
            CheckpointError: there are checkpoints, but none verifies; starting from scratch would lose the run.
        """
        assert self._candidates is not None, "begin_verifying comes first: without it a used run would begin anew"
        while self._candidates:
            try:
                self._world.together(self._wait_for_own_share)
                return self._verifying.result()
            except CheckpointError as error:
                self.passed_over.append(error.cause)
                self._candidates.pop()
                if self._candidates:
                    self._verify(self._candidates[-1])
        if self.passed_over:
            raise _none_verifies(self._run_dir, self.passed_over)
        return None

    def load(self, manifest: CheckpointManifest, engine: Engine) -> None:
        """Restores weights and optimizer from a verified checkpoint, whoever wrote it.

        Raises:
            CheckpointError: on all ranks, when it lacks something on any.
        """
        failpoint("load", step=manifest.step)
        folder = self._run_dir.checkpoint(manifest.step)
        readers = []  # no result that ranks exchange: open files stay where they are
        self._world.together(lambda: readers.append(CheckpointReader(folder, manifest)))
        engine.restore(readers[0])

    def _verify(self, step: int) -> None:
        folder = self._run_dir.checkpoint(step)
        rank, ranks = self._world.rank, self._world.world_size
        self._verifying = self._thread.submit(verify, folder, share=rank, shares=ranks)

    def _wait_for_own_share(self) -> None:
        """Keeps the result, for it is not to be exchanged: it names the files of all ranks."""
        self._verifying.result()

    def _copy_to_host(self, engine: Engine) -> dict[str, npt.NDArray[np.float32]]:
        on_gpu = self._world.device.type == "cuda"
        copies = {}
        for fragment in engine.fragments():
            key = fragment_key(fragment.kind, fragment.name, fragment.start)
            values = self._host_copy.get(key)
            if values is None:
                values = torch.empty(fragment.values.numel(), dtype=torch.float32, pin_memory=on_gpu)
            copies[key] = values.copy_(fragment.values, non_blocking=True)
        if on_gpu:
            torch.cuda.synchronize()
        self._host_copy = copies
        return {key: values.numpy() for key, values in copies.items()}

    def _write_share(self, folder: Path, arrays: dict[str, npt.NDArray[np.float32]], step: int) -> FileEntry:
        path = folder / self._file_names()[self._world.rank]
        with storage_errors(path):
            return write_fragments(path, arrays, step=step)

    def _file_names(self) -> list[str]:
        ranks = self._world.world_size
        return [f"state-{rank:05d}-of-{ranks:05d}.safetensors" for rank in range(ranks)]

    def _describe(
        self, step: int, engine: Engine, tokens: int, train_loss: float | None, validation_loss: float | None
    ) -> Callable[[dict[str, FileEntry]], CheckpointManifest]:
        """All of the manifest but its files, as things stand now."""
        settings = self._config.engine
        applied_steps, loss_scale = engine.applied_steps, engine.loss_scale
        return lambda files: CheckpointManifest(
            step=step,
            cursor=step * settings.global_batch_size,
            tokens=tokens,
            world_size=self._world.world_size,
            engine_kind=settings.kind,
            zero_stage=settings.zero_stage if settings.kind == "deepspeed" else 0,
            precision=settings.precision,
            applied_steps=applied_steps,
            loss_scale=loss_scale,
            train_loss=train_loss,
            validation_loss=validation_loss,
            identity_fingerprint=identity_fingerprint(self._config),
            data_fingerprint=self._data_fingerprint,
            files=files,
        )

    def _make_final(self, manifest: CheckpointManifest, temporary: Path, target: Path) -> None:
        with storage_errors(temporary):
            failpoint("save.manifest", step=manifest.step)
            manifest.save(temporary)
            sync_folder(temporary)
            if target.exists():  # a checkpoint of this step that did not verify, or this run would have begun there
                shutil.rmtree(target)
            failpoint("save.rename", step=manifest.step)
            temporary.rename(target)
            sync_folder(target.parent)
            failpoint("save.retain", step=manifest.step)
        self._retain(manifest.step)

    def _retain(self, newest: int) -> None:
        """Removes what ``checkpoint.keep`` and its kin leave out, and steps beyond ``newest``: they did not verify."""
        steps = self._run_dir.checkpoint_steps()
        saved = [Saved(step, self._validation_loss(step)) for step in steps if step <= newest]
        for step in superfluous(saved, self._config.checkpoint) + [step for step in steps if step > newest]:
            folder = self._run_dir.checkpoint(step)
            # Without its manifest a folder is no checkpoint: a removal that is cut short leaves none that looks whole.
            (folder / MANIFEST_NAME).unlink(missing_ok=True)
            # What cannot be removed now (a file held open over NFS) is no reason to lose a run that has just saved.
            shutil.rmtree(folder, ignore_errors=True)

    def _validation_loss(self, step: int) -> float | None:
        try:
            return load_manifest(self._run_dir.checkpoint(step)).validation_loss
        except CheckpointError:
            return None


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
        raise _none_verifies(run_dir, problems)
    return None


def _none_verifies(run_dir: RunDir, problems: list[str]) -> CheckpointError:
    return CheckpointError(
        f"no checkpoint below {run_dir.checkpoints} verifies: {problems[0]}",
        fix="restore one from a backup, or start from the beginning with `zerostream train CONFIG --start-over`",
    )


def _make_empty(folder: Path) -> None:
    with storage_errors(folder):
        for stale in folder.parent.glob("step-*.tmp"):
            shutil.rmtree(stale)
        folder.mkdir(parents=True)
