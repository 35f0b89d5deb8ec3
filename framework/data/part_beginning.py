"""How parts come to one plan and one tokenizer: whoever is first makes both, and the others wait.

The folder's lock is held meanwhile. A process that dies frees it, and one of those that wait goes on in its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from framework.config.schema import Config
from framework.data.beginning import train_tokenizer
from framework.data.cut import Cut, PartNumber
from framework.data.documents import BATCH_BYTES
from framework.data.journal import Journal, Settings, refuse_foreign_files
from framework.data.parts_folder import PartsFolder, PartsPlan
from framework.data.prepare_progress import PrepareProgress
from framework.data.tokenizer import Tokenizer
from framework.durable import only_one_writer
from framework.errors import ShardError, WaitError

_SECONDS_BETWEEN_LOOKS = 0.5


class PartBeginning:
    """What one part wants to do, and how it finds whether the others want the same."""

    def __init__(
        self, config: Config, part: PartNumber, cut: Cut, settings: Settings, pretrained: Tokenizer | None
    ) -> None:
        self._config = config
        self._part = part
        self._cut = cut
        self._settings = settings
        self._pretrained = pretrained
        self._parts = PartsFolder(config.data.shards_dir.expanduser())

    def agreed_plan(self) -> PartsPlan | None:
        """The plan that this part agrees with; None if there is none yet.

        Raises:
            ShardError: it is one for something else, and what differs.
        """
        plan = self._parts.load_plan()
        if plan is None:
            return None
        plan.refuse_other(self._parts.shards_dir, self._settings, self._part.of)
        if (plan.cut, plan.batch_bytes) != (self._cut, BATCH_BYTES):
            raise ShardError(
                f"the parts of data.shards_dir {self._parts.shards_dir} were cut otherwise: by another version of zerostream, "
                "or from a text that has changed",
                fix=f"use one version and one text for all parts, or remove {self._parts.path} and begin them again",
            )
        return plan

    def wait_for_plan(
        self,
        lock: Path,
        *,
        is_finished: Callable[[], bool],
        progress: PrepareProgress | None,
        patience_seconds: float,
    ) -> PartsPlan | None:
        """Makes the plan with the tokenizer, or waits for who makes it; None if the shards are finished meanwhile.

        Args:
            lock: of the folder.
            is_finished: asked with the lock held, before a plan is made.
            progress: is told that it waits, and how far training the tokenizer has come.
            patience_seconds: to wait at most.

        Raises:
            WaitError: there was no plan after ``patience_seconds``.
            ShardError: as ``agreed_plan``; or ``prepare`` without parts has begun in the folder.
            SourceError, TokenizerError, StorageError: as in training the tokenizer.
        """
        deadline = time.monotonic() + patience_seconds
        held = ShardError(f"{lock} is held by another process", fix="wait for it")
        while (plan := self.agreed_plan()) is None:
            self._refuse_begun_alone()
            try:
                with only_one_writer(lock, refusal=held):
                    if is_finished():
                        return None
                    self._make_plan(progress)
            except ShardError as error:
                if error is not held:
                    raise
                self._wait(lock, deadline, patience_seconds, progress)
        return plan

    def _make_plan(self, progress: PrepareProgress | None) -> None:
        if self.agreed_plan() is not None:  # made since we looked
            return
        self._refuse_begun_alone()
        tokenizer = self._pretrained or train_tokenizer(self._config, progress)
        plan = PartsPlan(self._part.of, self._settings, tokenizer.fingerprint, BATCH_BYTES, list(self._cut.owners))
        self._parts.save_plan(plan, tokenizer)

    def _refuse_begun_alone(self) -> None:
        folder = self._parts.shards_dir
        journal = Journal.load(folder)
        if self._parts.load_plan() is not None:  # then it is the journal of the merge
            return
        if journal is not None:
            raise ShardError(
                f"data.shards_dir {folder} was begun without --part",
                fix=f"run it without --part, it goes on; or remove {folder}",
            )
        refuse_foreign_files(folder)

    def _wait(self, lock: Path, deadline: float, patience_seconds: float, progress: PrepareProgress | None) -> None:
        if time.monotonic() >= deadline:
            raise WaitError(
                f"part {self._part} has waited {patience_seconds:.0f} s for the tokenizer, and a process still holds {lock}",
                fix="look what that process does; then run the same command again",
            )
        if progress is not None:
            progress(phase="waiting", documents=0, text_bytes=0, total_bytes=None)
        time.sleep(_SECONDS_BETWEEN_LOOKS)
