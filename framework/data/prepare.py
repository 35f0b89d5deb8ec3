"""Text to shards: read, split, tokenize, pack, and write so that a kill at any moment loses no finished shard.

    documents ──hash──> train ─────> blocks ──> train-000000.tar, ...
                  └───> validation ─> blocks ──> validation-000000.tar, ...

A document's split is a function of its text, so identical texts never stand on both sides. When it is started again
after a kill, the text is read and hashed again from the beginning, which is fast, and only what stands in no finished
shard is tokenized: the folder ends with the same bytes as if nothing had happened.

``prepare_part`` (``framework.data.prepare_part``) tokenizes a part of the text, on as many machines as there are; what
all parts have left is merged here, to the same bytes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from framework.config.schema import Config
from framework.data.beginning import begin_or_go_on
from framework.data.corpus_writer import CorpusWriter
from framework.data.documents import TextDocument, batches, read_ahead, read_documents
from framework.data.fast_encoding import DocumentEncoder
from framework.data.journal import Journal, Settings, settings_fingerprint, shard_settings
from framework.data.manifest import ShardManifest
from framework.data.merge import merge_parts
from framework.data.parts_folder import PartsFolder, PartsPlan
from framework.data.prepare_progress import PrepareProgress, Reporter
from framework.data.refusals import finished_manifest, refuse_missing_split, refuse_odd_folder, refuse_small_disk
from framework.data.sources import ReadMeter
from framework.data.tokenizer import Tokenizer, build_tokenizer
from framework.durable import only_one_writer, storage_errors
from framework.errors import ShardError, StorageError

LOCK_NAME = "prepare.lock"


def prepare(config: Config, *, progress: PrepareProgress | None = None) -> ShardManifest:
    """Writes the shards of ``config.data`` into ``data.shards_dir`` and returns their manifest.

    Finished shards of the same settings are returned at once; unfinished ones are continued; finished parts are merged.

    Raises:
        SourceError: the text is missing, empty, unreadable, too little for two splits, or has changed since an
            interrupted run.
        TokenizerError: the tokenizer cannot be loaded.
        ShardError: the folder belongs to other settings, is damaged, is being written by another process, or has parts
            that are not finished.
        StorageError: the file system refuses, or has too little space; running it again goes on.
    """
    folder = config.data.shards_dir.expanduser()
    pretrained = build_tokenizer(config, ()) if config.tokenizer.kind == "pretrained" else None
    settings = shard_settings(config, pretrained)
    finished = finished_manifest(config, folder, settings)
    if finished is not None:
        remove_leftovers(folder)
        return finished
    refuse_odd_folder(folder, settings)
    mergeable_plan(folder, settings)
    refuse_missing_split(config)
    refuse_small_disk(config, folder)
    with made_folder(folder), only_one_writer(folder / LOCK_NAME, refusal=busy(folder)):
        return prepare_locked(config, folder, settings, pretrained, progress)


def busy(folder: Path) -> ShardError:
    """The refusal of a folder that another process is writing."""
    return ShardError(
        f"another `zerostream prepare` is writing into data.shards_dir {folder}",
        fix="wait until it has finished, or choose another data.shards_dir",
    )


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Makes the folder for the body, and takes it away again if nothing was written.

    Raises:
        StorageError: the file system refuses.
    """
    is_new = not folder.exists()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):
                folder.rmdir()  # which succeeds only where nothing was written


def remove_leftovers(folder: Path) -> None:
    """Removes the parts and the lock where a process was killed behind its manifest; if that cannot be, they stay."""
    parts = PartsFolder(folder)
    if parts.path.exists() or (folder / LOCK_NAME).exists():
        with suppress(ShardError, StorageError), only_one_writer(folder / LOCK_NAME, refusal=busy(folder)):
            parts.remove()


def mergeable_plan(folder: Path, settings: Settings) -> PartsPlan | None:
    """The plan of parts that are all finished; None where none have begun.

    Raises:
        ShardError: some are not finished, or are of other settings.
    """
    parts = PartsFolder(folder)
    plan = parts.load_plan()
    if plan is not None:
        plan.refuse_other(folder, settings, None)
        parts.refuse_unfinished(plan)
    return plan


def prepare_locked(
    config: Config, folder: Path, settings: Settings, pretrained: Tokenizer | None, progress: PrepareProgress | None
) -> ShardManifest:
    """``prepare`` behind its checks, by the one process that holds the folder's lock.

    Raises:
        As ``prepare``.
    """
    parts = PartsFolder(folder)
    finished = finished_manifest(config, folder, settings)  # by a process that held the lock until now
    if finished is not None:
        return finished
    plan = mergeable_plan(folder, settings)
    given = parts.load_tokenizer(plan) if plan is not None and pretrained is None else pretrained
    journal, tokenizer = begin_or_go_on(config, folder, settings, given, progress)
    if plan is None:
        source_fingerprint = _write_shards(config, folder, journal, tokenizer, progress)
    else:
        source_fingerprint = merge_parts(config, parts, plan, journal, tokenizer, progress)
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
    parts.remove()
    return manifest


def _write_shards(
    config: Config, folder: Path, journal: Journal, tokenizer: Tokenizer, progress: PrepareProgress | None
) -> str:
    """Writes every shard that the journal does not hold; returns the source fingerprint."""
    writer = CorpusWriter(config, folder, journal, tokenizer.token_dtype)
    meter = ReadMeter()
    report = Reporter.of_text(progress, "shards", config)
    encoder = DocumentEncoder(tokenizer)
    try:
        with closing(read_ahead(batches(read_documents(config, meter), meter))) as ready:
            for batch in ready:
                _write_batch(writer.not_yet_written(batch.documents), encoder, writer)
                report.count(batch.documents, batch.read_bytes)
        return writer.finish()
    finally:
        writer.abort()


def _write_batch(documents: list[TextDocument], encoder: DocumentEncoder, writer: CorpusWriter) -> None:
    if not documents:
        return
    tokens, lengths = encoder.encode_with_ends([document.text for document in documents])
    start = 0
    for document, length in zip(documents, lengths, strict=True):
        writer.add(document, tokens[start : start + length])
        start += length
