from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.data.mixture import LONGEST_ROUND, MixtureSchedule, whole_shares
from framework.errors import ConfigError

SHARES = st.lists(st.integers(1, 20), min_size=1, max_size=5)
LANES = st.integers(1, 12)


def parts_read(schedule: MixtureSchedule, cursors: int) -> list[int]:
    return [schedule.part_at(cursor) for cursor in range(cursors)]


# --- Counts ---


@given(shares=SHARES, lanes=LANES)
def test_after_every_cursor_each_part_is_within_one_of_its_weight(shares: list[int], lanes: int) -> None:
    length = sum(shares)
    counts = [0] * len(shares)
    for cursor, part in enumerate(parts_read(MixtureSchedule(shares, lanes), 3 * length), start=1):
        counts[part] += 1
        # |count - cursor x share / length| < 1, in whole numbers
        assert all(abs(count * length - cursor * share) < length for count, share in zip(counts, shares, strict=True))
    assert counts == [3 * share for share in shares]


def test_a_round_of_the_longest_length_keeps_within_one() -> None:
    shares = whole_shares([0.61803, 0.38196, 0.00001])
    schedule = MixtureSchedule(shares, 64)
    assert sum(shares) == LONGEST_ROUND
    for cursor in range(0, 3 * LONGEST_ROUND, 997):
        for part, share in enumerate(shares):
            assert abs(schedule.read_before(part, cursor) * LONGEST_ROUND - cursor * share) < LONGEST_ROUND


def test_a_schedule_is_pinned() -> None:
    assert parts_read(MixtureSchedule([5, 2, 1], 4), 10) == [0, 0, 1, 0, 0, 1, 0, 2, 0, 0]
    assert parts_read(MixtureSchedule([1], 4), 5) == [0] * 5
    assert parts_read(MixtureSchedule([1, 1, 1], 4), 6) == [0, 1, 2, 0, 1, 2]


# --- The closed forms, against counting ---


@given(shares=SHARES, lanes=LANES)
def test_every_answer_is_what_counting_gives(shares: list[int], lanes: int) -> None:
    schedule = MixtureSchedule(shares, lanes)
    cursors = math.lcm(sum(shares), lanes) + 2 * lanes
    cursors = min(cursors, 400)
    read = parts_read(schedule, cursors)
    for part in range(len(shares)):
        of_part = [cursor for cursor in range(cursors) if read[cursor] == part]
        assert [schedule.cursor_of(part, index) for index in range(len(of_part))] == of_part
        assert [schedule.read_before(part, cursor) for cursor in range(cursors)] == [
            sum(other < cursor for other in of_part) for cursor in range(cursors)
        ]
        for lane in range(lanes):
            visits = [cursor for cursor in of_part if cursor % lanes == lane]
            assert [schedule.visit(part, cursor) for cursor in visits] == list(range(len(visits)))
            assert [schedule.cursor_of_visit(part, lane, visit) for visit in range(len(visits))] == visits
        for cursor in range(0, cursors, 7):
            assert schedule.lane_read_before(part, cursor).tolist() == [
                sum(other < cursor and other % lanes == lane for other in of_part) for lane in range(lanes)
            ]


def test_a_lane_that_never_reads_a_part_says_so() -> None:
    schedule = MixtureSchedule([1, 1], 4)  # even lanes read the first, odd ones the second
    assert [schedule.cursor_of_visit(0, lane, 3) is None for lane in range(4)] == [False, True, False, True]


def test_far_cursors_are_answered_at_once_and_exactly() -> None:
    schedule, far = MixtureSchedule([7, 2, 1], 64), 10**15
    assert [schedule.read_before(part, far) for part in range(3)] == [7 * far // 10, 2 * far // 10, far // 10]
    part = schedule.part_at(far)
    assert schedule.cursor_of(part, schedule.read_before(part, far)) == far
    assert schedule.cursor_of_visit(part, far % 64, schedule.visit(part, far)) == far


# --- Weights ---


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ([1.0], (1,)),
        ([0.7, 0.2, 0.1], (7, 2, 1)),
        ([70, 20, 10], (7, 2, 1)),
        ([1e-3, 0.5], (1, 500)),
        ([2.5, 1.0], (5, 2)),
        ([3e4, 1e4], (3, 1)),
    ],
)
def test_weights_are_read_as_they_are_written(weights: list[float], shares: tuple[int, ...]) -> None:
    assert whole_shares(weights) == shares


def test_weights_that_are_not_round_are_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"0\.3333333.*rounder weights"):
        whole_shares([1 / 3, 0.5])
