from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import os
import pickle
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
from tests.artefacts import vouched_tar

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
    assert content.memory.dtype == dtype
    assert not content.memory.flags.writeable
    assert content.tokens == sum(map(len, documents))
    assert all(np.array_equal(*pair) for pair in zip(content.documents(), documents, strict=True))


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
        entry = vouched_tar(path, members)
        with pytest.raises(ShardError, match="holds"):
            read_shard(path, entry)
    assert "ZEROSTREAM_FIRED" not in os.environ


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
        {"000000.tokens.npy": npy(tokens), "000000.offsets.npy": npy([0, 3]), "000000.more.pkl": pickle.dumps(Fires())},
        {"000000.tokens.npy": npy(tokens), "000000.offsets.npy": npy([0, 3]), "000000.more.pyd": pickle.dumps(Fires())},
        {"000000.tokens.npy": npy(tokens), "000000.offsets.npy": npy([0, 3]), "000000.more.pth": pickle.dumps(Fires())},
        {
            "000000.tokens.npy": npy(np.array([Fires()], dtype=object), allow_pickle=True),
            "000000.offsets.npy": npy([0, 1]),
        },
        {"../000000.tokens.npy": npy(tokens), "../000000.offsets.npy": npy([0, 3])},
        {"/000000.tokens.npy": npy(tokens), "/000000.offsets.npy": npy([0, 3])},
        {"000000.tokens.npy": npy(tokens.reshape(1, 3)), "000000.offsets.npy": npy([0, 3])},
        {"000000.tokens.npy": npy(tokens)[:-2], "000000.offsets.npy": npy([0, 3])},
        {"000000.tokens.npy": npy(tokens) + b"more", "000000.offsets.npy": npy([0, 3])},
        {"000000.tokens.npy": vast(), "000000.offsets.npy": npy([0, 3])},
        {"000000.tokens.npy": at_an_odd_byte(tokens), "000000.offsets.npy": npy([0, 3])},
        {
            "000000.tokens.npy": npy(tokens),
            "000000.offsets.npy": npy([0, 3]),
            "000001.tokens.npy": npy(tokens.astype(np.uint32)),
            "000001.offsets.npy": npy([0, 3]),
        },
    ]


class Fires:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("import os; os.environ['ZEROSTREAM_FIRED'] = '1'",)


def vast() -> bytes:
    """A .npy of few bytes that says it holds 2^50 tokens."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": (2**50,)})
    return file.getvalue()


def at_an_odd_byte(tokens: npt.NDArray[np.uint16]) -> bytes:
    """A .npy that is well-formed, but for where its values begin: no token of the tar as a whole stands there."""
    header = b"{'descr': '<u2', 'fortran_order': False, 'shape': (3,), } \n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + tokens.tobytes()


def tar_entry(path: Path) -> ShardEntry:
    content = path.read_bytes()
    return ShardEntry(path.name, "train", len(content), hashlib.sha256(content).hexdigest(), 1, 3, 9)


def test_a_member_of_negative_size_is_refused_and_not_read_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "backwards.tar"
    array = io.BytesIO()
    np.save(array, np.array([1, 2, 3], dtype=np.uint16))
    vouched_tar(path, {"000000.tokens.npy": array.getvalue(), "000000.offsets.npy": array.getvalue()})
    content = bytearray(path.read_bytes())
    header = content[1024:1536]  # of the second member
    header[124:136] = (2**96 - 1536).to_bytes(12, "big")  # GNU tar's base 256: back to the first header
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[1024:1536] = header
    path.write_bytes(bytes(content))
    with pytest.raises(ShardError, match=r"says -1536 bytes"):
        read_shard(path, tar_entry(path))


def test_a_sparse_member_that_would_grow_is_refused_before_it_is_read(tmp_path: Path) -> None:
    # GNU tar, format 1.0 in a pax header: three bytes in the archive, a terabyte when it is read.
    path, claimed = tmp_path / "sparse.tar", 2**40
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("000000.tokens.npy")
        member.pax_headers = {
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0",
            "GNU.sparse.name": "000000.tokens.npy", "GNU.sparse.realsize": str(claimed),
        }  # fmt: skip
        block = b"1\n0\n3\n".ljust(512, b"\0") + b"abc"
        member.size = len(block)
        tar.addfile(member, io.BytesIO(block))
    with tarfile.open(path) as tar:
        assert tar.getmembers()[0].size == claimed
    with pytest.raises(ShardError, match="is none of ours"):
        read_shard(path, tar_entry(path))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_member_that_is_no_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("000000.tokens.npy")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(ShardError, match="is none of ours"):
        read_shard(path, tar_entry(path))


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    entry = write(tmp_path, make_documents())
    path = tmp_path / entry.name
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ShardError, match="holds no token blocks"):
        read_shard(path, tar_entry(path))


def test_no_more_of_a_file_is_read_than_its_manifest_says(tmp_path: Path) -> None:
    entry = write(tmp_path, make_documents())
    path = tmp_path / entry.name
    os.truncate(path, 2**42)  # a hole: reading it would need four terabytes of memory
    with pytest.raises(ShardError, match=rf"is damaged: {2**42} bytes, its manifest says {entry.size_bytes}"):
        read_shard(path, entry)


def test_pickles_and_shells_of_webdataset_are_off_whatever_the_user_has_set() -> None:
    script = (
        "import framework.data.shards, webdataset.utils, webdataset.autodecode as decode\n"
        "assert webdataset.utils.enforce_security\n"
        "for attempt in (lambda: webdataset.gopen('pipe:echo hello'), lambda: decode.unpickle_loads(b'N.')):\n"
        "    try: attempt()\n"
        "    except ValueError as error: print(error)\n"
    )
    environment = {**os.environ, "WDS_SECURE": "0"}
    command = [sys.executable, "-W", "ignore", "-c", script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    pipe, pickled = result.stdout.splitlines()
    assert "cannot open pipe URLs" in pipe
    assert "Unpickling is not allowed" in pickled


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
