"""Which sequence stands at which place of the run: a pure function of (shards, weights, seed, lanes, cursor).

The *cursor* counts the sequences that the whole run has consumed; step ``t`` consumes the cursors
``[t x global_batch_size, (t + 1) x global_batch_size)``. Cursor ``c`` belongs to *lane* ``c mod lanes`` for ever, and a rank
owns the lanes that are congruent to it modulo the world size. As the world size divides the number of lanes, cursor
``c`` is read by rank ``c mod world_size``: whatever the world size, a step consumes the same sequences.

Within one epoch, with ``rows`` sequences in all::

    shards in the epoch's order   | shard 5      | shard 0   | shard 3           | ...        each: its rows in order
    the rows, numbered            0 ...................................... rows - 1
    cut evenly into lanes         | lane 0 | lane 1 | lane 2 | ...                           sizes differ by at most one

so each lane reads few shards, one after another, every row stands in exactly one lane, and to find the place of any
cursor takes one division and one binary search: nothing that was skipped is read to resume.

In a mixture, each part has an order and epochs of its own over the cursors that ``framework.data.mixture`` gives it; its rows
are cut into lanes by how often each lane reads it in that epoch. A single set is the mixture of one part.

The documents *inside* a shard are put into a new order each epoch as well (``epoch_tokens``), and then cut into rows; a
row is therefore other text each epoch, while the number of rows stays the same. Why not a shuffle buffer:
docs/decisions/0001-order-is-a-pure-function.md.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from framework.data.mixture import Integers, MixtureSchedule

_EVALUATION_SEED = 0


class Address(NamedTuple):
    """Where one sequence stands: row ``row`` of shard number ``shard``, in that epoch's order of its documents.

    ``part`` says which part of a mixture the epoch and the shard are of.
    """

    epoch: int
    shard: int
    row: int
    part: int = 0


@dataclass(frozen=True)
class _EpochLayout:
    """One epoch of one part.

    ``shards`` are in the epoch's order, and ``shard_ends`` is the number of rows up to the end of each. A lane's visit number v
    (of all its visits to the part, from the run's first) is row ``lane_offsets[lane] + v``; its rows end at ``lane_ends[lane]``.
    """

    shards: Integers
    shard_ends: Integers
    lane_offsets: list[int]
    lane_ends: list[int]


class SequenceOrder:
    """The order of the sequences of one part.

    Args:
        shard_rows: number of sequences in each shard, in the manifest's order.
        lanes: fixed logical streams; every world size that divides it sees the same order.
        seed: of the shuffle.
        shuffle: False keeps shards and documents in the manifest's order (for evaluation).
        schedule: which cursors the part is read at; by default all.
        part: its number there.
    """

    def __init__(
        self,
        shard_rows: Sequence[int],
        *,
        lanes: int,
        seed: int,
        shuffle: bool = True,
        schedule: MixtureSchedule | None = None,
        part: int = 0,
    ) -> None:
        if sum(shard_rows) < 1:
            raise ValueError("no sequences to put in order")
        self.shard_rows = np.asarray(shard_rows, dtype=np.int64)
        self.lanes = lanes
        self.seed = seed
        self.shuffle = shuffle
        self.sequences_per_epoch = int(self.shard_rows.sum())
        self._schedule = schedule or MixtureSchedule([1], lanes)
        self._part = part
        self._epoch_layout = lru_cache(maxsize=4)(self._compute_epoch_layout)

    def locate(self, cursor: int) -> Address:
        """The address of the sequence that the run consumes as number ``cursor`` (from 0); the part is read there."""
        return self.run_at(cursor)[0]

    def openings(self, lane: int, cursor: int) -> Iterator[tuple[int, Address]]:
        """From ``cursor`` on, for ever: where ``lane`` begins to read a shard. Nothing between is looked at."""
        visit = self._visits_before(lane, cursor)
        while (at := self._schedule.cursor_of_visit(self._part, lane, visit)) is not None:
            address, rows_left = self.run_at(at)
            yield at, address
            visit += rows_left

    def _visits_before(self, lane: int, cursor: int) -> int:
        return int(self._schedule.lane_read_before(self._part, cursor)[lane])

    def run_at(self, cursor: int) -> tuple[Address, int]:
        """The address of ``cursor``, and how many of its shard's rows its lane still reads in this epoch, it included."""
        epoch = self._schedule.read_before(self._part, cursor) // self.sequences_per_epoch
        layout = self._epoch_layout(epoch)
        lane = cursor % self.lanes
        row_number = layout.lane_offsets[lane] + self._schedule.visit(self._part, cursor)
        index = int(np.searchsorted(layout.shard_ends, row_number, side="right"))
        shard, shard_end = int(layout.shards[index]), int(layout.shard_ends[index])
        row = row_number - (shard_end - int(self.shard_rows[shard]))
        return Address(epoch, shard, row, self._part), min(shard_end, layout.lane_ends[lane]) - row_number

    def _compute_epoch_layout(self, epoch: int) -> _EpochLayout:
        """Lanes are numbered from the one that the epoch's first cursor belongs to, so that an epoch may end anywhere
        without a lane losing its turn; each gets as many rows as it reads in this epoch."""
        count = len(self.shard_rows)
        shards = permutation(count, self.seed, "shards", epoch) if self.shuffle else np.arange(count, dtype=np.int64)
        first = self._schedule.cursor_of(self._part, epoch * self.sequences_per_epoch)
        end = self._schedule.cursor_of(self._part, (epoch + 1) * self.sequences_per_epoch)
        before = self._schedule.lane_read_before(self._part, first)
        rows = self._schedule.lane_read_before(self._part, end) - before
        in_turn = (first + np.arange(self.lanes)) % self.lanes
        ends = np.empty(self.lanes, dtype=np.int64)
        ends[in_turn] = np.cumsum(rows[in_turn])
        return _EpochLayout(shards, np.cumsum(self.shard_rows[shards]), (ends - rows - before).tolist(), ends.tolist())


class MixtureOrder:
    """The order of the sequences of one run: which part each cursor reads, and where in it.

    Args:
        parts: the order of each, made with ``schedule`` and its number.
        schedule: which part reads when; for one part, it may be left out.
    """

    def __init__(self, parts: Sequence[SequenceOrder], schedule: MixtureSchedule | None = None) -> None:
        self.parts = tuple(parts)
        self._schedule = schedule or MixtureSchedule([1], self.parts[0].lanes)

    def locate(self, cursor: int) -> Address:
        """The address of the sequence that the run consumes as number ``cursor`` (from 0)."""
        return self.parts[self._schedule.part_at(cursor)].locate(cursor)

    def walk(self, cursors: Iterable[int]) -> Iterator[tuple[int, Address]]:
        """Each of ``cursors`` with its address; those of a lane come ascending, none left out.

        The same as ``locate``, but a lane reads row after row: only where it comes to another shard is its place worked out.
        """
        lanes = self.parts[0].lanes
        runs: dict[tuple[int, int], tuple[Address, int]] = {}
        for cursor in cursors:
            part = self._schedule.part_at(cursor)
            lane = cursor % lanes
            run = runs.get((lane, part))
            if run is not None and run[1] > 1:
                last, rows_left = run
                run = Address(last.epoch, last.shard, last.row + 1, part), rows_left - 1
            else:
                run = self.parts[part].run_at(cursor)
            runs[lane, part] = run
            yield cursor, run[0]

    def openings(
        self, lanes: Iterable[int], cursor: int, parts: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Address]]:
        """From ``cursor`` on, for ever, ascending: the cursors at which one of ``lanes`` begins to read a shard, of all parts or
        of those with the numbers ``parts``. It ends at once where no lane reads any of them."""
        chosen = self.parts if parts is None else [self.parts[part] for part in parts]
        each = [part.openings(lane, cursor) for lane in lanes for part in chosen]
        return heapq.merge(*each, key=itemgetter(0))


