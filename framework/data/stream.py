"""From shards to batches: the pipeline that every rank reads its training sequences from.

The stages are generators composed by a stock ``webdataset.DataPipeline``::

    places      (cursor, address) pairs of this rank's lanes, from the order function alone
      |         -> nothing is read to find out what to read; resume starts here, at any cursor
    sequences   opens each lane's shard (size and SHA-256 verified, webdataset's own tar stages decode it), puts its
      |         documents into the epoch's order, and takes the row of context_length + 1 tokens
    steps       collects the rank's rows of one step and cuts them into micro-batches

A worked example: context_length 4, one shard with the documents ``[5 6 7 E]`` and ``[8 9 E]`` (E is end-of-text)::

    the shard's text      E | 5 6 7 E 8 9 E          an E in front, so that the first token has something to follow
    row 0                 E 5 6 7 E                  inputs E 5 6 7    targets 5 6 7 E
    row 1                         E 8 9 E + padding  inputs E 8 9 E    targets 8 9 E _

Every token of the shard is a target exactly once; ``_`` is ``IGNORED_TARGET`` and never counts.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

os.environ.setdefault("WDS_SECURE", "1")
import webdataset

from framework.config.batch import BatchPlan
from framework.data.manifest import ShardManifest, Split
from framework.data.order import (
    Address,
    SequenceOrder,
    document_order,
    evaluation_cursors,
    evaluation_order,
    rows_in,
    step_cursors,
)
from framework.data.shards import read_shard

IGNORED_TARGET = -100
_HALF = 1 << 32


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass reads.

    ``input_ids`` and ``targets`` are [micro_batch_size, context_length] int64; a target of ``IGNORED_TARGET`` is padding.
    """

    input_ids: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> MicroBatch:
        """The same on ``device``; asynchronous where the memory is pinned."""
        return MicroBatch(self.input_ids.to(device, non_blocking=True), self.targets.to(device, non_blocking=True))

    def pin(self) -> MicroBatch:
        return MicroBatch(self.input_ids.pin_memory(), self.targets.pin_memory())


@dataclass(frozen=True)
class Digest:
    """Fingerprint of a set of (cursor, sequence) pairs; adding two gives that of their union.

    The sum modulo 2^32 of each half of a 64-bit BLAKE2b per sequence: it does not depend on who read what, or when.
    """

    high: int = 0
    low: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest((self.high + other.high) % _HALF, (self.low + other.low) % _HALF)

    def __str__(self) -> str:
        return f"{self.high % _HALF:08x}{self.low % _HALF:08x}"


@dataclass(frozen=True)
class StepBatch:
    """This rank's share of one step. ``target_tokens`` counts its targets that are not padding."""

    step: int
    micro_batches: tuple[MicroBatch, ...]
    target_tokens: int
    digest: Digest


@dataclass(frozen=True)
class TokenSequence:
    """One row: ``tokens`` [at most context_length + 1] int64, and the cursor it was read for."""

    cursor: int
    tokens: npt.NDArray[np.int64]


