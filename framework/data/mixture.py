"""Which part of a mixture each cursor reads: a pure function of the weights.

The parts take turns in *rounds*. The weights, as whole numbers without a common divisor (``shares``), say how often each
part is read in one round, and rounds repeat for ever. Weights 5 : 2 : 1 give rounds of 8::

    cursor   0 1 2 3 4 5 6 7 | 8 9 ...
    part     0 0 1 0 0 1 0 2 | 0 0 ...

With w for a part's share of the round, its sequence number j (from 1) may stand from cursor floor((j - 1) / w) on, and must
stand before cursor ceil(j / w); of those that may stand at a cursor, the one that must come soonest does. Such a schedule
always exists, and after any n cursors each part has been read within one of n x w times (Baruah, Cohen, Plaxton & Varvel
1996, "Proportionate progress", doi:10.1007/BF01940883). A single set is the mixture of one part.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from framework.errors import ConfigError

Integers = npt.NDArray[np.int64]

LONGEST_ROUND = 100_000
"""A round is laid out in memory; weights that need a longer one are told to be rounder."""


def whole_shares(weights: Sequence[float]) -> tuple[int, ...]:
    """The weights as whole numbers without a common divisor; 0.1 is one tenth exactly, as it was written.

    Raises:
        ConfigError: they need a round longer than ``LONGEST_ROUND``.
    """
    fractions = [Fraction(str(weight)) for weight in weights]
    denominator = math.lcm(*(fraction.denominator for fraction in fractions))
    numbers = [int(fraction * denominator) for fraction in fractions]
    divisor = math.gcd(*numbers)
    shares = tuple(number // divisor for number in numbers)
    if sum(shares) > LONGEST_ROUND:
        written = ", ".join(str(weight) for weight in weights)
        raise ConfigError(
            f"the weights {written} of data.mixture are whole only in a round of {sum(shares):,} sequences, and "
            f"{LONGEST_ROUND:,} is the longest",
            fix="give rounder weights, such as 70, 25 and 5",
        )
    return shares


class MixtureSchedule:
    """Who reads when, and how often up to any cursor, in all or in one lane. Every answer takes constant time.

    Args:
        shares: of each part in one round, whole numbers above 0.
        lanes: as ``data.lanes``; cursor c belongs to lane ``c mod lanes``.
    """

    def __init__(self, shares: Sequence[int], lanes: int) -> None:
        self.shares = tuple(shares)
        self.lanes = lanes
        self._round = sum(shares)
        turns = _deal(self.shares)
        self._part_at: list[int] = turns.tolist()
        belongs = [turns == part for part in range(len(self.shares))]
        self._places = [np.flatnonzero(mine) for mine in belongs]
        self._earlier = [_counted(mine) for mine in belongs]
        # A lane comes to every lanes-th place of the round after round, and so walks around a cycle of some of its places.
        cycles = math.gcd(self._round, lanes)
        self._cycle_length = self._round // cycles
        walk = (np.arange(cycles)[:, None] + np.arange(self._cycle_length) * lanes) % self._round
        step_of_place = np.empty(self._round, dtype=np.int64)
        step_of_place[walk] = np.arange(self._cycle_length)
        every_lane = np.arange(lanes)
        self._cycle = every_lane % cycles
        self._first_step = step_of_place[every_lane % self._round]
        self._visits = [_counted(mine[walk]) for mine in belongs]

    def part_at(self, cursor: int) -> int:
        """The part that ``cursor`` reads."""
        return self._part_at[cursor % self._round]

    def read_before(self, part: int, cursor: int) -> int:
        """How many of the cursors below ``cursor`` read ``part``."""
        rounds, place = divmod(cursor, self._round)
        return rounds * self.shares[part] + int(self._earlier[part][place])

    def cursor_of(self, part: int, index: int) -> int:
        """The cursor that reads ``part`` for the time ``index`` (from 0)."""
        rounds, visit = divmod(index, self.shares[part])
        return rounds * self._round + int(self._places[part][visit])

    def lane_read_before(self, part: int, cursor: int) -> Integers:
        """[lanes] int64: how many of each lane's cursors below ``cursor`` read ``part``."""
        turns = (cursor - np.arange(self.lanes) + self.lanes - 1) // self.lanes
        cycles, steps = np.divmod(self._first_step + turns, self._cycle_length)
        visits = self._visits[part]
        in_whole_cycles: Integers = cycles * visits[self._cycle, -1]
        return in_whole_cycles + visits[self._cycle, steps] - visits[self._cycle, self._first_step]

    def visit(self, part: int, cursor: int) -> int:
        """How many earlier cursors of the same lane read ``part``."""
        turn, lane = divmod(cursor, self.lanes)
        first = int(self._first_step[lane])
        cycles, step = divmod(first + turn, self._cycle_length)
        visits = self._visits[part][self._cycle[lane]]
        return cycles * int(visits[-1]) + int(visits[step]) - int(visits[first])

    def cursor_of_visit(self, part: int, lane: int, visit: int) -> int | None:
        """The cursor at which ``lane`` reads ``part`` for the time ``visit`` (from 0); None if it never does."""
        visits = self._visits[part][self._cycle[lane]]
        a_cycle = int(visits[-1])
        if a_cycle == 0:
            return None
        first = int(self._first_step[lane])
        cycles, rest = divmod(int(visits[first]) + visit, a_cycle)
        step = int(np.searchsorted(visits, rest, side="right")) - 1
        return (cycles * self._cycle_length + step - first) * self.lanes + lane


def _deal(shares: tuple[int, ...]) -> Integers:
    """[round] int64: the part at each place, the most urgent of those that may come (see the module)."""
    length = sum(shares)
    turns = np.empty(length, dtype=np.int64)
    done = [0] * len(shares)
    waiting = [(0, part) for part in range(len(shares))]  # (first place it may take, part)
    ready: list[tuple[int, int]] = []  # (place before which it must come, part)
    for place in range(length):
        while waiting and waiting[0][0] <= place:
            part = heapq.heappop(waiting)[1]
            heapq.heappush(ready, (-(-(done[part] + 1) * length // shares[part]), part))
        latest, part = heapq.heappop(ready)
        assert place < latest
        turns[place] = part
        done[part] += 1
        if done[part] < shares[part]:
            heapq.heappush(waiting, (done[part] * length // shares[part], part))
    return turns


def _counted(mine: npt.NDArray[np.bool_]) -> Integers:
    """[..., places + 1] int64: how many of the places before each are ``mine`` [..., places]."""
    counted = np.zeros((*mine.shape[:-1], mine.shape[-1] + 1), dtype=np.int64)
    np.cumsum(mine, axis=-1, out=counted[..., 1:])
    return counted
