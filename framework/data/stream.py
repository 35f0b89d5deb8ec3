"""From shards to batches: the pipeline that every rank reads its training sequences from.

The stages are generators composed by a stock ``webdataset.DataPipeline``::

    places      (cursor, address) pairs of this rank's lanes, from the order function alone
      |         -> nothing is read to find out what to read; resume starts here, at any cursor
    sequences   opens each lane's shard (size and SHA-256 verified, its members grouped by webdataset), puts its
      |         documents into the epoch's order, and takes the row of context_length + 1 tokens; a row of a bad shard
      |         that is to be skipped is empty, so that ranks stay in step and the order is as it was
    steps       collects the rank's rows of one step and cuts them into micro-batches

A worked example: context_length 4, one shard with the documents ``[5 6 7 E]`` and ``[8 9 E]`` (E is end-of-text)::

    the shard's text      E | 5 6 7 E 8 9 E          an E in front, so that the first token has something to follow
    row 0                 E 5 6 7 E                  inputs E 5 6 7    targets 5 6 7 E
    row 1                         E 8 9 E + padding  inputs E 8 9 E    targets 8 9 E _

Every token of the shard is a target exactly once; ``_`` is ``IGNORED_TARGET`` and never counts.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import webdataset
import xxhash

from framework.config.batch import BatchPlan
from framework.data.ahead import ReadAhead
from framework.data.corpus import Corpus, OnBadShard, Shard
from framework.data.order import (
    Address,
    MixtureOrder,
    document_order,
    evaluation_cursors,
    evaluation_order,
    mixture_order,
    rows_in,
    step_cursors,
)
from framework.data.remote import RemoteShards
from framework.data.shards import ShardContent
from framework.errors import ShardError
from framework.failpoints import failpoint

IGNORED_TARGET = -100
_HALF = 1 << 32
_ROW_DTYPE = np.dtype("<u4")
"""Of a row until it is part of a batch: digests are of these bytes."""
_GROUP_DOCUMENTS = 256
"""So many documents are put in order together: their views then stay in the cache, and below what wakes the garbage collector."""

_log = logging.getLogger(__name__)


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

    The sum modulo 2^32 of each half of a 64-bit XXH3 per sequence, seeded with its cursor. It does not depend on who read what,
    or when.
    """

    high: int = 0
    low: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest((self.high + other.high) % _HALF, (self.low + other.low) % _HALF)

    def __str__(self) -> str:
        return f"{self.high % _HALF:08x}{self.low % _HALF:08x}"


@dataclass(frozen=True)
class StepBatch:
    """This rank's share of one step. ``target_tokens`` counts its targets that are not padding.

    ``skipped_sequences`` counts its sequences that are empty because their shard is bad, and ``bad_shards`` names these
    shards where this rank comes to them for the first time. If all are, ``target_tokens`` is 0.
    """

    step: int
    micro_batches: tuple[MicroBatch, ...]
    target_tokens: int
    digest: Digest
    skipped_sequences: int = 0
    bad_shards: tuple[str, ...] = ()


class TokenSequence(NamedTuple):
    """One row: ``tokens`` [at most context_length + 1] little-endian uint32, and the cursor it was read for.

    A row of a bad shard that is skipped has no tokens, and ``bad_shard`` says where that shard is.
    """

    cursor: int
    tokens: npt.NDArray[np.uint32]
    bad_shard: str | None = None

    @property
    def target_tokens(self) -> int:
        return max(0, len(self.tokens) - 1)


class SequenceReader:
    """Reads single sequences, keeping open only the shards that its lanes are in.

    Args:
        parts: the shards of each part of ``order``.
        order: where each cursor stands.
        context_length: tokens per sequence.
        end_of_text_id: what stands in front of a shard's text.
        open_shards: how many shards may stay in memory; lanes that share a shard share its memory.
        on_bad_shard: ``skip`` gives empty rows for a shard that is missing or does not verify, and logs it once.
    """

    def __init__(
        self,
        parts: Sequence[Sequence[Shard]],
        order: MixtureOrder,
        *,
        context_length: int,
        end_of_text_id: int,
        open_shards: int,
        on_bad_shard: OnBadShard,
    ) -> None:
        self._parts = parts
        self._order = order
        self._context_length = context_length
        self._end_of_text_id = end_of_text_id
        self._open_shards = open_shards
        self._on_bad_shard = on_bad_shard
        self._texts: OrderedDict[tuple[int, int, int], npt.NDArray[np.unsignedinteger[Any]]] = OrderedDict()
        self._bad: set[tuple[int, int]] = set()

    def read(self, cursor: int, address: Address, step: int | None = None) -> TokenSequence:
        """The sequence at ``address``; ``step`` (from 0) is the one that asks for it.

        Raises:
            ShardError: its shard is missing or does not verify, and bad shards are errors.
            StorageError: the remote does not answer.
        """
        shard = self._parts[address.part][address.shard]
        if (address.part, address.shard) not in self._bad:
            try:
                _pass_failpoint(shard, step)
                text = self._text(address, shard)
                first = address.row * self._context_length
                return TokenSequence(cursor, text[first : first + self._context_length + 1].astype(_ROW_DTYPE))
            except ShardError as error:
                if self._on_bad_shard == "error":
                    raise
                _log.warning("%s; its sequences are left out (data.on_bad_shard is skip)", error.cause)
                self._bad.add((address.part, address.shard))
        return TokenSequence(cursor, np.zeros(0, dtype=_ROW_DTYPE), shard.source.where(shard.entry))

    def _text(self, address: Address, shard: Shard) -> npt.NDArray[np.unsignedinteger[Any]]:
        key = (address.part, address.epoch, address.shard)
        if key in self._texts:
            self._texts.move_to_end(key)
            return self._texts[key]
        content = shard.source.read(shard.entry)
        text = self._texts[key] = self._in_order(content, address)
        while len(self._texts) > self._open_shards:
            self._texts.popitem(last=False)
        return text

    def _in_order(self, content: ShardContent, address: Address) -> npt.NDArray[np.unsignedinteger[Any]]:
        documents = document_order(len(content.starts), self._order.parts[address.part], address)
        return epoch_tokens(content, documents, self._end_of_text_id)


