from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.data.cut import Cut, PartNumber, runs_of_files
from framework.errors import ConfigError

SIZES = st.lists(st.integers(0, 10**12), max_size=60)
PARTS = st.integers(1, 40)


@given(sizes=SIZES, parts=PARTS, batches=st.integers(0, 100))
def test_every_batch_is_done_by_exactly_one_part_that_reads_its_piece(
    sizes: list[int], parts: int, batches: int
) -> None:
    cut = Cut.of(sizes, parts)
    assert len(cut.owners) == len(sizes)
    for piece in range(len(sizes)):
        readers = [part for part in range(1, parts + 1) if cut.reads(part, piece)]
        assert readers == [cut.owners[piece]] or readers == list(range(1, parts + 1))
        assert {cut.owner(piece, batch) for batch in range(batches)} <= set(readers)


@given(sizes=SIZES, parts=PARTS)
def test_the_slowest_part_is_no_slower_than_if_all_were_dealt_out_or_all_shared(sizes: list[int], parts: int) -> None:
    def cost(owners: tuple[int | None, ...]) -> float:
        shared = sum(size for size, owner in zip(sizes, owners, strict=True) if owner is None)
        loads = [0] * (parts + 1)
        for size, owner in zip(sizes, owners, strict=True):
            loads[owner or 0] += size if owner else 0
        return max(loads) + shared / parts + 0.1 * shared

    found = cost(Cut.of(sizes, parts).owners)
    all_shared = cost((None,) * len(sizes))
    one_does_all = cost((1,) * len(sizes))
    assert found <= min(all_shared, one_does_all) * (1 + 1e-9)


def test_equal_files_are_dealt_out_and_one_large_file_is_shared() -> None:
    assert sorted(owner or 0 for owner in Cut.of([5] * 8, 4).owners) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert Cut.of([100], 4).owners == (None,)
    assert Cut.of([100], 1).owners == (1,)
    assert Cut.of([1000, 10, 10], 2).owners[0] is None
    assert None not in Cut.of([1000, 10, 10], 2).owners[1:]
    assert {Cut.of([100], 4).owner(0, batch) for batch in range(4)} == {1, 2, 3, 4}


@given(sizes=st.lists(st.integers(0, 10**9), max_size=60), parts=PARTS)
def test_runs_of_files_are_all_files_in_their_order(sizes: list[int], parts: int) -> None:
    runs = list(runs_of_files(sizes, parts, sum(sizes)))
    assert [file for first, end in runs for file in range(first, end)] == list(range(len(sizes)))
    assert all(first < end for first, end in runs)


def test_small_files_are_dealt_out_together_if_there_are_many() -> None:
    assert len(list(runs_of_files([1000] * 5, 4, 5000))) == 5
    assert len(list(runs_of_files([1000] * 100_000, 2, 10**8))) == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2", "'2' is not K/N"),
        ("a/b", "is not K/N"),
        ("-1/4", "is not K/N"),
        ("1/4 ", "is not K/N"),
        ("1/", "is not K/N"),
        ("1.5/4", "is not K/N"),
        ("\N{ARABIC-INDIC DIGIT ONE}/4", "is not K/N"),
        ("0/4", "counted from 1 to 4"),
        ("5/4", "counted from 1 to 4"),
        ("0/0", "there are no parts"),
        ("1/0", "there are no parts"),
    ],
)
def test_what_is_no_part_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PartNumber.parse(text)


def test_a_part_is_read_as_it_is_written() -> None:
    assert PartNumber.parse("3/12") == PartNumber(3, 12)
    assert str(PartNumber(3, 12)) == "3/12"