class SequenceReader:
    """Reads single sequences of one split, keeping open only the shards that its lanes are in.

    Args:
        shards_dir: folder of the shards.
        manifest: its manifest.
        split: which shards.
        context_length: tokens per sequence.
        order: where each cursor stands.
        open_shards: how many shards may stay in memory; lanes that share a shard share its memory.
    """

    def __init__(
        self,
        shards_dir: Path,
        manifest: ShardManifest,
        split: Split,
        context_length: int,
        order: SequenceOrder,
        open_shards: int,
    ) -> None:
        self._shards_dir = shards_dir
        self._entries = manifest.split(split)
        self._end_of_text_id = manifest.end_of_text_id
        self._context_length = context_length
        self._order = order
        self._open_shards = open_shards
        self._texts: OrderedDict[tuple[int, int], npt.NDArray[np.unsignedinteger[Any]]] = OrderedDict()

    def read(self, cursor: int, address: Address) -> TokenSequence:
        """The sequence at ``address``.

        Raises:
            ShardError: its shard is missing or does not verify.
        """
        text = self._text(address)
        first = address.row * self._context_length
        return TokenSequence(cursor, text[first : first + self._context_length + 1].astype(np.int64))

    def _text(self, address: Address) -> npt.NDArray[np.unsignedinteger[Any]]:
        key = (address.epoch, address.shard)
        if key in self._texts:
            self._texts.move_to_end(key)
            return self._texts[key]
        entry = self._entries[address.shard]
        content = read_shard(self._shards_dir / entry.name, entry)
        documents = document_order(len(content.offsets) - 1, self._order, address)
        text = self._texts[key] = epoch_tokens(content.tokens, content.offsets, documents, self._end_of_text_id)
        while len(self._texts) > self._open_shards:
            self._texts.popitem(last=False)
        return text


