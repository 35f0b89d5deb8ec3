"""The stream of examples: the same order for every number of ranks and every restart, each example once an epoch."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from framework.config import BatchPlan
from framework.data.stream import IGNORED_TARGET, Digest
from framework.plugins.lora.examples import (
    Example,
    ExampleStream,
    evaluation_batches,
    fingerprint_of,
    make_micro_batch,
)

GLOBAL_BATCH, PAD = 8, 0


def examples(count: int) -> list[Example]:
    """Of different lengths; the first token after end-of-text says which one it is."""
    made = []
    for number in range(count):
        tokens = np.array([PAD, number + 1, *range(100, 100 + number % 5)], dtype=np.int64)
        targets = np.full(len(tokens), IGNORED_TARGET, dtype=np.int64)
        targets[-1] = number % 3
        made.append(Example(tokens, targets))
    return made


def stream(
    count: int, *, ranks: int = 1, rank: int = 0, micro_batch_size: int = 2, grouped: bool = False
) -> ExampleStream:
    plan = BatchPlan(ranks, micro_batch_size, GLOBAL_BATCH // (ranks * micro_batch_size), GLOBAL_BATCH, 16)
    return ExampleStream(examples(count), plan, seed=5, rank=rank, pad_id=PAD, group_by_length=grouped)


def step_digests(count: int, steps: int, *, ranks: int, micro_batch_size: int, grouped: bool) -> list[Digest]:
    of_rank = [
        stream(count, ranks=ranks, rank=rank, micro_batch_size=micro_batch_size, grouped=grouped)
        for rank in range(ranks)
    ]
    each = [itertools.islice(one.steps(), steps) for one in of_rank]
    return [sum((batch.digest for batch in of_ranks), start=Digest()) for of_ranks in zip(*each, strict=True)]


@given(count=st.integers(2, 40), grouped=st.booleans())
def test_every_example_comes_once_an_epoch(count: int, grouped: bool) -> None:
    steps = itertools.islice(stream(count, grouped=grouped).steps(), count)  # 8 x count sequences: eight epochs
    seen = Counter(
        int(row[1]) - 1 for batch in steps for micro_batch in batch.micro_batches for row in micro_batch.input_ids
    )
    assert seen == Counter(dict.fromkeys(range(count), GLOBAL_BATCH))


@given(
    count=st.integers(2, 40),
    ranks=st.sampled_from([1, 2, 4]),
    micro_batch_size=st.sampled_from([1, 2]),
    grouped=st.booleans(),
)
def test_steps_do_not_depend_on_ranks_or_micro_batches(
    count: int, ranks: int, micro_batch_size: int, grouped: bool
) -> None:
    alone = step_digests(count, 5, ranks=1, micro_batch_size=8, grouped=grouped)
    assert step_digests(count, 5, ranks=ranks, micro_batch_size=micro_batch_size, grouped=grouped) == alone


@given(count=st.integers(2, 40), first=st.integers(0, 30), grouped=st.booleans())
def test_a_resumed_stream_goes_on_where_it_was(count: int, first: int, grouped: bool) -> None:
    whole = [batch.digest for batch in itertools.islice(stream(count, grouped=grouped).steps(), first + 3)]
    again = itertools.islice(stream(count, grouped=grouped).steps(first), 3)
    assert [batch.digest for batch in again] == whole[first:]


def test_grouped_steps_hold_texts_of_like_length_and_come_in_no_order_of_it() -> None:
    """Forty texts of five lengths are five whole steps: each of one length, and no two epochs alike."""
    lengths = [
        [example_length(row) for micro in batch.micro_batches for row in micro.input_ids]
        for batch in itertools.islice(stream(40, grouped=True).steps(), 10)
    ]
    assert all(len(set(step)) == 1 for step in lengths)
    epochs = [[step[0] for step in lengths[:5]], [step[0] for step in lengths[5:]]]
    assert sorted(epochs[0]) == sorted(epochs[1]) == [2, 3, 4, 5, 6]
    assert epochs[0] not in (sorted(epochs[0]), epochs[1])


def example_length(row: torch.Tensor) -> int:
    return 1 + int((row[1:] != PAD).sum())


def test_two_epochs_have_two_orders() -> None:
    batches = itertools.islice(stream(40).steps(), 10)
    rows = [int(row[1]) for batch in batches for micro in batch.micro_batches for row in micro.input_ids]
    assert sorted(rows[:40]) == sorted(rows[40:])
    assert rows[:40] != rows[40:]


def test_short_and_missing_rows_are_padding_that_asks_nothing() -> None:
    batch = make_micro_batch(examples(3)[1:], rows=4, pad_id=PAD)
    assert batch.input_ids.shape == batch.targets.shape == (4, 4)
    assert batch.input_ids[0].tolist() == [PAD, 2, 100, PAD]
    assert batch.targets[0].tolist() == [IGNORED_TARGET, IGNORED_TARGET, 1, IGNORED_TARGET]
    assert (batch.targets[2:] == IGNORED_TARGET).all()


@given(count=st.integers(1, 30), ranks=st.sampled_from([1, 2, 4]))
def test_evaluation_reads_every_example_once_and_all_ranks_as_many_batches(count: int, ranks: int) -> None:
    plan = BatchPlan(ranks, 2, 1, 2 * ranks, 16)
    each = [list(evaluation_batches(examples(count), plan, rank, PAD)) for rank in range(ranks)]
    assert len({len(batches) for batches in each}) == 1
    assert sorted(number for batches in each for numbers, _ in batches for number in numbers) == list(range(count))


def test_the_fingerprint_knows_inputs_targets_and_order() -> None:
    three = examples(3)
    other = Example(three[0].input_ids, three[0].targets + 1)
    prints = {fingerprint_of(each) for each in (three, three[::-1], three[:2], [other, *three[1:]])}
    assert len(prints) == 4
    assert fingerprint_of(examples(3)) == fingerprint_of(three)
