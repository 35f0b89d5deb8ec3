"""One part of a ``prepare`` in N parts: N processes, on one machine or many with a shared file system.

    part 1/4 ── learns the tokenizer ─> its batches ─> parts/part-00001.log ─┐
    part 2/4 ── waits for it ─────────> its batches ─> parts/part-00002.log ─┤  the last one to finish merges:
    part 3/4 ── waits for it ─────────> its batches ─> parts/part-00003.log ─┤  shards and manifest, the bytes of
    part 4/4 ── waits for it ─────────> its batches ─> parts/part-00004.log ─┘  `prepare` without parts

Parts may start in any order and at any time, and any process can do any part. Killed at any moment, the same command
goes on with the batches that are in its log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from framework.config.schema import Config
from framework.data.corpus_writer import changed_text
from framework.data.cut import Cut, PartNumber
from framework.data.documents import Batch, SourceFingerprint, batches, read_ahead
from framework.data.fast_encoding import DocumentEncoder
from framework.data.journal import Settings, shard_settings
from framework.data.manifest import ShardManifest
from framework.data.part_beginning import PartBeginning
from framework.data.part_log import PartLog
from framework.data.parts_folder import PartDone, PartsFolder, PieceRead
from framework.data.pieces import Piece, text_pieces
from framework.data.prepare import LOCK_NAME, busy, made_folder, prepare_locked, remove_leftovers
from framework.data.prepare_progress import PrepareProgress, Reporter
from framework.data.refusals import finished_manifest, refuse_missing_split, refuse_odd_folder, refuse_small_disk
from framework.data.sources import ReadMeter
from framework.data.tokenizer import Tokenizer, build_tokenizer
from framework.durable import only_one_writer
from framework.errors import ShardError

PATIENCE_SECONDS = 3600.0
"""So long a part waits for the one that learns the tokenizer, which takes minutes. A dead one is not waited for."""


@dataclass(frozen=True)
class PartOutcome:
    """What has become of one part, and of the whole.

    ``done`` is None if the shards were finished before; ``missing`` are the parts that are not finished; ``manifest`` is None
    until all are merged. None are missing and there is no manifest: another process is merging.
    """

    part: PartNumber
    done: PartDone | None
    missing: tuple[int, ...]
    manifest: ShardManifest | None


def prepare_part(
    config: Config,
    part: PartNumber,
    *,
    progress: PrepareProgress | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> PartOutcome:
    """Tokenizes a part of the text; merges all parts if it is the last to finish.

    Raises:
        WaitError: the tokenizer was not there after ``patience_seconds``, though a process is at it.
        ShardError: as ``prepare``; or the folder is being prepared in another number of parts, or in one.
        SourceError, TokenizerError, StorageError: as ``prepare``.
    """
    folder = config.data.shards_dir.expanduser()
    pretrained = build_tokenizer(config, ()) if config.tokenizer.kind == "pretrained" else None
    settings = shard_settings(config, pretrained)
    finished = finished_manifest(config, folder, settings)
    if finished is not None:
        remove_leftovers(folder)
        return PartOutcome(part, None, (), finished)
    refuse_odd_folder(folder, settings)
    refuse_missing_split(config)
    parts = PartsFolder(folder)
    pieces = text_pieces(config, part.of)
    beginning = PartBeginning(config, part, Cut.of([piece.size for piece in pieces], part.of), settings, pretrained)
    beginning.agreed_plan()
    refuse_small_disk(config, folder, parts=parts.path)
    with made_folder(folder):
        plan = beginning.wait_for_plan(
            folder / LOCK_NAME,
            is_finished=lambda: finished_manifest(config, folder, settings) is not None,
            progress=progress,
            patience_seconds=patience_seconds,
        )
        if plan is None:
            return PartOutcome(part, None, (), finished_manifest(config, folder, settings))
        tokenizer = pretrained or parts.load_tokenizer(plan)
        done = _finish_part(parts, part, plan.cut, pieces, tokenizer, progress)
        missing = tuple(parts.unfinished(plan))
        manifest = None if missing else _merge(config, folder, settings, pretrained, progress)
    return PartOutcome(part, done, missing, manifest)


def _merge(
    config: Config, folder: Path, settings: Settings, pretrained: Tokenizer | None, progress: PrepareProgress | None
) -> ShardManifest | None:
    """The manifest; None where another process is merging."""
    held = busy(folder)
    try:
        with only_one_writer(folder / LOCK_NAME, refusal=held):
            return prepare_locked(config, folder, settings, pretrained, progress)
    except ShardError as error:
        if error is not held:
            raise
        return None


# --- Tokenizing ---


@dataclass(frozen=True)
class _PartBatch:
    """A batch that is this part's to tokenize."""

    piece: int
    number: int
    batch: Batch


