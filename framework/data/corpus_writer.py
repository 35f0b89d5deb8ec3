"""Documents, given in their order with their tokens, to the shards and the journal of a folder.

Whoever tokenized them, the shards come out the same: this is the only place where shards are cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt

from framework.config.schema import Config
from framework.data.documents import Document, SourceFingerprint
from framework.data.journal import FinishedShard, Journal
from framework.data.manifest import SPLITS, Split
from framework.data.shards import ShardWriter, shard_name
from framework.errors import ShardError

AnyDocument = TypeVar("AnyDocument", bound=Document)


def changed_text(since: str, folder: Path) -> ShardError:
    """The refusal of a folder whose text is another now; ``since`` says what happened before it changed."""
    return ShardError(
        f"the text has changed since {since}",
        fix=f"choose another data.shards_dir, or remove {folder} and prepare again",
    )


class CorpusWriter:
    """Writes every shard that the journal does not hold.

    Each document passes ``not_yet_written``, and those that it returns are given to ``add``, all in document order.
    """

    def __init__(self, config: Config, folder: Path, journal: Journal, dtype: str) -> None:
        self._held = {split: _HeldText(journal, split, folder) for split in SPLITS}
        self._writers = {split: _SplitWriter(config, folder, journal, split, dtype) for split in SPLITS}
        self._fingerprint = SourceFingerprint()

    def not_yet_written(self, documents: Iterable[AnyDocument]) -> list[AnyDocument]:
        """Of the next documents, those that stand in no finished shard.

        Raises:
            ShardError: a finished shard holds other text.
        """
        fresh = []
        for document in documents:
            self._fingerprint.add(document)
            if not self._held[document.split].holds(document):
                fresh.append(document)
        return fresh

    def add(self, document: Document, tokens: npt.NDArray[Any]) -> None:
        """Writes one document: its tokens, [tokens] of the shards' dtype with end-of-text last.

        Raises:
            StorageError: the file system refuses.
        """
        self._writers[document.split].add(document, tokens)

    def finish(self) -> str:
        """Closes the last shards; returns the source fingerprint of all documents.

        Raises:
            ShardError: finished shards hold more documents than there were.
            StorageError: the file system refuses.
        """
        for split in SPLITS:
            self._held[split].refuse_rest()
        for split in SPLITS:
            self._writers[split].finish()
        return self._fingerprint.hexdigest()

    def abort(self) -> None:
        """Removes the shards that are open, for when something has failed; after ``finish`` there are none."""
        for split in SPLITS:
            self._writers[split].abort()


class _SplitWriter:
    """Cuts one split into shards at document boundaries, and journals each."""

    def __init__(self, config: Config, folder: Path, journal: Journal, split: Split, dtype: str) -> None:
        self._folder = folder
        self._journal = journal
        self._split: Split = split
        self._dtype = dtype
        self._shard_tokens = config.data.shard_tokens
        self._index = sum(shard.entry.split == split for shard in journal.finished)
        self._shard: ShardWriter | None = None
        self._text = hashlib.sha256()

    def add(self, document: Document, tokens: npt.NDArray[Any]) -> None:
        if self._shard is None:
            self._shard = ShardWriter(self._folder, shard_name(self._split, self._index), self._split, self._dtype)
        self._shard.add(tokens, document.text_bytes)
        self._text.update(document.digest)
        if self._shard.tokens >= self._shard_tokens:
            self.finish()

    def finish(self) -> None:
        """Closes and journals the shard that is open, if one is."""
        if self._shard is None:
            return
        entry = self._shard.close()
        self._journal.append(FinishedShard(entry, self._text.hexdigest()))
        self._shard, self._text = None, hashlib.sha256()
        self._index += 1

    def abort(self) -> None:
        if self._shard is not None:
            self._shard.abort()


class _HeldText:
    """Recognises the documents of a split that stand in finished shards, and that they are still the same."""

    def __init__(self, journal: Journal, split: Split, folder: Path) -> None:
        self._folder = folder
        self._shards = [shard for shard in journal.finished if shard.entry.split == split]
        self._documents = 0
        self._text = hashlib.sha256()

    def holds(self, document: Document) -> bool:
        """Whether ``document``, the split's next one, stands in a finished shard.

        Raises:
            ShardError: the shard held other text.
        """
        if not self._shards:
            return False
        self._text.update(document.digest)
        self._documents += 1
        shard = self._shards[0]
        if self._documents == shard.entry.documents:
            if self._text.hexdigest() != shard.text_digest:
                raise changed_text(f"{shard.entry.name} was written", self._folder)
            del self._shards[0]
            self._documents, self._text = 0, hashlib.sha256()
        return True

    def refuse_rest(self) -> None:
        """At the end of the text.

        Raises:
            ShardError: there were fewer documents than finished shards hold.
        """
        if self._shards:
            raise changed_text(f"{self._shards[0].entry.name} was written", self._folder)
