from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from framework.config.batch import BatchPlan
from framework.data.manifest import ShardManifest
from framework.data.order import rows_in
from framework.data.shards import read_shard
from framework.data.stream import (
    IGNORED_TARGET,
    Digest,
    MicroBatch,
    Prefetcher,
    StepBatch,
    TokenSequence,
    TrainStream,
    digest_of,
    validation_micro_batches,
)
from framework.errors import ShardError

WriteShards = Callable[..., ShardManifest]
CONTEXT = 8
LANES = 8
GLOBAL_BATCH = 8


def make_shards(shards: int = 5, seed: int = 0) -> list[list[list[int]]]:
    random = np.random.default_rng(seed)
    return [
        [random.integers(1, 60_000, size=random.integers(1, 30)).tolist() for _ in range(random.integers(3, 12))]
        for _ in range(shards)
    ]


def plan_of(ranks: int = 1, micro: int = 4, context: int = CONTEXT, batch: int = GLOBAL_BATCH) -> BatchPlan:
    return BatchPlan(ranks, micro, batch // (micro * ranks), batch, context)


def stream_of(
    folder: Path, manifest: ShardManifest, *, rank: int = 0, lanes: int = LANES, seed: int = 7, plan: BatchPlan
) -> TrainStream:
    return TrainStream(folder, manifest, plan, lanes=lanes, seed=seed, rank=rank)


def take(stream: TrainStream, steps: int, first: int = 0) -> list[StepBatch]:
    return list(itertools.islice(stream.steps(first), steps))


def rows_of(batches: list[StepBatch]) -> Iterator[tuple[list[int], list[int]]]:
    for batch in batches:
        for micro in batch.micro_batches:
            yield from zip(micro.input_ids.tolist(), micro.targets.tolist(), strict=True)


def targets_of(rows: list[tuple[list[int], list[int]]]) -> Counter[int]:
    return Counter(target for _, targets in rows for target in targets if target != IGNORED_TARGET)


def tokens_of(shards: list[list[list[int]]]) -> Counter[int]:
    return Counter(token for documents in shards for document in documents for token in [*document, 0])


def equal(first: StepBatch, second: StepBatch) -> bool:
    return (first.step, first.digest, first.target_tokens) == (
        second.step,
        second.digest,
        second.target_tokens,
    ) and all(
        torch.equal(mine.input_ids, theirs.input_ids) and torch.equal(mine.targets, theirs.targets)
        for mine, theirs in zip(first.micro_batches, second.micro_batches, strict=True)
    )


@pytest.fixture
def shards(tmp_path: Path, write_shards: WriteShards) -> tuple[Path, ShardManifest]:
    return tmp_path / "shards", write_shards(tmp_path / "shards", make_shards(), make_shards(2, seed=1))


# --- What the rows are ---


def test_the_worked_example(tmp_path: Path, write_shards: WriteShards) -> None:
    manifest = write_shards(tmp_path, [], [[[5, 6, 7], [8, 9]]])
    (batch,) = validation_micro_batches(tmp_path, manifest, plan_of(micro=2, context=4, batch=2), rank=0)
    assert batch.input_ids.tolist() == [[0, 5, 6, 7], [0, 8, 9, 0]]
    assert batch.targets.tolist() == [[5, 6, 7, 0], [8, 9, 0, IGNORED_TARGET]]
    assert batch.input_ids.dtype == batch.targets.dtype == torch.int64


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_every_token_is_a_target_exactly_once_in_every_epoch(
    tmp_path: Path, write_shards: WriteShards, dtype: str
) -> None:
    shards = make_shards()
    manifest = write_shards(tmp_path, shards, dtype=dtype)
    stream = stream_of(tmp_path, manifest, plan=plan_of())
    an_epoch = sum(rows_in(entry.tokens, CONTEXT) for entry in manifest.shards)
    rows = list(rows_of(take(stream, -(-3 * an_epoch // GLOBAL_BATCH))))
    for epoch in range(3):
        assert targets_of(rows[epoch * an_epoch : (epoch + 1) * an_epoch]) == tokens_of(shards)


def test_an_input_is_what_came_before_its_target(shards: tuple[Path, ShardManifest]) -> None:
    folder, manifest = shards
    follows = {(0, document[0]) for documents in make_shards() for document in documents}
    follows |= {
        pair for documents in make_shards() for document in documents for pair in itertools.pairwise([*document, 0])
    }
    pairs = {
        (before, target)
        for inputs, targets in rows_of(take(stream_of(folder, manifest, plan=plan_of()), 40))
        for before, target in zip(inputs, targets, strict=True)
        if target != IGNORED_TARGET
    }
    assert pairs == follows


def test_padding_stands_only_at_the_end_of_a_shard(shards: tuple[Path, ShardManifest]) -> None:
    folder, manifest = shards
    stream = stream_of(folder, manifest, plan=plan_of())
    order = stream.order
    rows = list(rows_of(take(stream, order.sequences_per_epoch // GLOBAL_BATCH)))
    padded = 0
    for cursor, (inputs, targets) in enumerate(rows):
        address = order.locate(cursor)
        entry = manifest.split("train")[address.shard]
        is_last = address.row == rows_in(entry.tokens, CONTEXT) - 1
        count = entry.tokens - address.row * CONTEXT if is_last else CONTEXT
        assert [target == IGNORED_TARGET for target in targets] == [place >= count for place in range(CONTEXT)]
        assert inputs[count:] == [0] * (CONTEXT - count)
        padded += count < CONTEXT
    assert 0 < padded <= len(manifest.split("train"))


def test_target_tokens_counts_what_is_not_padding(shards: tuple[Path, ShardManifest]) -> None:
    for batch in take(stream_of(*shards, plan=plan_of(ranks=2, micro=2), rank=1), 20):
        assert batch.target_tokens == sum(int((micro.targets != IGNORED_TARGET).sum()) for micro in batch.micro_batches)


# --- Independent of ranks and micro-batches ---


@pytest.mark.parametrize(("ranks", "micro"), [(1, 1), (1, 8), (2, 4), (2, 1), (4, 2), (8, 1)])
def test_sequences_and_digests_do_not_depend_on_ranks_or_micro_batches(
    shards: tuple[Path, ShardManifest], ranks: int, micro: int
) -> None:
    steps = 25
    alone = take(stream_of(*shards, plan=plan_of()), steps)
    shares = [take(stream_of(*shards, plan=plan_of(ranks, micro), rank=rank), steps) for rank in range(ranks)]
    for step, parts in enumerate(zip(*shares, strict=True)):
        assert sum((part.digest for part in parts), start=Digest()) == alone[step].digest
        assert sum(part.target_tokens for part in parts) == alone[step].target_tokens
        assert all(len(part.micro_batches) == GLOBAL_BATCH // (ranks * micro) for part in parts)
        assert all(each.input_ids.shape == (micro, CONTEXT) for part in parts for each in part.micro_batches)
        together = sorted(row for part in parts for row in rows_of([part]))
        assert together == sorted(rows_of([alone[step]]))


def test_digests_differ_from_step_to_step_and_from_seed_to_seed(shards: tuple[Path, ShardManifest]) -> None:
    first = [str(batch.digest) for batch in take(stream_of(*shards, plan=plan_of()), 20)]
    other = [str(batch.digest) for batch in take(stream_of(*shards, plan=plan_of(), seed=8), 20)]
    assert len({*first, *other}) == 40
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in first)


def test_one_changed_token_changes_the_digest_of_its_step_alone(tmp_path: Path, write_shards: WriteShards) -> None:
    shards = make_shards()
    before = write_shards(tmp_path / "before", shards)
    shards[2][1][0] ^= 1
    after = write_shards(tmp_path / "after", shards)
    plan = plan_of()
    steps = stream_of(tmp_path / "before", before, plan=plan).order.sequences_per_epoch // GLOBAL_BATCH
    pairs = zip(
        take(stream_of(tmp_path / "before", before, plan=plan), steps),
        take(stream_of(tmp_path / "after", after, plan=plan), steps),
        strict=True,
    )
    differing = [mine for mine, theirs in pairs if mine.digest != theirs.digest]
    # The token is a target in one row, and perhaps the first input of the next: the rows stand in one or two steps.
    assert 1 <= len(differing) <= 2


def test_two_sequences_that_swap_places_change_the_digest() -> None:
    first, second = np.array([1, 2, 3]), np.array([4, 5, 6])
    straight = digest_of(TokenSequence(10, first)) + digest_of(TokenSequence(11, second))
    swapped = digest_of(TokenSequence(10, second)) + digest_of(TokenSequence(11, first))
    assert straight != swapped
    assert straight == digest_of(TokenSequence(11, second)) + digest_of(TokenSequence(10, first))


def test_digests_are_pinned() -> None:
    sequences = [TokenSequence(0, np.array([1, 2, 3])), TokenSequence(2**40, np.array([65_535, 0, 70_000]))]
    assert [str(digest_of(each)) for each in sequences] == ["009e9b1eaa390c12", "f34cab546cd70cdc"]
    assert str(Digest(2**32 - 1, 5) + Digest(2, 2**32 - 3)) == "0000000100000002"


def test_a_digest_does_not_depend_on_the_dtype_of_the_shards(tmp_path: Path, write_shards: WriteShards) -> None:
    digests = []
    for dtype in ("uint16", "uint32"):
        manifest = write_shards(tmp_path / dtype, make_shards(), dtype=dtype)
        digests.append([batch.digest for batch in take(stream_of(tmp_path / dtype, manifest, plan=plan_of()), 10)])
    assert digests[0] == digests[1]


# --- Resuming ---


@pytest.mark.parametrize("first", [1, 7, 30, 101])
def test_starting_at_a_step_is_the_same_as_skipping_to_it(shards: tuple[Path, ShardManifest], first: int) -> None:
    stream = stream_of(*shards, plan=plan_of(ranks=2), rank=1)
    resumed, skipped = take(stream, 5, first), take(stream, first + 5)[first:]
    assert all(itertools.starmap(equal, zip(resumed, skipped, strict=True)))


def needed_shards(stream: TrainStream, first: int, steps: int) -> set[str]:
    cursors = [
        cursor
        for cursor in range(first * GLOBAL_BATCH, (first + steps) * GLOBAL_BATCH)
        if cursor % stream.plan.ranks == stream.rank
    ]
    entries = stream.manifest.split("train")
    return {entries[stream.order.locate(cursor).shard].name for cursor in cursors}


@pytest.mark.parametrize("rank", range(4))
def test_a_resumed_rank_opens_only_the_shards_of_its_lanes_from_there_on(
    tmp_path: Path, write_shards: WriteShards, rank: int
) -> None:
    manifest = write_shards(tmp_path, make_shards(12))
    stream = stream_of(tmp_path, manifest, plan=plan_of(ranks=4, micro=2), rank=rank)
    expected = take(stream, 6)[3:]
    needed = needed_shards(stream, 3, 3)
    for entry in manifest.shards:
        if entry.name not in needed:
            (tmp_path / entry.name).unlink()
    assert len(needed) < len(manifest.shards)
    assert all(itertools.starmap(equal, zip(take(stream, 3, first=3), expected, strict=True)))


# --- Damaged shards ---


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink], ids=["truncated", "flipped", "missing"])
def test_a_damaged_shard_is_an_error_that_names_it(
    shards: tuple[Path, ShardManifest], damage: Callable[[Path], object]
) -> None:
    folder, manifest = shards
    damage(folder / "train-000003.tar")
    with pytest.raises(ShardError, match=r"train-000003\.tar"):
        take(stream_of(folder, manifest, plan=plan_of()), 40)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit], ids=["truncated", "flipped"])
def test_a_damaged_validation_shard_is_an_error_that_names_it(
    shards: tuple[Path, ShardManifest], damage: Callable[[Path], object]
) -> None:
    folder, manifest = shards
    damage(folder / "validation-000001.tar")
    with pytest.raises(ShardError, match=r"validation-000001\.tar"):
        list(validation_micro_batches(folder, manifest, plan_of(), rank=0))


# --- Prefetching ---


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "data-prefetch"]


def test_prefetched_batches_are_the_same_in_the_same_order(shards: tuple[Path, ShardManifest]) -> None:
    stream = stream_of(*shards, plan=plan_of())
    with Prefetcher(iter(take(stream, 15)), depth=3, pin_memory=False) as prefetched:
        assert all(itertools.starmap(equal, zip(prefetched, take(stream, 15), strict=True)))
    assert not prefetch_threads()


def test_an_error_is_raised_where_the_batch_is_asked_for(shards: tuple[Path, ShardManifest]) -> None:
    folder, manifest = shards
    stream = stream_of(folder, manifest, plan=plan_of(), lanes=1)
    good = take(stream, 40)
    last = stream.order.locate(stream.order.sequences_per_epoch - 1).shard
    before = next(
        step
        for step in range(40)
        if any(stream.order.locate(step * GLOBAL_BATCH + row).shard == last for row in range(GLOBAL_BATCH))
    )
    flip_a_bit(folder / f"train-{last:06d}.tar")
    with Prefetcher(stream.steps(), depth=2, pin_memory=False) as prefetched:
        for expected in good[:before]:
            assert equal(next(prefetched), expected)
        with pytest.raises(ShardError, match=f"train-{last:06d}"):
            next(prefetched)
    assert before > 1
    assert not prefetch_threads()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_leaving_a_prefetcher_early_ends_its_thread(shards: tuple[Path, ShardManifest], taken: int) -> None:
    with Prefetcher(stream_of(*shards, plan=plan_of()).steps(), depth=2, pin_memory=False) as prefetched:
        for _ in range(taken):
            next(prefetched)
        assert len(prefetch_threads()) == 1
    assert not prefetch_threads()


def test_an_error_in_the_body_ends_the_thread_as_well(shards: tuple[Path, ShardManifest]) -> None:
    prefetcher = Prefetcher(stream_of(*shards, plan=plan_of()).steps(), depth=1, pin_memory=False)
    with pytest.raises(RuntimeError, match="of the body"), prefetcher:
        raise RuntimeError("of the body")
    assert not prefetch_threads()


def test_a_prefetcher_reads_no_further_ahead_than_its_depth(shards: tuple[Path, ShardManifest]) -> None:
    asked: list[int] = []
    full = threading.Event()

    def counted() -> Iterator[StepBatch]:
        for batch in stream_of(*shards, plan=plan_of()).steps():
            asked.append(batch.step)
            if len(asked) == 4:
                full.set()
            yield batch

    with Prefetcher(counted(), depth=3, pin_memory=False) as prefetched:
        assert full.wait(timeout=10)
        assert next(prefetched).step == 0
        assert len(asked) <= 5


# --- Validation ---


def validation_rows(parts: list[list[MicroBatch]]) -> list[list[int]]:
    return [
        row
        for part in parts
        for micro in part
        for row in micro.targets.tolist()
        if any(target != IGNORED_TARGET for target in row)
    ]


@pytest.mark.parametrize(("ranks", "micro"), [(1, 4), (2, 4), (4, 1), (8, 1), (1, 8)])
def test_validation_covers_everything_once_with_as_many_micro_batches_on_every_rank(
    shards: tuple[Path, ShardManifest], ranks: int, micro: int
) -> None:
    parts = [list(validation_micro_batches(*shards, plan_of(ranks, micro), rank=rank)) for rank in range(ranks)]
    counted = Counter(target for row in validation_rows(parts) for target in row if target != IGNORED_TARGET)
    assert counted == tokens_of(make_shards(2, seed=1))
    assert len({len(part) for part in parts}) == 1
    assert all(batch.input_ids.shape == (micro, CONTEXT) for part in parts for batch in part)


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("limit", [1, 5, 8, 10_000])
def test_validation_stops_at_the_same_sequences_for_every_number_of_ranks(
    shards: tuple[Path, ShardManifest], ranks: int, limit: int
) -> None:
    everything = validation_rows([list(validation_micro_batches(*shards, plan_of(), rank=0))])
    parts = [
        list(validation_micro_batches(*shards, plan_of(ranks, 2), rank=rank, max_sequences=limit))
        for rank in range(ranks)
    ]
    assert sorted(validation_rows(parts)) == sorted(everything[:limit])
    assert len({len(part) for part in parts}) == 1


def test_validation_keeps_the_documents_in_their_order(shards: tuple[Path, ShardManifest]) -> None:
    folder, manifest = shards
    rows = validation_rows([list(validation_micro_batches(folder, manifest, plan_of(), rank=0))])
    tokens = [
        token
        for entry in manifest.split("validation")
        for token in read_shard(folder / entry.name, entry).tokens.tolist()
    ]
    assert [target for row in rows for target in row if target != IGNORED_TARGET] == tokens
