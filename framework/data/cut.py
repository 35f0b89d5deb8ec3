"""Which part of a ``prepare`` in N parts does what: a pure function that every part computes for itself.

The text is a row of pieces (runs of files), a piece is a row of batches. A piece belongs to one part, which alone reads
it; or it is shared: every part reads it, and tokenizes every N-th of its batches. Sharing costs reading, and is chosen
where whole pieces cannot be dealt out evenly, such as one large file.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from framework.errors import ConfigError

PIECE_BYTES = 16 * 1024 * 1024
"""Small files are dealt out in runs of this size, so that batches are full."""
PIECES_PER_PART = 16
"""But there are so many runs for each part, where there are so many files: few would be dealt out unevenly."""
_TOKENIZING_COST = 10
"""Of a byte, when reading and hashing it costs 1. Measured: 29 to 53 on 2 cores with tokenizers, 1 to 2 with gigatoken. All
machines must cut alike, whatever they have installed."""


@dataclass(frozen=True, order=True)
class PartNumber:
    """``number`` counts from 1 to ``of``."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> PartNumber:
        """Reads "2/4".

        Raises:
            ConfigError: it is something else, or there is no such part.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            raise ConfigError(
                f"--part {text!r} is not K/N", fix="write the part and how many there are, such as --part 1/4"
            )
        number, of = int(match[1]), int(match[2])
        if of < 1:
            raise ConfigError(
                f"--part {text}: there are no parts", fix="divide into one part or more, such as --part 1/4"
            )
        if not 1 <= number <= of:
            raise ConfigError(
                f"--part {text}: parts are counted from 1 to {of}", fix=f"write --part 1/{of} to --part {of}/{of}"
            )
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class Cut:
    """``owners`` has the part that each piece belongs to, counted from 1, or None where all share it."""

    owners: tuple[int | None, ...]
    parts: int

    @classmethod
    def of(cls, sizes: Sequence[int], parts: int) -> Cut:
        """Deals out pieces of these sizes, each in the same unit, so that the slowest part is early."""
        order = sorted(range(len(sizes)), key=lambda piece: (-sizes[piece], piece))
        shared = _count_to_share([sizes[piece] for piece in order], parts)
        owners: list[int | None] = [None] * len(sizes)
        for piece, part in zip(order[shared:], _deal([sizes[piece] for piece in order[shared:]], parts), strict=True):
            owners[piece] = part + 1
        return cls(tuple(owners), parts)

    def reads(self, part: int, piece: int) -> bool:
        """Whether the part has anything to do with the piece."""
        return self.owners[piece] in (None, part)

    def owner(self, piece: int, batch: int) -> int:
        """The one part that tokenizes a batch."""
        owner = self.owners[piece]
        return (piece + batch) % self.parts + 1 if owner is None else owner

    def fingerprint(self, batch_bytes: int) -> str:
        """SHA-256, in hex, of all that parts must cut alike."""
        return hashlib.sha256(json.dumps([self.parts, self.owners, batch_bytes]).encode()).hexdigest()


def runs_of_files(sizes: Sequence[int], parts: int, total: int) -> Iterator[tuple[int, int]]:
    """Consecutive files as pieces, [first, behind the last]; ``total`` is the size of all text, in bytes."""
    wanted = max(1, min(PIECE_BYTES, total // (parts * PIECES_PER_PART)))
    first = size = 0
    for file, file_bytes in enumerate(sizes, start=1):
        size += file_bytes
        if size >= wanted or file == len(sizes):
            yield first, file
            first, size = file, 0


def _count_to_share(sizes: Sequence[int], parts: int) -> int:
    """How many of the largest pieces are better shared; ``sizes`` go down. Whole numbers: every machine finds the same."""
    best, best_cost = 0, None
    shared_size = 0
    for shared in range(len(sizes) + 1):
        reading = parts * shared_size
        if best_cost is not None and _TOKENIZING_COST * sum(sizes) + reading >= best_cost:
            break  # even dealt out perfectly, it would take no less
        rest = sizes[shared:]
        loads = [0] * parts
        for size, part in zip(rest, _deal(rest, parts), strict=True):
            loads[part] += size
        cost = _TOKENIZING_COST * (parts * max(loads) + shared_size) + reading
        if best_cost is None or cost < best_cost:
            best, best_cost = shared, cost
        if shared < len(sizes):
            shared_size += sizes[shared]
    return best


def _deal(sizes: Sequence[int], parts: int) -> list[int]:
    """Each in its turn to the part with the least so far, counted from 0 (Graham 1969: at most 4/3 of the best)."""
    heap = [(0, part) for part in range(parts)]
    dealt = []
    for size in sizes:
        load, part = heap[0]
        heapq.heapreplace(heap, (load + size, part))
        dealt.append(part)
    return dealt
