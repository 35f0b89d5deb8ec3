"""Mixtures of which some parts are on this disk and others behind a real HTTP server."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from framework.config.schema import DataConfig, MixturePart
from framework.data.corpus import Corpus, load_corpus
from framework.data.manifest import ShardManifest, load_manifest
from framework.data.remote import RemoteFolder, RemoteShards
from framework.data.stream import Digest, TrainStream
from framework.errors import ConfigError, ShardError, StorageError
from tests.remotes import (
    BATCH,
    LANES,
    PLENTY,
    QUICK,
    Server,
    bytes_in,
    cached,
    digests,
    is_reading_ahead,
    leftovers,
    make_shards,
    stream_of,
    wait_until,
)

WriteShards = Callable[..., ShardManifest]
WEIGHTS = (5, 3)
STEPS = 60


@pytest.fixture
def origins(tmp_path: Path, write_shards: WriteShards) -> tuple[Path, Path]:
    """Two prepared folders."""
    folders = tmp_path / "stories", tmp_path / "poems"
    for seed, folder in enumerate(folders):
        write_shards(folder, make_shards(7, seed=seed), [[[1, 2, 3]]])
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    return folders


@pytest.fixture
def servers(origins: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Server]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers = Server(origins[0]), Server(origins[1])
    yield servers
    for server in servers:
        server.close()


Mix = Callable[..., Corpus]


@pytest.fixture
def mix(origins: tuple[Path, Path], servers: tuple[Server, Server], tmp_path: Path) -> Mix:
    """The corpus of both sets, the parts with the numbers ``remote`` over HTTP through ``tmp_path / "cache-NUMBER"``."""

    def load(*remote: int, **data: object) -> Corpus:
        parts = [
            MixturePart(shards_dir=tmp_path / f"cache-{number}", weight=weight, remote=servers[number].url)
            if number in remote
            else MixturePart(shards_dir=origins[number], weight=weight)
            for number, weight in enumerate(WEIGHTS)
        ]
        return load_corpus(DataConfig.model_validate({"mixture": parts, **data}))

    return load


def names(stream: TrainStream, part: int, first_step: int, end_step: int) -> set[str]:
    """The shards of one part that this rank begins to read from one step to before another."""
    openings = stream.openings(first_step, [part])
    within = itertools.takewhile(lambda opening: opening[0] < end_step * BATCH, openings)
    return {stream.shard_at(address).entry.name for _, address in within}


# --- The same sequences as from a disk ---


@pytest.mark.parametrize("remote", [(0,), (1,), (0, 1)], ids=str)
def test_parts_here_and_there_give_the_digests_of_all_here(
    remote: tuple[int, ...], mix: Mix, servers: tuple[Server, Server], tmp_path: Path
) -> None:
    local = mix()
    expected = digests(stream_of(local).steps(), STEPS)
    mixed = mix(*remote)
    assert mixed.data_fingerprint == local.data_fingerprint
    batches = stream_of(mixed).steps()
    assert digests(batches, STEPS) == expected
    batches.close()  # type: ignore[attr-defined]
    wait_until(lambda: not is_reading_ahead())
    for number, server in enumerate(servers):
        asked = [name for name in server.asked if name.endswith(".tar")]
        assert len(set(asked)) == len(asked)  # each shard once, however often it was read
        assert bool(asked) == (number in remote)
        if number in remote:
            assert not leftovers(tmp_path / f"cache-{number}")


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_resuming_on_any_number_of_ranks_gives_the_uninterrupted_digests(ranks: int, mix: Mix) -> None:
    expected = digests(stream_of(mix()).steps(), STEPS)
    mixed = mix(1)
    for first in (1, 23, STEPS - 4):
        shares = [list(itertools.islice(stream_of(mixed, ranks, rank).steps(first), 4)) for rank in range(ranks)]
        found = [str(sum((part.digest for part in parts), start=Digest())) for parts in zip(*shares, strict=True)]
        assert found == expected[first : first + 4]


def test_a_rank_fetches_only_its_own_lanes_shards_of_what_is_remote(mix: Mix, servers: tuple[Server, Server]) -> None:
    first, steps = 9, 3
    stream = stream_of(mix(1), ranks=4, rank=2)
    batches = stream.steps(first)
    assert len(digests(batches, steps)) == steps
    batches.close()  # type: ignore[attr-defined]
    wait_until(lambda: not is_reading_ahead())
    asked = {name for name in servers[1].asked if name.endswith(".tar")}
    read = names(stream, 1, first, first + steps)
    opened = len(
        [*itertools.takewhile(lambda opening: opening[0] < (first + steps) * BATCH, stream.openings(first, [1]))]
    )
    needed = {  # and ahead of that the next one of each of its two lanes
        stream.shard_at(address).entry.name
        for _, address in itertools.islice(stream.openings(first, [1]), opened + LANES // 4)
    }
    assert read <= asked <= needed
    assert not [name for name in servers[0].asked if name.endswith(".tar")]


def test_the_next_shards_of_all_remote_parts_are_there_before_the_lanes(mix: Mix, tmp_path: Path) -> None:
    stream = stream_of(mix(0, 1), ranks=4, rank=1)
    openings = list(itertools.islice(stream.openings(), 2 * LANES // 4))
    batches = stream.steps()
    next(batches)
    for part in (0, 1):
        expected = {stream.shard_at(address).entry.name for _, address in openings if address.part == part}
        wait_until(lambda part=part, expected=expected: expected <= cached(tmp_path / f"cache-{part}"))  # type: ignore[misc]
    batches.close()  # type: ignore[attr-defined]
    wait_until(lambda: not is_reading_ahead())


def test_a_rank_whose_lanes_never_read_the_remote_part_fetches_nothing_and_does_not_look_for_it(
    origins: tuple[Path, Path], servers: tuple[Server, Server], tmp_path: Path
) -> None:
    parts = (
        MixturePart(shards_dir=origins[0], weight=1),
        MixturePart(shards_dir=tmp_path / "cache", weight=1, remote=servers[1].url),
    )
    stream = stream_of(
        load_corpus(DataConfig(mixture=parts)), ranks=2, rank=0
    )  # even cursors, and part 1 has the odd ones
    batches = stream.steps()
    next(batches)
    wait_until(lambda: not is_reading_ahead())
    assert not [name for name in servers[1].asked if name.endswith(".tar")]


# --- The caches ---


def test_each_cache_stays_within_its_bound(mix: Mix, origins: tuple[Path, Path], tmp_path: Path) -> None:
    expected = digests(stream_of(mix()).steps(), STEPS)
    bound = 2 * max(entry.size_bytes for origin in origins for entry in load_manifest(origin).shards)
    batches = stream_of(mix(0, 1, cache_bytes=bound)).steps()
    for step in range(STEPS):
        assert str(next(batches).digest) == expected[step]
        assert max(bytes_in(tmp_path / f"cache-{number}") for number in (0, 1)) <= bound
    batches.close()  # type: ignore[attr-defined]
    wait_until(lambda: not is_reading_ahead())
    assert all(0 < bytes_in(tmp_path / f"cache-{number}") <= bound for number in (0, 1))


# --- What fails ---


def test_bad_shards_here_and_there_are_skipped_alike(
    mix: Mix, origins: tuple[Path, Path], servers: tuple[Server, Server]
) -> None:
    for origin in origins:
        (origin / "train-000003.tar").unlink()
    alone = list(itertools.islice(stream_of(mix(on_bad_shard="skip")).steps(), STEPS))
    mixed = list(itertools.islice(stream_of(mix(1, on_bad_shard="skip")).steps(), STEPS))
    assert [batch.digest for batch in mixed] == [batch.digest for batch in alone]
    skipped = [batch.skipped_sequences for batch in mixed]
    assert skipped == [batch.skipped_sequences for batch in alone]
    assert sum(skipped) > 0
    assert sorted(name for batch in mixed for name in batch.bad_shards) == sorted(
        [f"{origins[0]}/train-000003.tar", f"{servers[1].url}/train-000003.tar"]
    )


def test_a_bad_shard_of_a_remote_part_is_an_error_that_names_it(
    mix: Mix, origins: tuple[Path, Path], servers: tuple[Server, Server]
) -> None:
    mixed = mix(1)
    for entry in load_manifest(origins[1]).split("train"):
        (origins[1] / entry.name).unlink()
    with pytest.raises(ShardError, match=rf"shard {servers[1].url}/train-\d+\.tar is missing"):
        digests(stream_of(mixed).steps(), STEPS)


def test_what_is_wrong_with_a_parts_remote_is_said_with_its_key(mix: Mix, origins: tuple[Path, Path]) -> None:
    (origins[1] / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(ShardError, match=r"data\.mixture\.1\.remote http.* holds no tokenizer") as caught:
        mix(0, 1)
    assert "correct data.mixture.1.remote" in caught.value.fix
    part = MixturePart(shards_dir=origins[0], weight=1, remote="pipe://cat")
    with pytest.raises(ConfigError, match=r"data\.mixture\.0\.remote begins with 'pipe'"):
        load_corpus(DataConfig(mixture=(part,)))


def test_an_outage_of_one_part_is_no_bad_shard(mix: Mix, servers: tuple[Server, Server], tmp_path: Path) -> None:
    here, there = mix(1).parts
    remote = RemoteFolder(servers[1].url, QUICK, key="data.mixture.1.remote")
    there = replace(there, source=RemoteShards(remote, tmp_path / "cache-1", PLENTY))
    servers[1].close()
    with pytest.raises(StorageError, match=r"train-\d+\.tar cannot be fetched.*check data\.mixture\.1\.remote"):
        digests(stream_of(Corpus((here, there), on_bad_shard="skip")).steps(), STEPS)
