"""Shards over a real HTTP server that fails on demand, and from fsspec's own storages."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from framework.config.schema import DataConfig
from framework.data.corpus import Corpus, Part, load_corpus, local_corpus
from framework.data.manifest import MANIFEST_NAME, ShardEntry, ShardManifest, load_manifest
from framework.data.remote import RemoteFolder, Retry
from framework.data.stream import Prefetcher
from framework.errors import ConfigError, ShardError, StorageError
from tests.remotes import (
    BATCH,
    LANES,
    QUICK,
    Server,
    bytes_in,
    cached,
    corpus_of,
    digests,
    is_reading_ahead,
    leftovers,
    make_shards,
    source_of,
    stream_of,
    wait_until,
)

WriteShards = Callable[..., ShardManifest]


@pytest.fixture
def origin(tmp_path: Path, write_shards: WriteShards) -> Path:
    """A prepared folder, as somebody has copied it to a server."""
    write_shards(tmp_path / "origin", make_shards(), [[[1, 2, 3]]])
    (tmp_path / "origin" / "tokenizer").mkdir()
    (tmp_path / "origin" / "tokenizer" / "tokenizer.json").write_text("{}")
    return tmp_path / "origin"


@pytest.fixture
def server(origin: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server(origin)
    yield server
    server.close()


def entries_of(origin: Path) -> dict[str, ShardEntry]:
    return {entry.name: entry for entry in load_manifest(origin).shards}


# --- The same sequences as from a disk ---


def test_a_stream_over_http_reads_what_is_on_the_disk(server: Server, origin: Path, tmp_path: Path) -> None:
    steps = 3 * stream_of(local_corpus(origin)).order.parts[0].sequences_per_epoch // BATCH
    expected = digests(stream_of(local_corpus(origin)).steps(), steps)
    source = source_of(server.url, tmp_path / "cache")
    with Prefetcher(stream_of(corpus_of(source, tmp_path / "cache")).steps(), depth=2, pin_memory=False) as batches:
        assert digests(batches, steps) == expected
    assert Counter(server.asked).most_common(1)[0][1] == 1  # each shard once, however often it was read
    assert not leftovers(tmp_path / "cache")


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_other_storages_are_read_the_same_way(protocol: str, origin: Path, tmp_path: Path) -> None:
    if protocol == "memory":
        for path in origin.rglob("*.*"):
            fsspec.filesystem("memory").pipe_file(f"/shards/{path.relative_to(origin)}", path.read_bytes())
    url = f"file://{origin}" if protocol == "file" else "memory://shards"
    expected = digests(stream_of(local_corpus(origin)).steps(), 30)
    data = DataConfig(shards_dir=tmp_path / "cache", remote=url)
    assert digests(stream_of(load_corpus(data)).steps(), 30) == expected


def test_a_rank_fetches_only_its_own_lanes_shards(server: Server, origin: Path, tmp_path: Path) -> None:
    first, steps = 3, 3
    local = stream_of(local_corpus(origin), ranks=4, rank=1)
    expected = digests(local.steps(first), steps)
    remote = stream_of(corpus_of(source_of(server.url, tmp_path / "cache"), tmp_path / "cache"), ranks=4, rank=1)
    batches = remote.steps(first)
    assert digests(batches, steps) == expected
    batches.close()  # type: ignore[attr-defined]
    # What it has read, and ahead of that the next one of each of its two lanes.
    end = (first + steps) * BATCH
    read = [address for _, address in itertools.takewhile(lambda opening: opening[0] < end, local.openings(first))]
    needed = [address for _, address in itertools.islice(local.openings(first), len(read) + 2)]
    names = [{local.shard_at(address).entry.name for address in addresses} for addresses in (read, needed)]
    asked = {name for name in server.asked if name.endswith(".tar")}
    assert names[0] <= asked <= names[1]
    assert len(names[1]) < 12


# --- Ahead of need ---


def test_the_next_shard_of_each_lane_is_there_before_the_lane(server: Server, origin: Path, tmp_path: Path) -> None:
    stream = stream_of(corpus_of(source_of(server.url, tmp_path / "cache"), tmp_path / "cache"))
    openings = list(itertools.islice(stream.openings(), LANES + 3))
    names = [stream.shard_at(address).entry.name for _, address in openings]
    batches = stream.steps()
    next(batches)  # reads what the lanes begin with, the first LANES openings at most
    wait_until(lambda: set(names) <= cached(tmp_path / "cache"))
    batches.close()  # type: ignore[attr-defined]
    wait_until(lambda: not is_reading_ahead())


# --- A server that fails ---


@pytest.mark.parametrize("fault", ["500", "503", "cut", "short", "wrong", "endless"])
def test_a_request_that_fails_is_made_again(server: Server, origin: Path, tmp_path: Path, fault: str) -> None:
    entry = entries_of(origin)["train-000002.tar"]
    source = source_of(server.url, tmp_path / "cache")
    server.faults[entry.name] = [fault]
    content = source.read(entry)
    assert content.tokens == entry.tokens
    assert server.asked.count(entry.name) == 2
    assert cached(tmp_path / "cache") == {entry.name}


def test_an_answer_that_does_not_come_is_given_up_and_asked_again(server: Server, origin: Path, tmp_path: Path) -> None:
    entry = entries_of(origin)["train-000002.tar"]
    source = source_of(server.url, tmp_path / "cache", retry=Retry(3, 0.01, 0.02, attempt_seconds=0.3))
    server.faults[entry.name] = ["hang"]
    assert source.read(entry).tokens == entry.tokens


def test_a_server_that_goes_on_failing_ends_in_an_error_that_names_the_url(
    server: Server, origin: Path, tmp_path: Path
) -> None:
    entry = entries_of(origin)["train-000002.tar"]
    source = source_of(server.url, tmp_path / "cache")
    server.faults[entry.name] = ["500"] * 10
    with pytest.raises(StorageError, match=f"{server.url}/{entry.name} cannot be fetched, 4 times over.*500"):
        source.read(entry)
    assert server.asked.count(entry.name) == QUICK.attempts
    assert not cached(tmp_path / "cache")
    assert not leftovers(tmp_path / "cache")


@pytest.mark.parametrize(
    ("faults", "said", "requests"),
    [(["wrong", "wrong"], "is damaged", 2), (["short", "short"], "is damaged", 2), (["404"], "is missing", 1)],
)
def test_a_shard_that_the_remote_holds_wrongly_is_a_bad_shard(
    server: Server, origin: Path, tmp_path: Path, faults: list[str], said: str, requests: int
) -> None:
    entry = entries_of(origin)["train-000002.tar"]
    source = source_of(server.url, tmp_path / "cache")
    server.faults[entry.name] = list(faults)
    with pytest.raises(ShardError, match=f"shard {server.url}/{entry.name} {said}.*on_bad_shard=skip"):
        source.read(entry)
    assert server.asked.count(entry.name) == requests
    assert not cached(tmp_path / "cache")


def test_an_outage_is_no_bad_shard(server: Server, origin: Path, tmp_path: Path) -> None:
    source = source_of(server.url, tmp_path / "cache")
    corpus = Corpus((Part(tmp_path / "cache", load_manifest(origin), source),), on_bad_shard="skip")
    server.faults = {name: ["500"] * 100 for name in entries_of(origin)}
    with pytest.raises(StorageError, match="cannot be fetched"):
        next(stream_of(corpus).steps())


def test_nobody_there_is_an_error_that_names_the_url_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"http://127\.0\.0\.1:9/shards/manifest\.json cannot be fetched") as caught:
        source_of("http://anna:secret@127.0.0.1:9/shards", tmp_path / "cache")
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_no_more_is_taken_than_the_manifest_says(server: Server, origin: Path, tmp_path: Path) -> None:
    entry = entries_of(origin)["train-000002.tar"]
    source = source_of(server.url, tmp_path / "cache")
    server.faults[entry.name] = ["endless"]
    source.read(entry)
    wait_until(lambda: server.hung_up == [entry.name])


# --- The cache ---


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server, origin: Path, tmp_path: Path) -> None:
    entry = entries_of(origin)["train-000002.tar"]
    source = source_of(server.url, tmp_path / "cache")
    expected = [document.tolist() for document in source.read(entry).documents()]
    path = tmp_path / "cache" / entry.name
    for damage in (lambda content: content[:-512], lambda content: b"\x01" + content[1:], lambda content: b""):
        path.write_bytes(damage(path.read_bytes()))
        assert [document.tolist() for document in source.read(entry).documents()] == expected
    assert server.asked.count(entry.name) == 4
    assert path.read_bytes() == (origin / entry.name).read_bytes()


def test_the_least_recently_read_shards_leave_and_the_bound_is_kept(
    server: Server, origin: Path, tmp_path: Path
) -> None:
    entries = [entry for entry in entries_of(origin).values() if entry.split == "train"]
    bound = sum(entry.size_bytes for entry in entries[:3])
    assert max(entry.size_bytes for entry in entries) <= bound
    source = source_of(server.url, tmp_path / "cache", bound)
    for entry in entries[:3]:
        source.read(entry)
    source.read(entries[0])
    source.read(entries[3])
    assert entries[0].name in cached(tmp_path / "cache")
    assert entries[1].name not in cached(tmp_path / "cache")
    for entry in entries:
        source.read(entry)
        assert bytes_in(tmp_path / "cache") <= bound
        assert entry.name in cached(tmp_path / "cache")


def test_a_shard_that_is_held_stays_and_what_finds_no_room_is_read_without_it(
    server: Server, origin: Path, tmp_path: Path
) -> None:
    entries = [entry for entry in entries_of(origin).values() if entry.split == "train"]
    held, other = entries[:2]
    source = source_of(server.url, tmp_path / "cache", max(held.size_bytes, other.size_bytes))
    descriptor = source.hold(held)
    assert descriptor is not None
    assert source.hold(other) is None
    assert source.read(other).tokens == other.tokens
    assert cached(tmp_path / "cache") == {held.name}
    os.close(descriptor)
    source.read(other)
    assert cached(tmp_path / "cache") == {other.name}


def test_a_stream_through_a_cache_of_two_shards_reads_the_same(server: Server, origin: Path, tmp_path: Path) -> None:
    expected = digests(stream_of(local_corpus(origin)).steps(), 60)
    bound = 2 * max(entry.size_bytes for entry in entries_of(origin).values())
    corpus = corpus_of(source_of(server.url, tmp_path / "cache", bound), tmp_path / "cache")
    batches = stream_of(corpus).steps()
    assert digests(batches, 60) == expected
    batches.close()  # type: ignore[attr-defined]
    wait_until(lambda: not is_reading_ahead())
    assert bytes_in(tmp_path / "cache") <= bound


def test_what_a_kill_left_half_written_is_removed(server: Server, origin: Path, tmp_path: Path) -> None:
    entry = entries_of(origin)["train-000002.tar"]
    source = source_of(server.url, tmp_path / "cache")
    (tmp_path / "cache" / "train-000005.tar.tmp").write_bytes(b"half")
    source.read(entry)
    assert not leftovers(tmp_path / "cache")


HOLD_ALL = """
import sys
from pathlib import Path
from framework.data.manifest import load_manifest
from framework.data.remote import RemoteFolder, RemoteShards, open_cache
remote, cache = RemoteFolder(sys.argv[1]), Path(sys.argv[2])
open_cache(remote, cache)
source = RemoteShards(remote, cache, 10**9)
assert all(source.hold(entry) is not None for entry in load_manifest(cache).split("train"))
"""


def test_processes_of_one_machine_share_the_cache_and_fetch_once(server: Server, origin: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD_ALL, server.url, str(tmp_path / "cache")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    shards = sorted(name for name, entry in entries_of(origin).items() if entry.split == "train")
    assert sorted(name for name in server.asked if name.endswith(".tar")) == shards
    assert cached(tmp_path / "cache") == set(shards)
    assert not leftovers(tmp_path / "cache")


# --- Manifest and tokenizer ---


def test_another_manifest_at_the_remote_is_refused_with_what_to_do(
    server: Server, origin: Path, tmp_path: Path, write_shards: WriteShards
) -> None:
    source_of(server.url, tmp_path / "cache")
    source_of(server.url, tmp_path / "cache")
    before = (tmp_path / "cache" / MANIFEST_NAME).read_bytes()
    write_shards(origin, make_shards(3))
    with pytest.raises(ShardError, match=re.escape(f"is not the one that shards_dir {tmp_path / 'cache'}")) as caught:
        source_of(server.url, tmp_path / "cache")
    assert f"remove {tmp_path / 'cache'}" in caught.value.fix
    assert (tmp_path / "cache" / MANIFEST_NAME).read_bytes() == before


def test_a_folder_that_was_prepared_here_is_no_cache(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "prepare.journal.jsonl").write_text("{}\n")
    with pytest.raises(ShardError, match="was prepared here"):
        source_of(server.url, tmp_path / "cache")


@pytest.mark.parametrize("missing", ["manifest.json", "tokenizer/tokenizer.json"])
def test_a_remote_without_manifest_or_tokenizer_is_refused(
    server: Server, origin: Path, tmp_path: Path, missing: str
) -> None:
    (origin / missing).unlink()
    with pytest.raises(ShardError, match=f"{server.url} holds no {missing}"):
        source_of(server.url, tmp_path / "cache")
    assert not (tmp_path / "cache" / MANIFEST_NAME).exists()


def test_a_remote_manifest_that_leads_out_of_the_folder_is_refused_before_it_is_written(
    server: Server, origin: Path, tmp_path: Path
) -> None:
    values = json.loads((origin / MANIFEST_NAME).read_text())
    values["shards"][0]["name"] = "../../outside.tar"
    (origin / MANIFEST_NAME).write_text(json.dumps(values))
    with pytest.raises(ShardError, match="no plain file name"):
        source_of(server.url, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# --- URLs ---


@pytest.mark.parametrize(
    "url",
    [
        "pipe:cat /etc/passwd",
        "pipe://cat",
        "simplecache::https://host/shards",
        "https://host/a::pipe://b",
        "reference://shards",
        "python://shards",
        "data:text/plain,hello",
        "zip://shards.zip",
        "/a/folder",
        "",
    ],
)
def test_what_is_no_storage_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no storage"):
        load_corpus(DataConfig(shards_dir=tmp_path / "cache", remote=url))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("url", ["https://host/shards?key=1", "https://host/shards#part"])
def test_a_query_or_fragment_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="query or fragment"):
        RemoteFolder(url)


def test_a_storage_whose_package_is_not_installed_is_refused_with_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"data\.remote oci://shards cannot be opened: .*ocifs") as caught:
        RemoteFolder("oci://shards")
    assert "install what it names" in caught.value.fix
