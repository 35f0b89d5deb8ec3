"""Text to shards: read, split, tokenize, pack, and write so that a kill at any moment loses no finished shard.

    documents ──hash──> train ─────> blocks ──> train-000000.tar, ...
                  └───> validation ─> blocks ──> validation-000000.tar, ...

A document's split is a function of its text, so identical texts never stand on both sides. When it is started again
after a kill, the text is read and hashed again from the beginning, which is fast, and only what stands in no finished
shard is tokenized: the folder ends with the same bytes as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from framework.config.schema import Config
from framework.data.corpus_writer import CorpusWriter, changed_text
from framework.data.documents import TextDocument, batches, read_ahead, read_documents, read_source
from framework.data.journal import (
    Journal,
    Settings,
    refuse_foreign_files,
    refuse_other_settings,
    settings_fingerprint,
    shard_settings,
)
from framework.data.manifest import MANIFEST_NAME, SPLITS, TOKENIZER_FOLDER, ShardManifest
from framework.data.prepare_progress import PrepareProgress, Reporter
from framework.data.refusals import finished_manifest, refuse_missing_split, refuse_odd_folder, refuse_small_disk
from framework.data.sources import ReadMeter
from framework.data.tokenizer import Tokenizer, build_tokenizer, load_tokenizer
from framework.durable import only_one_writer, storage_errors
from framework.errors import ShardError, TokenizerError

LOCK_NAME = "prepare.lock"


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
    finished = finished_manifest(config, folder, settings)
    if finished is not None:
        return finished
    refuse_odd_folder(folder, settings)
    refuse_missing_split(config)
    refuse_small_disk(config, folder)
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
    finished = finished_manifest(config, folder, settings)  # by a process that held the lock until now
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
            raise changed_text(f"{journal.finished[-1].entry.name} was written", folder)
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
    report = Reporter(progress, "tokenizer", config)

    def training_texts() -> Iterator[str]:
        for batch in batches(read_source(config, "train", meter), meter):
            yield from (document.text for document in batch.documents if document.split == "train")
            report.count(batch.documents, batch.read_bytes)

    return build_tokenizer(config, training_texts())


def _remove_unfinished(folder: Path, journal: Journal) -> None:
    finished = {shard.entry.name for shard in journal.finished}
    unfinished = [file for split in SPLITS for file in folder.glob(f"{split}-*.tar") if file.name not in finished]
    leftovers = [file for split in SPLITS for file in folder.glob(f"{split}-*.tar.tmp")]
    leftovers += [*folder.glob(f"{MANIFEST_NAME}.tmp"), *(folder / TOKENIZER_FOLDER).glob("*.tmp")]
    for file in (*unfinished, *leftovers):
        with storage_errors(file):
            file.unlink(missing_ok=True)


# --- Writing ---


def _write_shards(
    config: Config, folder: Path, journal: Journal, tokenizer: Tokenizer, progress: PrepareProgress | None
) -> str:
    """Writes every shard that the journal does not hold; returns the source fingerprint."""
    writer = CorpusWriter(config, folder, journal, tokenizer.token_dtype)
    meter = ReadMeter()
    report = Reporter(progress, "shards", config)
    try:
        with closing(read_ahead(batches(read_documents(config, meter), meter))) as ready:
            for batch in ready:
                _write_batch(writer.not_yet_written(batch.documents), tokenizer, writer)
                report.count(batch.documents, batch.read_bytes)
        return writer.finish()
    finally:
        writer.abort()


def _write_batch(documents: list[TextDocument], tokenizer: Tokenizer, writer: CorpusWriter) -> None:
    if not documents:
        return
    tokens, lengths = tokenizer.encode_with_ends([document.text for document in documents])
    start = 0
    for document, length in zip(documents, lengths, strict=True):
        writer.add(document, tokens[start : start + length])
        start += length
