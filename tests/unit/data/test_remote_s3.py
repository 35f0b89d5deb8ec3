"""Shards behind ``s3://``: the real s3fs against a real server of the protocol (moto) on this machine."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from framework.config.schema import DataConfig, MixturePart
from framework.data.corpus import Corpus, load_corpus, local_corpus
from framework.data.manifest import MANIFEST_NAME, ShardManifest, load_manifest
from framework.data.remote import RemoteFolder
from framework.data.stream import Digest
from framework.data.tokenizer import load_tokenizer
from framework.errors import ShardError, StorageError
from tests.remotes import QUICK, bytes_in, cached, digests, make_shards, source_of, stream_of

_REASON = "shards behind s3:// are tested where `s3fs` and `moto[server]` are installed"
s3fs = pytest.importorskip("s3fs", reason=_REASON, exc_type=ImportError)
moto_server = pytest.importorskip("moto.server", reason=_REASON, exc_type=ImportError)
boto3 = pytest.importorskip("boto3", reason=_REASON, exc_type=ImportError)

WriteShards = Callable[..., ShardManifest]
BUCKET, URL = "bucket", "s3://bucket/a/folder"


class Storage:
    """A server of S3 at ``endpoint`` for as long as it is up; what it holds outlives it."""

    def __init__(self) -> None:
        self._server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.is_up = True

    def forget(self) -> None:
        """What earlier tests have left in this process."""
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST")).close()

    def client(self, service: str) -> object:
        return boto3.client(service, endpoint_url=self.endpoint, region_name="us-east-1")

    def put(self, origin: Path) -> None:
        """Copies a prepared folder to ``URL``."""
        for path in origin.rglob("*.*"):
            key = f"a/folder/{path.relative_to(origin)}"
            self.client("s3").put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())  # type: ignore[attr-defined]

    def remove(self, name: str) -> None:
        self.client("s3").delete_object(Bucket=BUCKET, Key=f"a/folder/{name}")  # type: ignore[attr-defined]

    def stop(self) -> None:
        if self.is_up:
            self._server.stop()
            self.is_up = False

    def start_again(self) -> None:
        self._server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        self.is_up = True


def configure(monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
    """What the user's configuration of fsspec says about S3; its environment variables are read at its import."""
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    s3fs.S3FileSystem.clear_instance_cache()  # connections are kept by options, not by what the environment says


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """An empty bucket, and an environment that leads there."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    values = {
        "ACCESS_KEY_ID": "anna",
        "SECRET_ACCESS_KEY": "secret",
        "DEFAULT_REGION": "us-east-1",
        "EC2_METADATA_DISABLED": "true",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    storage = Storage()
    storage.forget()
    configure(monkeypatch, endpoint_url=storage.endpoint)
    storage.client("s3").create_bucket(Bucket=BUCKET)  # type: ignore[attr-defined]
    yield storage
    storage.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def origin(tmp_path: Path, write_shards: WriteShards, storage: Storage) -> Path:
    """A prepared folder, and a copy of it at ``URL``."""
    folder = tmp_path / "origin"
    write_shards(folder, make_shards(), [[[1, 2, 3]]])
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    storage.put(folder)
    return folder


# --- The same sequences as from a disk ---


def test_what_was_prepared_and_copied_to_s3_is_read_as_from_the_disk(
    tiny_shards: Path, storage: Storage, tmp_path: Path
) -> None:
    storage.put(tiny_shards)
    corpus = load_corpus(DataConfig(shards_dir=tmp_path / "cache", remote=URL))
    assert load_tokenizer(corpus.tokenizer_folder).fingerprint == corpus.tokenizer_fingerprint
    expected = list(itertools.islice(stream_of(local_corpus(tiny_shards)).steps(5), 20))
    shares = [list(itertools.islice(stream_of(corpus, 2, rank).steps(5), 20)) for rank in range(2)]
    found = [sum((part.digest for part in parts), start=Digest()) for parts in zip(*shares, strict=True)]
    assert found == [batch.digest for batch in expected]
    assert cached(tmp_path / "cache") <= {entry.name for entry in load_manifest(tiny_shards).split("train")}
    for name in cached(tmp_path / "cache"):
        assert (tmp_path / "cache" / name).read_bytes() == (tiny_shards / name).read_bytes()


def test_a_part_of_a_mixture_may_be_in_s3(origin: Path, write_shards: WriteShards, tmp_path: Path) -> None:
    write_shards(tmp_path / "here", make_shards(5, seed=1))

    def mixture(there: MixturePart) -> Corpus:
        here = MixturePart(shards_dir=tmp_path / "here", weight=2)
        bound = 2 * max(entry.size_bytes for entry in load_manifest(origin).shards)
        return load_corpus(DataConfig(mixture=(here, there), cache_bytes=bound))

    expected = digests(stream_of(mixture(MixturePart(shards_dir=origin, weight=3))).steps(), 60)
    mixed = mixture(MixturePart(shards_dir=tmp_path / "cache", weight=3, remote=URL))
    assert digests(stream_of(mixed).steps(), 60) == expected
    assert 0 < bytes_in(tmp_path / "cache") <= mixed.parts[1].source._cache_bytes  # type: ignore[attr-defined]


OPEN = """
import sys
from pathlib import Path
from framework.config.schema import DataConfig
from framework.data.corpus import load_corpus
corpus = load_corpus(DataConfig(shards_dir=Path(sys.argv[1]), remote=sys.argv[2]))
print(sum(shard.source.read(shard.entry).tokens for shard in corpus.split("train")))
"""


@pytest.mark.parametrize("name", ["FSSPEC_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL"])
def test_the_endpoint_is_named_by_the_environment(name: str, origin: Path, storage: Storage, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN, str(tmp_path / "cache"), URL]
    ended = subprocess.run(command, env={**os.environ, name: storage.endpoint}, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert int(ended.stdout) == sum(entry.tokens for entry in load_manifest(origin).split("train"))


# --- What fails ---


def test_what_is_not_there_is_told_from_what_cannot_be_reached(origin: Path, storage: Storage, tmp_path: Path) -> None:
    entry = load_manifest(origin).split("train")[2]
    source = source_of(URL, tmp_path / "cache")
    storage.remove(entry.name)
    with pytest.raises(ShardError, match=rf"shard {URL}/{entry.name} is missing"):
        source.read(entry)
    storage.remove(MANIFEST_NAME)
    with pytest.raises(ShardError, match=rf"data\.remote {URL} holds no manifest\.json"):
        source_of(URL, tmp_path / "cache")
    with pytest.raises(ShardError, match=r"data\.remote s3://elsewhere holds no manifest\.json"):
        source_of("s3://elsewhere", tmp_path / "cache")


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-512], lambda content: content[:-1] + b"\x01", lambda _: b""]
)
def test_an_object_that_is_not_the_manifests_is_a_bad_shard(
    damage: Callable[[bytes], bytes], origin: Path, storage: Storage, tmp_path: Path
) -> None:
    entry = load_manifest(origin).split("train")[2]
    source = source_of(URL, tmp_path / "cache")
    (origin / entry.name).write_bytes(damage((origin / entry.name).read_bytes()))
    storage.put(origin)
    with pytest.raises(ShardError, match=rf"shard {URL}/{entry.name} is damaged"):
        source.read(entry)
    assert not cached(tmp_path / "cache")


def test_a_server_that_is_down_ends_in_an_error_and_is_read_again_when_it_is_up(
    origin: Path, storage: Storage, tmp_path: Path
) -> None:
    entry = load_manifest(origin).split("train")[2]
    source = source_of(URL, tmp_path / "cache")
    storage.stop()
    with pytest.raises(StorageError, match=rf"{URL}/{entry.name} cannot be fetched, 4 times over") as caught:
        source.read(entry)
    assert "check data.remote" in caught.value.fix
    with pytest.raises(StorageError, match="cannot be fetched"):
        source_of(URL, tmp_path / "other")
    storage.start_again()
    assert source.read(entry).tokens == entry.tokens


@pytest.mark.parametrize("key", ["SECRET_ACCESS_KEY", "ACCESS_KEY_ID"])
def test_wrong_credentials_are_told_at_once(
    key: str, origin: Path, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iam = storage.client("iam")
    iam.create_user(UserName="anna")  # type: ignore[attr-defined]
    pair = iam.create_access_key(UserName="anna")["AccessKey"]  # type: ignore[attr-defined]
    policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
    iam.put_user_policy(UserName="anna", PolicyName="all", PolicyDocument=policy)  # type: ignore[attr-defined]
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", pair["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", pair["SecretAccessKey"])
    s3fs.S3FileSystem.clear_instance_cache()
    source_of(URL, tmp_path / "cache")
    monkeypatch.setenv(f"AWS_{key}", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StorageError, match=rf"{URL}/manifest\.json may not be read: PermissionError") as caught:
        source_of(URL, tmp_path / "cache")
    assert "credentials in the environment" in caught.value.fix


def test_no_credentials_at_all_are_told(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StorageError, match=r"Unable to locate credentials.*credentials"):
        source_of(URL, tmp_path / "cache")


# --- Asking again ---


@pytest.fixture
def overloaded() -> Iterator[tuple[str, list[str]]]:
    """The endpoint of a server that answers 503 to everything, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503, "Slow Down")

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("own", [None, 2])
def test_one_policy_alone_asks_again_unless_the_users_configuration_says_otherwise(
    own: int | None, storage: Storage, overloaded: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, asked = overloaded
    options = {} if own is None else {"config_kwargs": {"retries": {"total_max_attempts": own}}}
    configure(monkeypatch, endpoint_url=endpoint, **options)
    with pytest.raises(StorageError, match="cannot be fetched, 4 times over"):
        RemoteFolder(URL, QUICK).fetch(MANIFEST_NAME, 100, deadline_seconds=10)
    assert len(asked) == QUICK.attempts * (own or 1)
