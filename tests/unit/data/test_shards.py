from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from framework.data import shards
from framework.data.manifest import ShardEntry
from framework.data.shards import ShardWriter, read_shard, shard_name
from framework.errors import ShardError, StorageError

Documents = list[npt.NDArray[np.uint16]]


def make_documents(count: int = 50) -> Documents:
    random = np.random.default_rng(0)
    return [random.integers(0, 60_000, size=random.integers(1, 200), dtype=np.uint16) for _ in range(count)]


def write(folder: Path, documents: Documents, dtype: str = "uint16") -> ShardEntry:
    writer = ShardWriter(folder, shard_name("train", 0), "train", dtype)
    for tokens in documents:
        writer.add(tokens.astype(dtype), text_bytes=3 * len(tokens))
    return writer.close()


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
@pytest.mark.parametrize("block_tokens", [1, 500, 10**6])
def test_documents_come_back_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, block_tokens: int
) -> None:
    monkeypatch.setattr(shards, "BLOCK_TOKENS", block_tokens)
    documents = make_documents()
    entry = write(tmp_path, documents, dtype)
    content = read_shard(tmp_path / entry.name, entry)
    assert content.tokens.dtype == dtype
    assert content.offsets.dtype == np.int64
    found = [content.tokens[start:end] for start, end in zip(content.offsets, content.offsets[1:], strict=False)]
    assert len(found) == len(documents)
    assert all(np.array_equal(*pair) for pair in zip(found, documents, strict=True))


def test_the_entry_describes_the_file(tmp_path: Path) -> None:
    documents = make_documents()
    entry = write(tmp_path, documents)
    content = (tmp_path / "train-000000.tar").read_bytes()
    tokens = sum(map(len, documents))
    assert entry == ShardEntry(
        "train-000000.tar", "train", len(content), hashlib.sha256(content).hexdigest(), 50, tokens, 3 * tokens
    )
    assert [file.name for file in tmp_path.iterdir()] == ["train-000000.tar"]


def test_members_are_blocks_of_plain_npy_without_time_or_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "BLOCK_TOKENS", 2000)
    entry = write(tmp_path, make_documents())
    with tarfile.open(tmp_path / entry.name) as tar:
        members = tar.getmembers()
        blocks = len(members) // 2
        assert blocks > 1
        names = [f"{block:06d}.{part}.npy" for block in range(blocks) for part in ("tokens", "offsets")]
        assert [member.name for member in members] == names
        assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
            (0, 0, 0, "", "")
        }
        offsets = np.load(io.BytesIO(tar.extractfile(names[1]).read()), allow_pickle=False)  # type: ignore[union-attr]
        assert offsets.dtype == np.uint32
        assert offsets[0] == 0


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    assert write(tmp_path, make_documents()) == write(tmp_path / "again", make_documents())


@pytest.mark.parametrize("damage", ["cut", "zeroed tail", "flipped bit", "gone", "longer"])
def test_a_damaged_shard_is_refused(tmp_path: Path, damage: str) -> None:
    entry = write(tmp_path, make_documents())
    path = tmp_path / entry.name
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[1024:]
    elif damage == "zeroed tail":
        content[2048:] = bytes(len(content) - 2048)
    elif damage == "flipped bit":
        content[700] ^= 1
    elif damage == "longer":
        content += bytes(512)
    path.write_bytes(content)
    if damage == "gone":
        path.unlink()
    with pytest.raises(ShardError, match=rf"shard {path} is (damaged|missing).*prepare"):
        read_shard(path, entry)


def test_a_tar_of_something_else_is_refused_though_its_hash_is_right(tmp_path: Path) -> None:
    for index, members in enumerate(foreign_members()):
        path = tmp_path / f"foreign-{index}.tar"
        with tarfile.open(path, "w") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        content = path.read_bytes()
        entry = ShardEntry(path.name, "train", len(content), hashlib.sha256(content).hexdigest(), 1, 3, 9)
        with pytest.raises(ShardError, match="holds"):
            read_shard(path, entry)


def foreign_members() -> list[dict[str, bytes]]:
    def npy(array: npt.ArrayLike, **options: bool) -> bytes:
        file = io.BytesIO()
        np.save(file, np.asarray(array), **options)
        return file.getvalue()

    tokens = np.array([1, 2, 3], dtype=np.uint16)
    pickled = npy(np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return [
        {"readme.txt": b"hello"},
        {"000000.tokens.npy": npy(tokens)},
        {"000000.tokens.npy": npy(tokens), "000000.offsets.npy": npy([0, 2])},
        {"000000.tokens.npy": npy(tokens), "000000.offsets.npy": npy([0, 4, 3])},
        {"000000.tokens.npy": npy(tokens.astype(float)), "000000.offsets.npy": npy([0, 3])},
        {"000000.tokens.npy": pickled, "000000.offsets.npy": npy([0, 1])},
        {"000000.tokens.npy": npy(tokens), "000000.offsets.npy": b"\x93NUMPY"},
        {"000000.tokens.npy": npy(tokens), "000000.offsets.npy.pkl": b"cos\nsystem\n(S'exit 1'\ntR."},
    ]


def test_counts_that_differ_from_the_manifest_are_refused(tmp_path: Path) -> None:
    entry = write(tmp_path, make_documents())
    with pytest.raises(ShardError, match="its manifest says"):
        read_shard(tmp_path / entry.name, dataclasses.replace(entry, documents=49))


def test_an_aborted_shard_leaves_nothing(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "train-000000.tar", "train", "uint16")
    writer.add(np.zeros(10, dtype=np.uint16), 30)
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_file_size_limit_is_a_storage_error_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = ShardWriter(tmp_path, "train-000000.tar", "train", "uint16")
    writer.add(np.zeros(500_000, dtype=np.uint16), 30)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match=r"train-000000.tar cannot be written: File too large .*free space"):
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_the_snippet_of_the_documentation_reads_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "shards.md").read_text(encoding="utf-8")
    snippet = page.split("```python\n")[1].split("```")[0]
    monkeypatch.setattr(shards, "BLOCK_TOKENS", 400)
    documents = make_documents(9)
    write(tmp_path, documents)
    command = [sys.executable, "-W", "ignore", "-c", snippet, str(tmp_path)]
    stock = {key: value for key, value in os.environ.items() if key != "WDS_SECURE"}  # set by what else runs here
    result = subprocess.run(command, env=stock, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    lines = [line.split(" ", 1) for line in result.stdout.splitlines()]
    assert [tokens for _, tokens in lines] == [str(document.tolist()) for document in documents]
    assert len({key for key, _ in lines}) > 1
