"""Finished parts to shards: their batches in document order, through the code that writes shards of any documents.

Only the parts' logs are read, not the text. Killed, it goes on as ``prepare`` does: finished shards stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from framework.config.schema import Config
from framework.data.beginning import train_tokenizer
from framework.data.corpus_writer import CorpusWriter, changed_text
from framework.data.documents import SourceFingerprint, read_ahead
from framework.data.journal import Journal
from framework.data.part_log import TokenizedDocument, read_record
from framework.data.parts_folder import PartDone, PartsFolder, PartsPlan, PieceRead
from framework.data.prepare_progress import PrepareProgress, Reporter
from framework.data.refusals import fingerprint_of_text, newer_files
from framework.data.tokenizer import Tokenizer
from framework.errors import ShardError


def merge_parts(
    config: Config,
    parts: PartsFolder,
    plan: PartsPlan,
    journal: Journal,
    tokenizer: Tokenizer,
    progress: PrepareProgress | None,
) -> str:
    """Writes every shard that the journal does not hold; returns the source fingerprint. All parts are finished.

    Raises:
        ShardError: a part's log is damaged, or parts have read different texts.
        StorageError: the file system refuses.
    """
    done = [_load_done(parts, number) for number in range(1, plan.parts + 1)]
    report = Reporter(progress, "merge", total_bytes=sum(part.text_bytes for part in done))
    writer = CorpusWriter(config, parts.shards_dir, journal, tokenizer.token_dtype)
    try:
        with closing(read_ahead(_batches_in_order(parts, plan, done))) as ready:
            for documents in ready:
                for document in writer.not_yet_written(documents):
                    writer.add(document, document.tokens)
                report.count(documents)
        fingerprint = writer.finish()
    finally:
        writer.abort()
    if newer_files(config, parts.plan_path.stat().st_mtime):
        _refuse_changed_text(config, parts, plan, fingerprint)
    return fingerprint


def _refuse_changed_text(config: Config, parts: PartsFolder, plan: PartsPlan, fingerprint: str) -> None:
    """Compares by content: what the parts have read, and what the tokenizer was learnt from before."""
    is_same = fingerprint_of_text(config) == fingerprint
    if is_same and config.tokenizer.kind == "train_bpe":
        is_same = train_tokenizer(config, None).fingerprint == plan.tokenizer_fingerprint
    if not is_same:
        raise changed_text("the parts were begun", parts.shards_dir)


def _load_done(parts: PartsFolder, number: int) -> PartDone:
    done = parts.load_done(number)
    assert done is not None  # refuse_unfinished has looked
    return done


def _batches_in_order(parts: PartsFolder, plan: PartsPlan, done: list[PartDone]) -> Iterator[list[TokenizedDocument]]:
    logs = [_LogReader(parts, number) for number in range(1, plan.parts + 1)]
    cut = plan.cut
    for piece, read in enumerate(_agreed_pieces(parts, plan, done)):
        fingerprint = SourceFingerprint()
        for batch in range(read.batches):
            documents = logs[cut.owner(piece, batch) - 1].next(piece, batch)
            for document in documents:
                fingerprint.add(document)
            yield documents
        if fingerprint.hexdigest() != read.fingerprint:
            raise ShardError(
                f"piece {piece} in {parts.path} is not the text that the parts say they have read",
                fix=f"remove {parts.path} and begin the parts again",
            )


def _agreed_pieces(parts: PartsFolder, plan: PartsPlan, done: list[PartDone]) -> list[PieceRead]:
    """Each piece, as all parts that read it have found it."""
    found = [{each.piece: each for each in part.pieces} for part in done]
    pieces = []
    for piece, owner in enumerate(plan.owners):
        readers = range(1, plan.parts + 1) if owner is None else (owner,)
        reads = [(number, found[number - 1].get(piece)) for number in readers]
        first_number, first = reads[0]
        for number, read in reads:
            if read is None:
                raise parts.damaged(number, f"it says nothing of piece {piece}")
            if read != first:
                raise ShardError(
                    f"parts {first_number} and {number} of data.shards_dir {parts.shards_dir} have read different texts",
                    fix=f"see that the text stays as it is, remove {parts.path} and begin the parts again",
                )
        assert first is not None
        pieces.append(first)
    return pieces


class _LogReader:
    """One part's log, a record at a time. It is opened for each, so that any number of parts can be merged."""

    def __init__(self, parts: PartsFolder, number: int) -> None:
        self._parts = parts
        self._number = number
        self._offset = 0

    def next(self, piece: int, batch: int) -> list[TokenizedDocument]:
        try:
            with self._parts.log(self._number).open("rb") as file:
                record = read_record(file, self._offset)
                self._offset = file.tell()
        except OSError as error:
            raise self._parts.damaged(self._number, error.strerror or type(error).__name__) from error
        if record is None or (record.piece, record.batch) != (piece, batch):
            raise self._parts.damaged(self._number, f"piece {piece}, batch {batch} does not stand where it should")
        return record.documents()
