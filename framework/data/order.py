"""Which sequence stands at which place of the run: a pure function of (shards, seed, lanes, cursor).

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

The documents *inside* a shard are put into a new order each epoch as well (``epoch_tokens``), and then cut into rows; a
row is therefore other text each epoch, while the number of rows stays the same. Why not a shuffle buffer:
docs/decisions/0001-order-is-a-pure-function.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

_EVALUATION_SEED = 0


@dataclass(frozen=True)
class Address:
    """Where one sequence stands: row ``row`` of shard number ``shard``, in that epoch's order of its documents."""

    epoch: int
    shard: int
    row: int


class SequenceOrder:
    """The order of the sequences of one run.

    Args:
        shard_rows: number of sequences in each shard, in the manifest's order.
        lanes: fixed logical streams; every world size that divides it sees the same order.
        seed: of the shuffle.
        shuffle: False keeps shards and documents in the manifest's order (for evaluation).
    """

    def __init__(self, shard_rows: Sequence[int], *, lanes: int, seed: int, shuffle: bool = True) -> None:
        if sum(shard_rows) < 1:
            raise ValueError("no sequences to put in order")
        self.shard_rows = np.asarray(shard_rows, dtype=np.int64)
        self.lanes = lanes
        self.seed = seed
        self.shuffle = shuffle
        self.sequences_per_epoch = int(self.shard_rows.sum())
        self._epoch_layout = lru_cache(maxsize=4)(self._compute_epoch_layout)

    def locate(self, cursor: int) -> Address:
        """The address of the sequence that the run consumes as number ``cursor`` (from 0)."""
        epoch, place = divmod(cursor, self.sequences_per_epoch)
        row_number = self._row_number(cursor - place, place)
        shards, ends = self._epoch_layout(epoch)
        index = int(np.searchsorted(ends, row_number, side="right"))
        shard = int(shards[index])
        return Address(epoch, shard, row_number - int(ends[index] - self.shard_rows[shard]))

    def _row_number(self, epoch_start: int, place: int) -> int:
        """Number of the row at ``place`` of the epoch that begins at cursor ``epoch_start``.

        Lanes are numbered from the one that the epoch's first cursor belongs to, so that an epoch may end anywhere
        without a lane losing its turn.
        """
        turn, lane = divmod(place, self.lanes)
        rows_per_lane, longer_lanes = divmod(self.sequences_per_epoch, self.lanes)
        return lane * rows_per_lane + min(lane, longer_lanes) + turn

    def _compute_epoch_layout(self, epoch: int) -> tuple[Integers, Integers]:
        """The shards in the epoch's order, and the number of rows up to the end of each."""
        count = len(self.shard_rows)
        shards = permutation(count, self.seed, "shards", epoch) if self.shuffle else np.arange(count, dtype=np.int64)
        return shards, np.cumsum(self.shard_rows[shards])


def step_cursors(step: int, global_batch_size: int, rank: int, world_size: int) -> range:
    """The cursors that ``rank`` consumes in step ``step`` (from 0), ascending."""
    first = step * global_batch_size
    return range(first + (rank - first) % world_size, first + global_batch_size, world_size)


def rows_in(tokens: int, context_length: int) -> int:
    """Sequences that a shard of so many tokens yields; the last one may be short, and is padded."""
    return -(-tokens // context_length)


def document_order(documents: int, order: SequenceOrder, address: Address) -> Integers:
    """[documents] int64: the order of a shard's documents in the epoch of ``address``."""
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
    """Validation sequences in the manifest's order, once."""
    return SequenceOrder(shard_rows, lanes=1, seed=_EVALUATION_SEED, shuffle=False)


def evaluation_cursors(sequences: int, micro_batch_size: int, rank: int, world_size: int) -> Iterator[list[int]]:
    """This rank's validation cursors, a micro-batch at a time; the same number of micro-batches on every rank.

    A list may be short or empty at the end; its missing rows are padding.
    """
    stride = micro_batch_size * world_size
    for first in range(0, sequences, stride):
        yield list(range(first + rank, min(first + stride, sequences), world_size))
