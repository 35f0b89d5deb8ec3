from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.data.manifest import MANIFEST_NAME, ShardManifest, load_manifest
from framework.errors import ShardError

WriteShards = Callable[..., ShardManifest]
DOCUMENTS = [[[1, 2, 3], [4, 5]], [[6, 7]]]


@pytest.fixture
def rewrite(tmp_path: Path, write_shards: WriteShards) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """Shards whose manifest somebody has changed."""

    def run(change: Callable[[dict[str, Any]], object]) -> Path:
        write_shards(tmp_path, DOCUMENTS)
        path = tmp_path / MANIFEST_NAME
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))
        return tmp_path

    return run


Rewrite = Callable[[Callable[[dict[str, Any]], object]], Path]


def test_what_was_written_is_read(tmp_path: Path, write_shards: WriteShards) -> None:
    assert write_shards(tmp_path, DOCUMENTS) == load_manifest(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../train-000000.tar",
        "/etc/train-000000.tar",
        "sub/train-000000.tar",
        "sub\\train-000000.tar",
        "..",
        ".tar",
        ".hidden.tar",
        "train-000000.tar\x00.txt",
        "train-000000.tar\n",
        "pipe:cat train-000000.tar",
        "https://elsewhere/train.tar",
        "train-000000",
        "",
        7,
        None,
        ["train-000000.tar"],
    ],
)
def test_a_shard_name_that_could_leave_the_folder_is_refused(rewrite: Rewrite, name: object) -> None:
    folder = rewrite(lambda values: values["shards"][1].update(name=name))
    with pytest.raises(ShardError, match="is no plain file name") as caught:
        load_manifest(folder)
    assert repr(name) in caught.value.cause


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size_bytes", -1),
        ("size_bytes", 1e30),
        ("size_bytes", True),
        ("tokens", "many"),
        ("documents", None),
        ("text_bytes", [1]),
        ("sha256", "abc"),
        ("sha256", 5),
        ("split", "test"),
        ("split", ["train"]),
    ],
)
def test_a_shard_with_values_of_the_wrong_kind_is_refused(rewrite: Rewrite, key: str, value: object) -> None:
    folder = rewrite(lambda values: values["shards"][1].update({key: value}))
    with pytest.raises(ShardError, match=r"train-000001\.tar"):
        load_manifest(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocab_size", -3),
        ("vocab_size", "512"),
        ("end_of_text_id", 1.5),
        ("token_dtype", "object"),
        ("tokenizer_fingerprint", 3),
    ],
)
def test_a_manifest_with_values_of_the_wrong_kind_is_refused(rewrite: Rewrite, key: str, value: object) -> None:
    folder = rewrite(lambda values: values.update({key: value}))
    with pytest.raises(ShardError, match=key):
        load_manifest(folder)


def test_a_shard_that_stands_there_twice_is_refused(rewrite: Rewrite) -> None:
    folder = rewrite(lambda values: values["shards"].append(values["shards"][0]))
    with pytest.raises(ShardError, match=r"train-000000\.tar stands there twice"):
        load_manifest(folder)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b'"text"', b"{}", b'{"shards": 3}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(ShardError, match="cannot be read"):
        load_manifest(tmp_path)
