from __future__ import annotations

import hashlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.config.batch import BatchPlan
from framework.data.corpus import Corpus, LocalShards, OnBadShard, Part
from framework.data.manifest import ShardEntry, ShardManifest
from framework.data.order import rows_in
from framework.data.shards import ShardContent, read_shard
from framework.data.stream import (
    IGNORED_TARGET,
    Digest,
    MicroBatch,
    Prefetcher,
    StepBatch,
    TokenSequence,
    TrainStream,
    digest_of,
    epoch_tokens,
    validation_micro_batches,
)
from framework.errors import ShardError
from framework.failpoints import arm

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
    return TrainStream(corpus_of(folder, manifest), plan, lanes=lanes, seed=seed, rank=rank)


def corpus_of(folder: Path, manifest: ShardManifest, on_bad_shard: OnBadShard = "error") -> Corpus:
    return Corpus((Part(folder, manifest, LocalShards(folder)),), on_bad_shard)


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


def row_of(*tokens: int) -> npt.NDArray[np.uint32]:
    return np.array(tokens, dtype=np.uint32)


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
    corpus = corpus_of(tmp_path, manifest)
    (batch,) = validation_micro_batches(corpus, plan_of(micro=2, context=4, batch=2), rank=0)
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
    rows = list(rows_of(take(stream, order.parts[0].sequences_per_epoch // GLOBAL_BATCH)))
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
    steps = stream_of(tmp_path / "before", before, plan=plan).order.parts[0].sequences_per_epoch // GLOBAL_BATCH
    pairs = zip(
        take(stream_of(tmp_path / "before", before, plan=plan), steps),
        take(stream_of(tmp_path / "after", after, plan=plan), steps),
        strict=True,
    )
    differing = [mine for mine, theirs in pairs if mine.digest != theirs.digest]
    # The token is a target in one row, and perhaps the first input of the next: the rows stand in one or two steps.
    assert 1 <= len(differing) <= 2


def test_two_sequences_that_swap_places_change_the_digest() -> None:
    first, second = row_of(1, 2, 3), row_of(4, 5, 6)
    straight = digest_of([TokenSequence(10, first), TokenSequence(11, second)])
    swapped = digest_of([TokenSequence(10, second), TokenSequence(11, first)])
    assert straight != swapped
    assert straight == digest_of([TokenSequence(11, second)]) + digest_of([TokenSequence(10, first)])


def test_digests_are_pinned() -> None:
    sequences = [TokenSequence(0, row_of(1, 2, 3)), TokenSequence(2**40, row_of(65_535, 0, 70_000))]
    assert [str(digest_of([each])) for each in sequences] == ["6bbf7429332bea48", "abeee7c86ad1f4be"]
    assert str(Digest(2**32 - 1, 5) + Digest(2, 2**32 - 3)) == "0000000100000002"


def test_a_digest_does_not_depend_on_the_dtype_of_the_shards(tmp_path: Path, write_shards: WriteShards) -> None:
    digests = []
    for dtype in ("uint16", "uint32"):
        manifest = write_shards(tmp_path / dtype, make_shards(), dtype=dtype)
        digests.append([batch.digest for batch in take(stream_of(tmp_path / dtype, manifest, plan=plan_of()), 10)])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_what_a_run_reads_is_pinned(tmp_path: Path, write_shards: WriteShards, dtype: str) -> None:
    """Order, rows and digests of a mixture over several epochs: a run must go on with another release as it began."""
    parts = []
    for number, (share, count) in enumerate([(5, 4), (3, 3)]):
        folder = tmp_path / str(number)
        manifest = write_shards(folder, make_shards(count, seed=number), make_shards(1, seed=number + 9), dtype=dtype)
        parts.append(Part(folder, manifest, LocalShards(folder), share))
    batches = take(stream_over(Corpus(tuple(parts)), 1, 0), 100)
    read = hashlib.sha256()
    for micro in itertools.chain.from_iterable(batch.micro_batches for batch in batches):
        read.update(micro.input_ids.numpy().astype("<i8").tobytes() + micro.targets.numpy().astype("<i8").tobytes())
    assert read.hexdigest() == "5fd7be18cc9ecc1038c69bf13c2e963c4d6268afa611e92b914359fe001f8ed4"
    assert str(sum((batch.digest for batch in batches), start=Digest())) == "98f9a830b37fb813"


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("group_documents", [1, 3, 10, 1000])
def test_documents_are_put_in_order_from_wherever_they_lie(
    monkeypatch: pytest.MonkeyPatch, group_documents: int, dtype: type[np.uint16 | np.uint32]
) -> None:
    monkeypatch.setattr("framework.data.stream._GROUP_DOCUMENTS", group_documents)
    random = np.random.default_rng(0)
    documents = [random.integers(0, 60_000, size=size, dtype=dtype) for size in (3, 0, 1, 40, 2, 12, 0, 5, 7, 0)]
    headers = [np.full(size, 60_001, dtype=dtype) for size in (64, 0, 0, 7, 0, 0, 1, 0, 0, 0)]
    pieces = list(itertools.chain.from_iterable(zip(headers, documents, strict=True)))
    ends = np.cumsum([len(piece) for piece in pieces])[1::2]
    content = ShardContent(np.concatenate(pieces), ends - [len(document) for document in documents], ends)
    assert [document.tolist() for document in content.documents()] == [document.tolist() for document in documents]
    order = random.permutation(len(documents))
    text = epoch_tokens(content, order, 9)
    assert text.dtype == dtype
    assert text.tolist() == [9, *itertools.chain.from_iterable(documents[number].tolist() for number in order)]


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
    return {stream.shard_at(stream.order.locate(cursor)).entry.name for cursor in cursors}


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


@pytest.fixture(scope="module")
def two_sets(tmp_path_factory: pytest.TempPathFactory, write_shards: WriteShards) -> Corpus:
    """A mixture 5 : 3 of two sets, and of epochs that end in the middle of a batch."""
    folder = tmp_path_factory.mktemp("mixture")
    parts = []
    for number, (share, count) in enumerate([(5, 4), (3, 3)]):
        manifest = write_shards(folder / str(number), make_shards(count, seed=number), make_shards(1, seed=number + 9))
        parts.append(Part(folder / str(number), manifest, LocalShards(folder / str(number)), share))
    return Corpus(tuple(parts))


def stream_over(corpus: Corpus, ranks: int, rank: int) -> TrainStream:
    return TrainStream(corpus, plan_of(ranks, GLOBAL_BATCH // ranks), lanes=LANES, seed=7, rank=rank)


@pytest.fixture(scope="module", params=["one set", "mixture"])
def uninterrupted(request: pytest.FixtureRequest, two_sets: Corpus) -> tuple[Corpus, list[Digest]]:
    """A corpus, and the digests of the 150 steps (several epochs) of a run on one rank that nothing interrupts."""
    corpus = two_sets if request.param == "mixture" else Corpus(two_sets.parts[:1])
    return corpus, [batch.digest for batch in take(stream_over(corpus, 1, 0), 150)]


@settings(max_examples=100)
@given(first=st.integers(0, 140), ranks=st.sampled_from([1, 2, 4, 8]))
def test_resuming_at_any_step_on_any_number_of_ranks_gives_the_uninterrupted_digests(
    uninterrupted: tuple[Corpus, list[Digest]], first: int, ranks: int
) -> None:
    corpus, expected = uninterrupted
    shares = [take(stream_over(corpus, ranks, rank), 4, first) for rank in range(ranks)]
    found = [sum((part.digest for part in parts), start=Digest()) for parts in zip(*shares, strict=True)]
    assert found == expected[first : first + 4]


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_resuming_at_an_epochs_end_and_in_its_last_batch_gives_the_uninterrupted_digests(
    uninterrupted: tuple[Corpus, list[Digest]], ranks: int
) -> None:
    corpus, expected = uninterrupted
    order = stream_over(corpus, 1, 0).order
    ends: list[int] = []
    epochs = dict.fromkeys(range(len(corpus.parts)), 0)
    for cursor in range(140 * GLOBAL_BATCH):
        address = order.locate(cursor)
        if address.epoch != epochs[address.part]:
            ends.append(cursor)
        epochs[address.part] = address.epoch
    steps = {step for cursor in ends for step in (cursor // GLOBAL_BATCH, -(-cursor // GLOBAL_BATCH))}
    assert any(cursor % GLOBAL_BATCH for cursor in ends)  # an epoch ends within a batch
    for first in sorted(steps)[:6]:
        shares = [take(stream_over(corpus, ranks, rank), 2, first) for rank in range(ranks)]
        found = [sum((part.digest for part in parts), start=Digest()) for parts in zip(*shares, strict=True)]
        assert found == expected[first : first + 2]


def test_a_mixture_reads_every_token_of_each_part_once_in_its_own_epochs(two_sets: Corpus) -> None:
    stream = stream_over(two_sets, 1, 0)
    rows = list(rows_of(take(stream, 100)))
    places = [stream.order.locate(cursor) for cursor in range(len(rows))]
    for part, shards in enumerate([make_shards(4, seed=0), make_shards(3, seed=1)]):
        of_part = [row for row, place in zip(rows, places, strict=True) if place.part == part]
        an_epoch = stream.order.parts[part].sequences_per_epoch
        for epoch in range(2):
            assert targets_of(of_part[epoch * an_epoch : (epoch + 1) * an_epoch]) == tokens_of(shards)


def test_the_validation_of_a_mixture_is_one_part_after_the_other(two_sets: Corpus) -> None:
    apart = [
        list(validation_micro_batches(Corpus((part,)), plan_of(micro=1, batch=1), rank=0)) for part in two_sets.parts
    ]
    together = list(validation_micro_batches(two_sets, plan_of(micro=1, batch=1), rank=0))
    assert validation_rows([together]) == validation_rows(apart)


def test_a_rank_of_a_mixture_opens_just_the_shards_that_it_reads(two_sets: Corpus) -> None:
    for rank in range(4):
        stream = stream_over(two_sets, 4, rank)
        opened = list(itertools.takewhile(lambda opening: opening[0] < 4 * GLOBAL_BATCH, stream.openings()))
        needed = {
            (address.part, address.shard)
            for step in range(4)
            for cursor in range(step * GLOBAL_BATCH + rank, (step + 1) * GLOBAL_BATCH, 4)
            for address in [stream.order.locate(cursor)]
        }
        assert {(address.part, address.shard) for _, address in opened} == needed


def test_resuming_on_a_hundred_gigabytes_opens_the_first_shards_alone(
    tmp_path: Path, write_shards: WriteShards
) -> None:
    """12,000 shards in the manifest; on the disk, only those that the lanes of this rank are in."""
    real = write_shards(tmp_path, make_shards(1)).shards[0]
    entry = replace(real, size_bytes=8_400_000, tokens=4_194_304)
    manifest = ShardManifest(
        "0" * 64, "1" * 64, "2" * 64, 60_000, "uint16", 0,
        tuple(replace(entry, name=f"train-{number:06d}.tar") for number in range(12_000)),
    )  # fmt: skip
    source = Recorded(tmp_path)
    corpus = Corpus((Part(tmp_path, manifest, source),), "skip")
    assert sum(shard.size_bytes for shard in manifest.shards) > 100e9
    plan = BatchPlan(8, 8, 1, 64, 1024)
    stream = TrainStream(corpus, plan, lanes=64, seed=1, rank=3)
    first = 123_457
    openings = list(itertools.islice(stream.openings(first), 8))
    assert [cursor % 64 % 8 for cursor, _ in openings] == [3] * 8
    assert all(first * 64 <= cursor < (first + 1) * 64 for cursor, _ in openings)
    next(stream.steps(first))
    assert source.asked == [stream.shard_at(address).entry.name for _, address in openings]


def test_a_shard_is_read_once_while_lanes_are_in_it(tmp_path: Path, write_shards: WriteShards) -> None:
    manifest = write_shards(tmp_path, make_shards(6))
    source = Recorded(tmp_path)
    stream = TrainStream(Corpus((Part(tmp_path, manifest, source),)), plan_of(ranks=2), lanes=LANES, seed=7, rank=0)
    take(stream, stream.order.parts[0].sequences_per_epoch // GLOBAL_BATCH)
    assert len(source.asked) > 2
    assert len(set(source.asked)) == len(source.asked)


class Recorded(LocalShards):
    """Shards in a folder, and which of them were asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.__dict__["asked"] = []

    def read(self, entry: ShardEntry) -> ShardContent:
        self.asked.append(entry.name)  # type: ignore[attr-defined]
        return super().read(entry)


# --- Damaged shards ---


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)


def zero_the_tail(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:1024] + bytes(len(content) - 1024))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def swap(path: Path) -> None:
    """With the shard before it; both are of the same size."""
    other = path.with_name("train-000002.tar")
    mine, theirs = path.read_bytes(), other.read_bytes()
    assert len(mine) == len(theirs)
    path.write_bytes(theirs)
    other.write_bytes(mine)


DAMAGES = {
    "truncated": truncate,
    "zero-tailed": zero_the_tail,
    "flipped": flip_a_bit,
    "missing": Path.unlink,
    "swapped": swap,
    "empty": empty,
}
Damage = Callable[[Path], object]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_shard_is_an_error_that_names_it_and_the_remedy(
    shards: tuple[Path, ShardManifest], damage: Damage
) -> None:
    folder, manifest = shards
    damage(folder / "train-000003.tar")
    with pytest.raises(ShardError, match=r"train-00000[23]\.tar is (damaged|missing).*copy the folder again"):
        take(stream_of(folder, manifest, plan=plan_of()), 40)


def skipping(folder: Path, manifest: ShardManifest, ranks: int = 1, rank: int = 0) -> TrainStream:
    corpus = corpus_of(folder, manifest, "skip")
    return TrainStream(corpus, plan_of(ranks, GLOBAL_BATCH // ranks), lanes=LANES, seed=7, rank=rank)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_shard_that_is_skipped_leaves_every_other_sequence_where_it_was(
    shards: tuple[Path, ShardManifest], damage: Damage
) -> None:
    folder, manifest = shards
    whole = list(rows_of(take(stream_of(folder, manifest, plan=plan_of()), 60)))
    damage(folder / "train-000003.tar")
    bad = {2, 3} if damage is swap else {3}
    stream = skipping(folder, manifest)
    batches = take(stream, 60)
    skipped = 0
    for cursor, (before, after) in enumerate(zip(whole, rows_of(batches), strict=True)):
        if stream.order.locate(cursor).shard in bad:
            assert after == ([0] * CONTEXT, [IGNORED_TARGET] * CONTEXT)
            skipped += 1
        else:
            assert after == before
    assert sum(batch.skipped_sequences for batch in batches) == skipped > 0
    for batch in batches:
        assert batch.target_tokens == sum(int((micro.targets != IGNORED_TARGET).sum()) for micro in batch.micro_batches)


def test_a_bad_shard_is_named_in_the_first_step_that_meets_it_and_logged_once(
    shards: tuple[Path, ShardManifest], caplog: pytest.LogCaptureFixture
) -> None:
    folder, manifest = shards
    flip_a_bit(folder / "train-000003.tar")
    (folder / "train-000001.tar").unlink()
    batches = take(skipping(folder, manifest), 100)
    assert sorted(name for batch in batches for name in batch.bad_shards) == [
        f"{folder}/train-000001.tar",
        f"{folder}/train-000003.tar",
    ]
    for batch in batches:
        assert not batch.bad_shards or batch.skipped_sequences
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert sorted(line.split(" is ")[0] for line in lines) == [
        f"shard {folder}/train-00000{shard}.tar" for shard in (1, 3)
    ]
    assert all(record.levelname == "WARNING" for record in caplog.records)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_skipped_sequences_and_digests_are_the_same_for_every_world_size(
    shards: tuple[Path, ShardManifest], ranks: int
) -> None:
    folder, manifest = shards
    flip_a_bit(folder / "train-000003.tar")
    alone = take(skipping(folder, manifest), 40)
    shares = [take(skipping(folder, manifest, ranks, rank), 40) for rank in range(ranks)]
    for step, parts in enumerate(zip(*shares, strict=True)):
        assert sum((part.digest for part in parts), start=Digest()) == alone[step].digest
        assert sum(part.skipped_sequences for part in parts) == alone[step].skipped_sequences
        assert sum(part.target_tokens for part in parts) == alone[step].target_tokens


def test_a_step_without_any_target_can_be_told(shards: tuple[Path, ShardManifest]) -> None:
    folder, manifest = shards
    for entry in manifest.split("train"):
        (folder / entry.name).unlink()
    batch = take(skipping(folder, manifest), 1)[0]
    assert (batch.target_tokens, batch.skipped_sequences) == (0, GLOBAL_BATCH)
    assert batch.digest == digest_of(TokenSequence(cursor, row_of()) for cursor in range(8))
    assert sorted(batch.bad_shards) == sorted(set(batch.bad_shards))


def test_a_disk_that_fails_while_it_is_read_makes_a_bad_shard(shards: tuple[Path, ShardManifest]) -> None:
    folder, manifest = shards
    try:
        arm("fetch@3=eio")
        with pytest.raises(ShardError, match=r"train-\d+\.tar cannot be read: Input/output error"):
            take(stream_of(folder, manifest, plan=plan_of()), 5)
        arm("fetch@3=eio")
        batches = take(skipping(folder, manifest), 5)
    finally:
        arm("")
    assert [len(batch.bad_shards) for batch in batches] == [0, 0, 1, 0, 0]


def test_validation_leaves_a_bad_shard_out_as_well(shards: tuple[Path, ShardManifest]) -> None:
    folder, manifest = shards
    flip_a_bit(folder / "validation-000001.tar")
    batches = list(validation_micro_batches(corpus_of(folder, manifest, "skip"), plan_of(), rank=0))
    entry = manifest.split("validation")[0]
    assert sum(int((batch.targets != IGNORED_TARGET).sum()) for batch in batches) == entry.tokens


@pytest.mark.parametrize("damage", [truncate, flip_a_bit], ids=["truncated", "flipped"])
def test_a_damaged_validation_shard_is_an_error_that_names_it(
    shards: tuple[Path, ShardManifest], damage: Callable[[Path], object]
) -> None:
    folder, manifest = shards
    damage(folder / "validation-000001.tar")
    with pytest.raises(ShardError, match=r"validation-000001\.tar"):
        list(validation_micro_batches(corpus_of(folder, manifest), plan_of(), rank=0))


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
    last = stream.order.locate(stream.order.parts[0].sequences_per_epoch - 1).shard
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
    corpus = corpus_of(*shards)
    parts = [list(validation_micro_batches(corpus, plan_of(ranks, micro), rank=rank)) for rank in range(ranks)]
    counted = Counter(target for row in validation_rows(parts) for target in row if target != IGNORED_TARGET)
    assert counted == tokens_of(make_shards(2, seed=1))
    assert len({len(part) for part in parts}) == 1
    assert all(batch.input_ids.shape == (micro, CONTEXT) for part in parts for batch in part)


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("limit", [1, 5, 8, 10_000])
def test_validation_stops_at_the_same_sequences_for_every_number_of_ranks(
    shards: tuple[Path, ShardManifest], ranks: int, limit: int
) -> None:
    corpus = corpus_of(*shards)
    everything = validation_rows([list(validation_micro_batches(corpus, plan_of(), rank=0))])
    parts = [
        list(validation_micro_batches(corpus, plan_of(ranks, 2), rank=rank, max_sequences=limit))
        for rank in range(ranks)
    ]
    assert sorted(validation_rows(parts)) == sorted(everything[:limit])
    assert len({len(part) for part in parts}) == 1


def test_validation_keeps_the_documents_in_their_order(shards: tuple[Path, ShardManifest]) -> None:
    folder, manifest = shards
    rows = validation_rows([list(validation_micro_batches(corpus_of(folder, manifest), plan_of(), rank=0))])
    tokens = [
        token
        for entry in manifest.split("validation")
        for document in read_shard(folder / entry.name, entry).documents()
        for token in document.tolist()
    ]
    assert [target for row in rows for target in row if target != IGNORED_TARGET] == tokens