def mixture_order(parts: Sequence[Sequence[int]], shares: Sequence[int], *, lanes: int, seed: int) -> MixtureOrder:
    """The training order of parts with ``parts[i]`` sequences in each shard, read ``shares[i]`` times in each round.

    Each part shuffles with a seed of its own: two that hold the same shards are not read side by side.
    """
    schedule = MixtureSchedule(shares, lanes)
    orders = [
        SequenceOrder(rows, lanes=lanes, seed=seed + number, schedule=schedule, part=number)
        for number, rows in enumerate(parts)
    ]
    return MixtureOrder(orders, schedule)


def step_cursors(step: int, global_batch_size: int, rank: int, world_size: int) -> range:
    """The cursors that ``rank`` consumes in step ``step`` (from 0), ascending."""
    first = step * global_batch_size
    return range(first + (rank - first) % world_size, first + global_batch_size, world_size)


def rows_in(tokens: int, context_length: int) -> int:
    """Sequences that a shard of so many tokens yields; the last one may be short, and is padded."""
    return -(-tokens // context_length)


def document_order(documents: int, order: SequenceOrder, address: Address) -> Integers:
    """[documents] int64: the order of a shard's documents in the epoch of ``address``; ``order`` is its part's."""
    if not order.shuffle:
        return np.arange(documents, dtype=np.int64)
    return permutation(documents, order.seed, "documents", address.epoch, address.shard)


def permutation(count: int, *key: int | str) -> Integers:
    """[count] int64: a random permutation of ``range(count)`` that depends on ``key`` alone.

    Sorts SplitMix64 values (Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195): numpy's own shuffles may change
    between releases, and this order must not.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    with np.errstate(over="ignore"):
        state = np.uint64(int.from_bytes(digest, "little")) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return np.argsort(state, kind="stable").astype(np.int64)


def evaluation_order(shard_rows: Sequence[int]) -> SequenceOrder:
    """Validation sequences in the manifests' order, once."""
    return SequenceOrder(shard_rows, lanes=1, seed=_EVALUATION_SEED, shuffle=False)


def evaluation_cursors(sequences: int, micro_batch_size: int, rank: int, world_size: int) -> Iterator[list[int]]:
    """This rank's validation cursors, a micro-batch at a time; the same number of micro-batches on every rank.

    A list may be short or empty at the end; its missing rows are padding.
    """
    stride = micro_batch_size * world_size
    for first in range(0, sequences, stride):
        yield list(range(first + rank, min(first + stride, sequences), world_size))