def _pass_failpoint(shard: Shard, step: int | None) -> None:
    try:
        failpoint("fetch", step=None if step is None else step + 1)
    except OSError as error:
        raise ShardError(
            f"shard {shard.source.where(shard.entry)} cannot be read: {error.strerror}", fix="check the disk it is on"
        ) from error


def epoch_tokens(
    content: ShardContent, documents: npt.NDArray[np.int64], end_of_text_id: int
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """[tokens + 1]: end-of-text, then the shard's documents in the order ``documents``; the dtype stays.

    Why an end-of-text in front: docs/decisions/0006-prefix-end-of-text.md.
    """
    text = np.empty(1 + content.tokens, dtype=content.memory.dtype)
    text[0] = end_of_text_id
    source, target = content.memory.view(np.uint8).data, text.view(np.uint8).data
    starts, ends = content.starts[documents] * text.itemsize, content.ends[documents] * text.itemsize
    position = text.itemsize
    for first in range(0, len(documents), _GROUP_DOCUMENTS):
        bounds = (each[first : first + _GROUP_DOCUMENTS].tolist() for each in (starts, ends))
        group = b"".join([source[start:end] for start, end in zip(*bounds, strict=True)])
        target[position : position + len(group)] = group
        position += len(group)
    return text


def make_micro_batch(
    sequences: Sequence[TokenSequence], micro_batch_size: int, context_length: int, end_of_text_id: int
) -> MicroBatch:
    """Stacks sequences; short, empty and missing rows are padding (end-of-text in, ``IGNORED_TARGET`` out)."""
    tokens = np.empty((micro_batch_size, context_length + 1), dtype=_ROW_DTYPE)
    counts = [sequence.target_tokens for sequence in sequences] + [0] * (micro_batch_size - len(sequences))
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence.tokens)] = sequence.tokens
    input_ids, targets = tokens[:, :-1].astype(np.int64), tokens[:, 1:].astype(np.int64)
    for row, count in enumerate(counts):
        if count < context_length:
            input_ids[row, count:] = end_of_text_id
            targets[row, count:] = IGNORED_TARGET
    return MicroBatch(torch.from_numpy(input_ids), torch.from_numpy(targets))


def digest_of(sequences: Iterable[TokenSequence]) -> Digest:
    """The digest of sequences at their cursors; of an empty one, of its cursor alone."""
    high = low = 0
    for sequence in sequences:
        value = xxhash.xxh3_64_intdigest(sequence.tokens.data, seed=sequence.cursor)
        high += value >> 32
        low += value % _HALF
    return Digest(high % _HALF, low % _HALF)