def epoch_tokens(
    tokens: npt.NDArray[np.unsignedinteger[Any]],
    offsets: npt.NDArray[np.int64],
    documents: npt.NDArray[np.int64],
    end_of_text_id: int,
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """[tokens + 1]: end-of-text, then the shard's documents in the order ``documents``; the dtype stays.

    Why an end-of-text in front: docs/decisions/0006-prefix-end-of-text.md.
    """
    lengths = np.diff(offsets)[documents]
    ends = np.cumsum(lengths)
    # Position i of the new text is token i - (start of its document there) + (start of its document in the shard).
    source = np.arange(len(tokens), dtype=np.int64) + np.repeat(offsets[documents] - (ends - lengths), lengths)
    text = np.empty(len(tokens) + 1, dtype=tokens.dtype)
    text[0] = end_of_text_id
    np.take(tokens, source, out=text[1:])
    return text


def make_micro_batch(
    sequences: Sequence[TokenSequence], micro_batch_size: int, context_length: int, end_of_text_id: int
) -> MicroBatch:
    """Stacks sequences; short rows and missing rows are padding (end-of-text in, ``IGNORED_TARGET`` out)."""
    input_ids = np.full((micro_batch_size, context_length), end_of_text_id, dtype=np.int64)
    targets = np.full((micro_batch_size, context_length), IGNORED_TARGET, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        count = len(sequence.tokens) - 1
        input_ids[row, :count] = sequence.tokens[:-1]
        targets[row, :count] = sequence.tokens[1:]
    return MicroBatch(torch.from_numpy(input_ids), torch.from_numpy(targets))


def digest_of(sequence: TokenSequence) -> Digest:
    """The digest of one sequence at its cursor."""
    hasher = hashlib.blake2b(sequence.cursor.to_bytes(8, "little"), digest_size=8)
    hasher.update(sequence.tokens.astype("<u4").tobytes())
    value = int.from_bytes(hasher.digest(), "little")
    return Digest(value >> 32, value % _HALF)


@dataclass(frozen=True)
class TrainStream:
    """The training batches of one rank, from any step on.

    Args:
        shards_dir: folder of the shards.
        manifest: its manifest.
        plan: the batch arithmetic of this start.
        lanes: ``data.lanes``; the plan's ranks divide it.
        seed: of the order.
        rank: whose share this is.
    """

    shards_dir: Path
    manifest: ShardManifest
    plan: BatchPlan
    lanes: int
    seed: int
    rank: int

    @property
    def order(self) -> SequenceOrder:
        rows = [rows_in(entry.tokens, self.plan.context_length) for entry in self.manifest.split("train")]
        return SequenceOrder(rows, lanes=self.lanes, seed=self.seed)

    def steps(self, first_step: int = 0) -> Iterator[StepBatch]:
        """This rank's share of step ``first_step`` (from 0) and all that follow, for ever.

        Raises:
            ShardError: a shard is missing or does not verify.
        """
        order = self.order
        # One shard per lane of this rank, and one that the next lane to change is opening.
        open_shards = self.lanes // self.plan.ranks + 1
        reader = SequenceReader(self.shards_dir, self.manifest, "train", self.plan.context_length, order, open_shards)

        def places() -> Iterator[tuple[int, Address]]:
            step = first_step
            while True:
                for cursor in step_cursors(step, self.plan.global_batch_size, self.rank, self.plan.ranks):
                    yield cursor, order.locate(cursor)
                step += 1

        def sequences(places: Iterable[tuple[int, Address]]) -> Iterator[TokenSequence]:
            for cursor, address in places:
                yield reader.read(cursor, address)

        pipeline = webdataset.DataPipeline(places, sequences, self._collect(first_step))
        return iter(pipeline)

    def _collect(self, first_step: int) -> Any:
        plan = self.plan
        share = plan.micro_batch_size * plan.accumulation_steps

        def steps(sequences: Iterable[TokenSequence]) -> Iterator[StepBatch]:
            step, rows = first_step, []
            for sequence in sequences:
                rows.append(sequence)
                if len(rows) == share:
                    yield self._make_step(step, rows)
                    step, rows = step + 1, []

        return steps

    def _make_step(self, step: int, rows: list[TokenSequence]) -> StepBatch:
        size = self.plan.micro_batch_size
        micro_batches = tuple(
            make_micro_batch(rows[first : first + size], size, self.plan.context_length, self.manifest.end_of_text_id)
            for first in range(0, len(rows), size)
        )
        return StepBatch(
            step, micro_batches, sum(len(row.tokens) - 1 for row in rows), sum(map(digest_of, rows), start=Digest())
        )


def validation_micro_batches(
    shards_dir: Path,
    manifest: ShardManifest,
    plan: BatchPlan,
    *,
    rank: int,
    max_sequences: int | None = None,
) -> Iterator[MicroBatch]:
    """This rank's share of the validation split, once, in order; every rank yields the same number of micro-batches.

    Raises:
        ShardError: a shard is missing or does not verify.
    """
    order = evaluation_order([rows_in(entry.tokens, plan.context_length) for entry in manifest.split("validation")])
    reader = SequenceReader(shards_dir, manifest, "validation", plan.context_length, order, open_shards=2)
    sequences = min(order.sequences_per_epoch, max_sequences or order.sequences_per_epoch)
    for cursors in evaluation_cursors(sequences, plan.micro_batch_size, rank, plan.ranks):
        rows = [reader.read(cursor, order.locate(cursor)) for cursor in cursors]
        yield make_micro_batch(rows, plan.micro_batch_size, plan.context_length, manifest.end_of_text_id)


_END = object()


class Prefetcher:
    """Runs an iterator of step batches in a thread, ``depth`` batches ahead, and pins them when asked.

    Use as a context manager; an error in the thread is raised where the batch is asked for.
    """

    def __init__(self, steps: Iterator[StepBatch], *, depth: int, pin_memory: bool) -> None:
        self._steps = steps
        self._pin_memory = pin_memory
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="data-prefetch", daemon=True)

    def __enter__(self) -> Prefetcher:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(timeout=0.01)

    def __next__(self) -> StepBatch:
        item = self._queue.get()
        if item is _END or isinstance(item, BaseException):
            self._queue.put(item)  # the last word: whoever asks again gets it again
            raise item if isinstance(item, BaseException) else StopIteration
        assert isinstance(item, StepBatch)
        return item

    def __iter__(self) -> Prefetcher:
        return self

    def _run(self) -> None:
        try:
            for batch in self._steps:
                if self._pin_memory:
                    batch = replace(batch, micro_batches=tuple(micro.pin() for micro in batch.micro_batches))
                self._queue.put(batch)
                if self._stopped.is_set():
                    return
            self._queue.put(_END)
        except BaseException as error:  # handed to the training thread, which must not wait for ever
            self._queue.put(error)
