"""Text to shards: read, split, tokenize, pack, and write so that a kill at any moment loses no finished shard.

    documents ──hash──> train ─────> blocks ──> train-000000.tar, ...
                  └───> validation ─> blocks ──> validation-000000.tar, ...

A document's split is a function of its text, so identical texts never stand on both sides. When it is started again
after a kill, the text is read and hashed again from the beginning, which is fast, and only what stands in no finished
shard is tokenized: the folder ends with the same bytes as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from framework.config.schema import Config
from framework.data.journal import (
    FinishedShard,
    Journal,
    Settings,
    refuse_foreign_files,
    refuse_other_settings,
    settings_fingerprint,
    shard_settings,
)
from framework.data.manifest import MANIFEST_NAME, SPLITS, TOKENIZER_FOLDER, ShardManifest, Split, load_manifest
from framework.data.shards import ShardWriter, shard_name
from framework.data.sources import EMBEDDED_DOCUMENTS, ReadMeter, has_validation_source, open_documents, source_files
from framework.data.tokenizer import TRAINING_TEXT_BYTES, Tokenizer, build_tokenizer, load_tokenizer
from framework.durable import free_bytes, only_one_writer, size_of, storage_errors
from framework.errors import ShardError, SourceError, StorageError, TokenizerError

LOCK_NAME = "prepare.lock"
BATCH_BYTES = 1024 * 1024
"""Text handed to the tokenizer at once: enough for all its threads, little enough to stay in memory."""
BATCHES_AHEAD = 4
SHARD_BYTES_PER_TEXT_BYTE = 0.7
"""Rough need of disk space with 16-bit tokens: 3 to 4 bytes of text become one token, with a margin."""

Phase = Literal["tokenizer", "shards"]


class PrepareProgress(Protocol):
    """Is told how far ``prepare`` has come, after every batch of about 1 MB."""

    def __call__(self, *, phase: Phase, documents: int, text_bytes: int, total_bytes: int | None) -> None:
        """``documents`` and ``text_bytes`` are done so far in ``phase``; ``total_bytes`` is an estimate, if any."""


@dataclass(frozen=True, slots=True)
class _Document:
    text: str
    digest: bytes
    """16 bytes of BLAKE2b of the UTF-8 text."""
    text_bytes: int
    split: Split


@dataclass(frozen=True, slots=True)
class _Batch:
    documents: list[_Document]
    read_bytes: int
    """Of files, when the batch was full."""


def prepare(config: Config, *, progress: PrepareProgress | None = None) -> ShardManifest:
    """Writes the shards of ``config.data`` into ``data.shards_dir`` and returns their manifest.

    Finished shards of the same settings are returned at once; unfinished ones are continued.

    Raises:
        SourceError: the text is missing, empty, unreadable, too little for two splits, or has changed since an
            interrupted run.
        TokenizerError: the tokenizer cannot be loaded.
        ShardError: the folder belongs to other settings, is damaged, or is being written by another process.
        StorageError: the file system refuses, or has too little space; running it again goes on.
    """
    folder = config.data.shards_dir.expanduser()
    pretrained = build_tokenizer(config, ()) if config.tokenizer.kind == "pretrained" else None
    settings = shard_settings(config, pretrained)
    finished = _finished(config, folder, settings)
    if finished is not None:
        return finished
    _refuse_odd_folder(folder, settings)
    _refuse_missing_split(config)
    _refuse_small_disk(config, folder)
    is_new = not folder.exists()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        busy = ShardError(
            f"another `zerostream prepare` is writing into data.shards_dir {folder}",
            fix="wait until it has finished, or choose another data.shards_dir",
        )
        with only_one_writer(folder / LOCK_NAME, refusal=busy):
            return _prepare_locked(config, folder, settings, pretrained, progress)
    finally:
        if is_new:
            with suppress(OSError):
                folder.rmdir()  # which succeeds only where nothing was written


def _prepare_locked(
    config: Config, folder: Path, settings: Settings, pretrained: Tokenizer | None, progress: PrepareProgress | None
) -> ShardManifest:
    finished = _finished(config, folder, settings)  # by a process that held the lock until now
    if finished is not None:
        return finished
    journal, tokenizer = _begin_or_go_on(config, folder, settings, pretrained, progress)
    source_fingerprint = _write_shards(config, folder, journal, tokenizer, progress)
    manifest = ShardManifest(
        tokenizer_fingerprint=tokenizer.fingerprint,
        source_fingerprint=source_fingerprint,
        settings_fingerprint=settings_fingerprint(settings),
        vocab_size=tokenizer.vocab_size,
        token_dtype=tokenizer.token_dtype,
        end_of_text_id=tokenizer.end_of_text_id,
        shards=tuple(shard.entry for shard in journal.finished),
    )
    manifest.save(folder)
    return manifest


# --- What is checked before anything is written ---


def _finished(config: Config, folder: Path, settings: Settings) -> ShardManifest | None:
    if not (folder / MANIFEST_NAME).exists():
        return None
    manifest = load_manifest(folder)
    if manifest.settings_fingerprint != settings_fingerprint(settings):
        journal = Journal.load(folder)
        if journal is not None:
            refuse_other_settings(settings, folder, journal.settings)
        refuse_other_settings(settings, folder, None)
    for entry in manifest.shards:
        if size_of(folder / entry.name) != entry.size_bytes:
            raise ShardError(
                f"shard {folder / entry.name} is missing or not of its manifest's size",
                fix=f"copy it again from where it was prepared, or remove {folder} and prepare again",
            )
    _refuse_changed_text(config, folder, manifest)
    return manifest


def _refuse_changed_text(config: Config, folder: Path, manifest: ShardManifest) -> None:
    """Names and sizes are as they were; files that are newer than the manifest are compared by content."""
    written = (folder / MANIFEST_NAME).stat().st_mtime
    files = [file for split in SPLITS for file in source_files(config, split)]
    if all(file.stat().st_mtime <= written for file in files):
        return
    fingerprint = _SourceFingerprint()
    for document in _read_documents(config, ReadMeter()):
        fingerprint.add(document)
    if fingerprint.hexdigest() != manifest.source_fingerprint:
        raise _changed_text(f"{folder / MANIFEST_NAME} was written", folder)


def _changed_text(since: str, folder: Path) -> ShardError:
    return ShardError(
        f"the text has changed since {since}",
        fix=f"choose another data.shards_dir, or remove {folder} and prepare again",
    )


def _refuse_odd_folder(folder: Path, settings: Settings) -> None:
    journal = Journal.load(folder) if folder.is_dir() else None
    if journal is not None:
        refuse_other_settings(settings, folder, journal.settings)
    elif folder.is_dir():
        refuse_foreign_files(folder)


def _refuse_missing_split(config: Config) -> None:
    """Reads until both splits have a document: unreadable text is refused before a byte is written."""
    seen: set[Split] = set()
    documents = 0
    if has_validation_source(config):
        for split in SPLITS:
            next(open_documents(config, split))
        return
    for document in _read_documents(config, ReadMeter()):
        documents += 1
        seen.add(document.split)
        if len(seen) == len(SPLITS) or config.data.validation_fraction == 0.0:
            break
    fraction = config.data.validation_fraction
    if "validation" not in seen:
        raise SourceError(
            f"none of {documents} documents falls into validation at data.validation_fraction {fraction}",
            fix="raise data.validation_fraction, give more text, or name data.validation_path",
        )
    if "train" not in seen:
        raise SourceError(
            f"all of {documents} documents fall into validation at data.validation_fraction {fraction}",
            fix="lower data.validation_fraction, or give more text",
        )


def _refuse_small_disk(config: Config, folder: Path) -> None:
    if config.data.documents is not None:  # a part of the files, of unknown size
        return
    text_bytes = sum(file.stat().st_size for split in SPLITS for file in source_files(config, split))
    written = sum(size_of(file) or 0 for file in folder.glob("*.tar"))
    need = round(text_bytes * SHARD_BYTES_PER_TEXT_BYTE) - written
    with storage_errors(folder):
        free = free_bytes(folder.absolute())
    if need > free:
        raise StorageError(
            f"data.shards_dir {folder} has {free / 1e6:.1f} MB free, the shards need about {need / 1e6:.1f} MB",
            fix="free space, or choose a data.shards_dir with more",
        )


# --- Beginning, or going on ---


def _begin_or_go_on(
    config: Config, folder: Path, settings: Settings, pretrained: Tokenizer | None, progress: PrepareProgress | None
) -> tuple[Journal, Tokenizer]:
    journal = Journal.load(folder)
    if journal is not None:
        refuse_other_settings(settings, folder, journal.settings)
        journal.keep_whole_shards()
    else:
        refuse_foreign_files(folder)
    tokenizer = pretrained or _stored_tokenizer(folder, journal) or _train_tokenizer(config, progress)
    if journal is None or journal.tokenizer_fingerprint != tokenizer.fingerprint:
        if journal is not None and journal.finished:
            raise _changed_text(f"{journal.finished[-1].entry.name} was written", folder)
        journal = Journal.start(folder, settings, tokenizer.fingerprint)
    tokenizer.save(folder / TOKENIZER_FOLDER)
    _remove_unfinished(folder, journal)
    return journal, tokenizer


def _stored_tokenizer(folder: Path, journal: Journal | None) -> Tokenizer | None:
    """The tokenizer that was learnt before the kill, if it had been saved whole."""
    if journal is None or not journal.finished:  # nothing depends on it yet, and the text may be another by now
        return None
    try:
        tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
    except TokenizerError:
        return None
    return tokenizer if tokenizer.fingerprint == journal.tokenizer_fingerprint else None


def _train_tokenizer(config: Config, progress: PrepareProgress | None) -> Tokenizer:
    meter = ReadMeter()
    report = _Reporter(progress, "tokenizer", config)

    def training_texts() -> Iterator[str]:
        for batch in _batches(_read_source(config, "train", meter), meter):
            yield from (document.text for document in batch.documents if document.split == "train")
            report.count(batch)

    return build_tokenizer(config, training_texts())


def _remove_unfinished(folder: Path, journal: Journal) -> None:
    finished = {shard.entry.name for shard in journal.finished}
    unfinished = [file for split in SPLITS for file in folder.glob(f"{split}-*.tar") if file.name not in finished]
    leftovers = [file for split in SPLITS for file in folder.glob(f"{split}-*.tar.tmp")]
    leftovers += [*folder.glob(f"{MANIFEST_NAME}.tmp"), *(folder / TOKENIZER_FOLDER).glob("*.tmp")]
    for file in (*unfinished, *leftovers):
        with storage_errors(file):
            file.unlink(missing_ok=True)


# --- Reading ---


def _read_documents(config: Config, meter: ReadMeter) -> Iterator[_Document]:
    """All documents with their split: those of the training text, then those of a validation text of its own."""
    yield from _read_source(config, "train", meter)
    if has_validation_source(config):
        yield from _read_source(config, "validation", meter)


def _read_source(config: Config, source: Split, meter: ReadMeter) -> Iterator[_Document]:
    divides = not has_validation_source(config)
    threshold = int(config.data.validation_fraction * 2**64)
    for number, text in enumerate(open_documents(config, source, meter), start=1):
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            raise SourceError(
                f"document {number} of the {source} text is not Unicode: {error.reason} at character {error.start}",
                fix="remove the half surrogate pair (such as \\ud83d alone) from that document",
            ) from None
        digest = hashlib.blake2b(content, digest_size=16).digest()
        split = source
        if divides and int.from_bytes(digest[:8], "big") < threshold:
            split = "validation"
        yield _Document(text, digest, len(content), split)


def _batches(documents: Iterable[_Document], meter: ReadMeter) -> Iterator[_Batch]:
    batch: list[_Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += document.text_bytes
        if size >= BATCH_BYTES:
            yield _Batch(batch, meter.read_bytes)
            batch, size = [], 0
    if batch:
        yield _Batch(batch, meter.read_bytes)


def _read_ahead(batches: Iterator[_Batch]) -> Generator[_Batch, None, None]:
    """Iterates in a thread of its own, a few batches ahead; what the iteration raises is raised here."""
    ready: queue.Queue[_Batch | BaseException | None] = queue.Queue(maxsize=BATCHES_AHEAD)
    stop = threading.Event()

    def put(item: _Batch | BaseException | None) -> bool:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def read() -> None:
        try:
            if all(put(batch) for batch in batches):
                put(None)
        except BaseException as error:  # must reach the other thread, whatever it is
            put(error)

    thread = threading.Thread(target=read, name="prepare-reader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join(timeout=5.0)


# --- Writing ---


def _write_shards(
    config: Config, folder: Path, journal: Journal, tokenizer: Tokenizer, progress: PrepareProgress | None
) -> str:
    """Writes every shard that the journal does not hold; returns the source fingerprint."""
    skip = {split: _FinishedText(journal, split, folder) for split in SPLITS}
    writers = {split: _SplitWriter(config, folder, journal, split, tokenizer.token_dtype) for split in SPLITS}
    meter = ReadMeter()
    report = _Reporter(progress, "shards", config)
    fingerprint = _SourceFingerprint()
    try:
        with closing(_read_ahead(_batches(_read_documents(config, meter), meter))) as batches:
            for batch in batches:
                for document in batch.documents:
                    fingerprint.add(document)
                fresh = [document for document in batch.documents if not skip[document.split].holds(document)]
                _write_batch(fresh, tokenizer, writers)
                report.count(batch)
        for split in SPLITS:
            skip[split].refuse_rest()
        for split in SPLITS:
            writers[split].finish()
    finally:
        for split in SPLITS:
            writers[split].abort()
    return fingerprint.hexdigest()


def _write_batch(documents: list[_Document], tokenizer: Tokenizer, writers: Mapping[Split, _SplitWriter]) -> None:
    if not documents:
        return
    tokens, lengths = tokenizer.encode_with_ends([document.text for document in documents])
    start = 0
    for document, length in zip(documents, lengths, strict=True):
        writers[document.split].add(document, tokens[start : start + length])
        start += length


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

    def add(self, document: _Document, tokens: np.ndarray) -> None:
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


class _FinishedText:
    """Recognises the documents of a split that stand in finished shards, and that they are still the same."""

    def __init__(self, journal: Journal, split: Split, folder: Path) -> None:
        self._folder = folder
        self._shards = [shard for shard in journal.finished if shard.entry.split == split]
        self._documents = 0
        self._text = hashlib.sha256()

    def holds(self, document: _Document) -> bool:
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
                raise _changed_text(f"{shard.entry.name} was written", self._folder)
            del self._shards[0]
            self._documents, self._text = 0, hashlib.sha256()
        return True

    def refuse_rest(self) -> None:
        """At the end of the text.

        Raises:
            ShardError: there were fewer documents than finished shards hold.
        """
        if self._shards:
            raise _changed_text(f"{self._shards[0].entry.name} was written", self._folder)


class _SourceFingerprint:
    """SHA-256 over all documents' digests and splits, in their order: what was read, wherever it lay."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, document: _Document) -> None:
        self._hash.update(document.digest + (b"v" if document.split == "validation" else b"t"))

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class _Reporter:
    """Counts documents and tells the progress."""

    def __init__(self, progress: PrepareProgress | None, phase: Phase, config: Config) -> None:
        self._progress = progress
        self._phase: Phase = phase
        self._documents = 0
        self._text_bytes = 0
        self._expected_documents = config.data.documents
        if config.data.source == "embedded" and self._expected_documents is None:
            self._expected_documents = EMBEDDED_DOCUMENTS
        self._file_bytes = sum(file.stat().st_size for split in SPLITS for file in source_files(config, split))

    def count(self, batch: _Batch) -> None:
        self._documents += len(batch.documents)
        self._text_bytes += sum(document.text_bytes for document in batch.documents)
        if self._progress is not None:
            self._progress(
                phase=self._phase,
                documents=self._documents,
                text_bytes=self._text_bytes,
                total_bytes=self._estimate_total_bytes(batch),
            )

    def _estimate_total_bytes(self, batch: _Batch) -> int | None:
        shares = []
        if self._expected_documents:
            shares.append(self._documents / self._expected_documents)
        if self._file_bytes:
            shares.append(batch.read_bytes / self._file_bytes)
        share = min(1.0, max(shares, default=0.0))
        if share == 0.0:
            return None
        total = round(self._text_bytes / share)
        return max(self._text_bytes, min(total, TRAINING_TEXT_BYTES)) if self._phase == "tokenizer" else total