@dataclass(frozen=True)
class TrainStream:
    """The training batches of one rank, from any step on.

    Args:
        corpus: what is read.
        plan: the batch arithmetic of this start.
        lanes: ``data.lanes``; the plan's ranks divide it.
        seed: of the order.
        rank: whose share this is.
    """

    corpus: Corpus
    plan: BatchPlan
    lanes: int
    seed: int
    rank: int

    @cached_property
    def order(self) -> MixtureOrder:
        """Where each cursor stands."""
        parts = [[rows_in(shard.entry.tokens, self.plan.context_length) for shard in part] for part in self._parts]
        return mixture_order(parts, [part.share for part in self.corpus.parts], lanes=self.lanes, seed=self.seed)

    @cached_property
    def _parts(self) -> list[tuple[Shard, ...]]:
        return [part.shards("train") for part in self.corpus.parts]

    def shard_at(self, address: Address) -> Shard:
        """The shard that ``address`` is in."""
        return self._parts[address.part][address.shard]

    def openings(self, first_step: int = 0, parts: Sequence[int] | None = None) -> Iterator[tuple[int, Address]]:
        """From step ``first_step`` (from 0) on, for ever, ascending: the cursors at which one of this rank's lanes begins to
        read a shard (of one of ``parts``, if these are given), and where in it. Reads nothing."""
        return self.order.openings(self._rank_lanes, first_step * self.plan.global_batch_size, parts)

    @property
    def _rank_lanes(self) -> range:
        return range(self.rank, self.lanes, self.plan.ranks)

    def steps(self, first_step: int = 0) -> Iterator[StepBatch]:
        """This rank's share of step ``first_step`` (from 0) and all that follow, for ever.

        Raises:
            ShardError: a shard is missing or does not verify, and ``corpus.on_bad_shard`` is ``error``.
            StorageError: a remote does not answer.
        """
        order, global_batch_size = self.order, self.plan.global_batch_size
        reader = SequenceReader(
            self._parts,
            order,
            context_length=self.plan.context_length,
            end_of_text_id=self.corpus.end_of_text_id,
            # In each part, one shard per lane of this rank, and one that the next lane to change is opening.
            open_shards=len(self._parts) * len(self._rank_lanes) + 1,
            on_bad_shard=self.corpus.on_bad_shard,
        )

        def places() -> Iterator[tuple[int, Address]]:
            steps = itertools.count(first_step)
            shares = (step_cursors(step, global_batch_size, self.rank, self.plan.ranks) for step in steps)
            return order.walk(itertools.chain.from_iterable(shares))

        def sequences(places: Iterable[tuple[int, Address]]) -> Iterator[TokenSequence]:
            with self._read_ahead(first_step) as ahead:
                for cursor, address in places:
                    yield reader.read(cursor, address, cursor // global_batch_size)
                    if ahead is not None:
                        ahead.advance(cursor)

        pipeline = webdataset.DataPipeline(places, sequences, self._collect(first_step))
        return iter(pipeline)

    def _read_ahead(self, first_step: int) -> AbstractContextManager[ReadAhead | None]:
        """For remote parts: fetches the next shard of each of this rank's lanes while the present one is read."""
        remote = [number for number, part in enumerate(self.corpus.parts) if isinstance(part.source, RemoteShards)]
        if not remote:
            return nullcontext()

        def hold(address: Address) -> int | None:
            shard = self.shard_at(address)
            assert isinstance(shard.source, RemoteShards)
            return shard.source.hold(shard.entry)

        return ReadAhead(self.openings(first_step, remote), hold, shards=len(remote) * len(self._rank_lanes))

    def _collect(self, first_step: int) -> Any:
        plan = self.plan
        share = plan.micro_batch_size * plan.accumulation_steps

        def steps(sequences: Iterable[TokenSequence]) -> Iterator[StepBatch]:
            step, rows = first_step, []
            named: set[str] = set()
            for sequence in sequences:
                rows.append(sequence)
                if len(rows) == share:
                    bad = dict.fromkeys(row.bad_shard for row in rows if row.bad_shard is not None)
                    yield self._make_step(step, rows, tuple(name for name in bad if name not in named))
                    named.update(bad)
                    step, rows = step + 1, []

        return steps

    def _make_step(self, step: int, rows: list[TokenSequence], bad_shards: tuple[str, ...]) -> StepBatch:
        size = self.plan.micro_batch_size
        micro_batches = tuple(
            make_micro_batch(rows[first : first + size], size, self.plan.context_length, self.corpus.end_of_text_id)
            for first in range(0, len(rows), size)
        )
        return StepBatch(
            step,
            micro_batches,
            target_tokens=sum(row.target_tokens for row in rows),
            digest=digest_of(rows),
            skipped_sequences=sum(row.bad_shard is not None for row in rows),
            bad_shards=bad_shards,
        )


def validation_micro_batches(
    corpus: Corpus,
    plan: BatchPlan,
    *,
    rank: int,
    max_sequences: int | None = None,
) -> Iterator[MicroBatch]:
    """This rank's share of the validation split, once, in order; every rank yields the same number of micro-batches.

    The parts of a mixture follow one another, whatever their weights.

    Raises:
        ShardError: a shard is missing or does not verify, and ``corpus.on_bad_shard`` is ``error``.
        StorageError: a remote does not answer.
    """
    shards = corpus.split("validation")
    order = evaluation_order([rows_in(shard.entry.tokens, plan.context_length) for shard in shards])
    reader = SequenceReader(
        [shards],
        MixtureOrder([order]),
        context_length=plan.context_length,
        end_of_text_id=corpus.end_of_text_id,
        open_shards=2,
        on_bad_shard=corpus.on_bad_shard,
    )
    sequences = min(order.sequences_per_epoch, max_sequences or order.sequences_per_epoch)
    for cursors in evaluation_cursors(sequences, plan.micro_batch_size, rank, plan.ranks):
        rows = [reader.read(cursor, order.locate(cursor)) for cursor in cursors]
        yield make_micro_batch(rows, plan.micro_batch_size, plan.context_length, corpus.end_of_text_id)


_END = object()
_LEAVE_SECONDS = 5.0


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
        deadline = time.monotonic() + _LEAVE_SECONDS  # a remote that does not answer must not hold up who has to stop
        while self._thread.is_alive() and time.monotonic() < deadline:
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
        finally:
            close = getattr(self._steps, "close", None)  # of a generator; a stream then ends its threads as well
            if close is not None:
                close()