@dataclass
class _Reading:
    """Reads this part's pieces, from their beginning and in their order, and keeps account of them."""

    pieces: list[Piece]
    cut: Cut
    part: int
    meter: ReadMeter = field(default_factory=ReadMeter)
    read: list[PieceRead] = field(default_factory=list)

    @property
    def file_bytes(self) -> int:
        """Size of what will be read."""
        return sum(piece.size for index, piece in enumerate(self.pieces) if self.cut.reads(self.part, index))

    def batches(self) -> Iterator[_PartBatch]:
        """This part's batches; of a shared piece every document is read and hashed, so that parts can be compared."""
        for index, piece in enumerate(self.pieces):
            if not self.cut.reads(self.part, index):
                continue
            fingerprint = SourceFingerprint()
            count = 0
            for batch in batches(piece.open(self.meter), self.meter):
                for document in batch.documents:
                    fingerprint.add(document)
                if self.cut.owner(index, count) == self.part:
                    yield _PartBatch(index, count, batch)
                count += 1
            self.read.append(PieceRead(index, count, fingerprint.hexdigest()))


def _finish_part(
    parts: PartsFolder,
    part: PartNumber,
    cut: Cut,
    pieces: list[Piece],
    tokenizer: Tokenizer,
    progress: PrepareProgress | None,
) -> PartDone:
    taken = ShardError(
        f"part {part} of data.shards_dir {parts.shards_dir} is being prepared by another process",
        fix="wait until it has finished, or run another part",
    )
    done = parts.load_done(part.number)
    if done is not None:
        return done
    with only_one_writer(parts.lock(part.number), refusal=taken):
        done = parts.load_done(part.number)  # by a process that held the lock until now
        if done is None:
            done = _tokenize(parts, part, _Reading(pieces, cut, part.number), tokenizer, progress)
            parts.save_done(part.number, done)
        return done


def _tokenize(
    parts: PartsFolder,
    part: PartNumber,
    reading: _Reading,
    tokenizer: Tokenizer,
    progress: PrepareProgress | None,
) -> PartDone:
    """Completes the part's log."""
    changed = changed_text(f"{parts.log(part.number)} was written", parts.path)
    report = Reporter(progress, "part", file_bytes=reading.file_bytes)
    documents = token_count = text_bytes = 0
    encoder = DocumentEncoder(tokenizer)
    log = PartLog(parts.log(part.number))
    with closing(log), closing(read_ahead(reading.batches())) as ready:
        for each in ready:
            batch = each.batch.documents
            stored = log.next_stored()
            if stored is not None:
                if not stored.is_of(each.piece, each.number, batch):
                    raise changed
                token_count += len(stored.tokens)
            else:
                tokens, lengths = encoder.encode_with_ends([document.text for document in batch])
                log.append(each.piece, each.number, batch, tokens, lengths)
                token_count += len(tokens)
            documents += len(batch)
            text_bytes += each.batch.text_bytes
            report.count(batch, each.batch.read_bytes)
        if log.next_stored() is not None:
            raise changed
        log.sync()
    return PartDone(documents, token_count, text_bytes, log.size_bytes, tuple(reading.read))
