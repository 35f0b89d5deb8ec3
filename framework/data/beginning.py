"""How ``prepare`` begins in a folder, or goes on there: the journal, the tokenizer, and nothing half-written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from framework.config.schema import Config
from framework.data.corpus_writer import changed_text
from framework.data.documents import batches, read_source
from framework.data.journal import Journal, Settings, refuse_foreign_files, refuse_other_settings
from framework.data.manifest import MANIFEST_NAME, SPLITS, TOKENIZER_FOLDER
from framework.data.prepare_progress import PrepareProgress, Reporter
from framework.data.sources import ReadMeter
from framework.data.tokenizer import Tokenizer, build_tokenizer, load_tokenizer
from framework.durable import storage_errors
from framework.errors import TokenizerError


def begin_or_go_on(
    config: Config, folder: Path, settings: Settings, given: Tokenizer | None, progress: PrepareProgress | None
) -> tuple[Journal, Tokenizer]:
    """The journal and the tokenizer, both stored; without a ``given`` tokenizer, one that is stored or trained.

    Raises:
        ShardError: the folder belongs to other settings or another text.
        SourceError, TokenizerError: as in training the tokenizer.
        StorageError: the file system refuses.
    """
    journal = Journal.load(folder)
    if journal is not None:
        refuse_other_settings(settings, folder, journal.settings)
        journal.keep_whole_shards()
    else:
        refuse_foreign_files(folder)
    tokenizer = given or _stored_tokenizer(folder, journal) or train_tokenizer(config, progress)
    if journal is None or journal.tokenizer_fingerprint != tokenizer.fingerprint:
        if journal is not None and journal.finished:
            raise changed_text(f"{journal.finished[-1].entry.name} was written", folder)
        journal = Journal.start(folder, settings, tokenizer.fingerprint)
    tokenizer.save(folder / TOKENIZER_FOLDER)
    _remove_unfinished(folder, journal)
    return journal, tokenizer


def train_tokenizer(config: Config, progress: PrepareProgress | None) -> Tokenizer:
    """Learns the tokenizer from the beginning of the training text.

    Raises:
        SourceError: the text cannot be read.
        TokenizerError: it yields another size than the config asks for.
    """
    meter = ReadMeter()
    report = Reporter.of_text(progress, "tokenizer", config)

    def training_texts() -> Iterator[str]:
        for batch in batches(read_source(config, "train", meter), meter):
            yield from (document.text for document in batch.documents if document.split == "train")
            report.count(batch.documents, batch.read_bytes)

    return build_tokenizer(config, training_texts())


def _stored_tokenizer(folder: Path, journal: Journal | None) -> Tokenizer | None:
    """The tokenizer that was learnt before the kill, if it had been saved whole."""
    if journal is None or not journal.finished:  # nothing depends on it yet, and the text may be another by now
        return None
    try:
        tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
    except TokenizerError:
        return None
    return tokenizer if tokenizer.fingerprint == journal.tokenizer_fingerprint else None


def _remove_unfinished(folder: Path, journal: Journal) -> None:
    finished = {shard.entry.name for shard in journal.finished}
    unfinished = [file for split in SPLITS for file in folder.glob(f"{split}-*.tar") if file.name not in finished]
    leftovers = [file for split in SPLITS for file in folder.glob(f"{split}-*.tar.tmp")]
    leftovers += [*folder.glob(f"{MANIFEST_NAME}.tmp"), *(folder / TOKENIZER_FOLDER).glob("*.tmp")]
    for file in (*unfinished, *leftovers):
        with storage_errors(file):
            file.unlink(missing_ok=True)
