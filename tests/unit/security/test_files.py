"""Shards, checkpoints and tokenizers that somebody has sent: they are data, and stay inside their folder (docs/security.md)."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash

from framework.checkpoint.fragments import CheckpointReader, write_fragments
from framework.checkpoint.manifest import CheckpointManifest, FileEntry, hash_file, verify
from framework.checkpoint.manifest import load_manifest as load_checkpoint_manifest
from framework.data.manifest import ShardEntry, ShardManifest
from framework.data.manifest import load_manifest as load_shard_manifest
from framework.data.shards import read_shard
from framework.data.tokenizer import load_tokenizer
from framework.errors import CheckpointError, ShardError, TokenizerError
from tests.artefacts import vouched_tar

ROOT = Path(__file__).parents[3]
OUTSIDE = [
    "../outside",
    "../../outside",
    "a/../../outside",
    "/etc/hostname",
    "..",
    ".",
    "",
    "sub/file",
    "a\0b",
    "~/x",
    "C:\\x",
]


# --- Shards ---


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


OFFSETS = npy(np.array([0, 3], dtype=np.uint32))
TOKENS = npy(np.array([1, 2, 0], dtype=np.uint16))


def test_a_plain_shard_is_read(canary: Path) -> None:
    entry = vouched_tar(canary.parent / "good.tar", {"000000.tokens.npy": TOKENS, "000000.offsets.npy": OFFSETS})
    (document,) = read_shard(canary.parent / "good.tar", entry).documents()
    assert document.tolist() == [1, 2, 0]


@pytest.mark.parametrize("suffix", ["pyd", "pickle", "pkl", "pth", "npz", "tokens.pyd", "json", "cbor"])
def test_a_member_that_would_be_unpickled_elsewhere_is_not(canary: Path, payload: object, suffix: str) -> None:
    members = {
        "000000.tokens.npy": TOKENS,
        "000000.offsets.npy": OFFSETS,
        f"000000.{suffix}": pickle.dumps(payload),
    }
    entry = vouched_tar(canary.parent / "evil.tar", members)
    with suppress(ShardError):
        read_shard(canary.parent / "evil.tar", entry)


def test_an_array_of_pickled_objects_is_refused(canary: Path, payload: object) -> None:
    objects = npy(np.array([payload, payload, payload], dtype=object))
    entry = vouched_tar(canary.parent / "evil.tar", {"000000.tokens.npy": objects, "000000.offsets.npy": OFFSETS})
    with pytest.raises(ShardError, match=r"evil\.tar"):
        read_shard(canary.parent / "evil.tar", entry)


@pytest.mark.parametrize("name", ["../../outside", "/tmp/zerostream-outside", "../000000.tokens.npy"])
def test_members_are_never_written_anywhere(canary: Path, name: str) -> None:
    members = {"000000.tokens.npy": TOKENS, "000000.offsets.npy": OFFSETS, name: b"content"}
    entry = vouched_tar(canary.parent / "evil.tar", members)
    before = set(canary.parent.parent.rglob("*"))
    with suppress(ShardError):
        read_shard(canary.parent / "evil.tar", entry)
    assert set(canary.parent.parent.rglob("*")) == before
    assert not Path("/tmp/zerostream-outside").exists()


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_shard_manifest_names_files_beside_it_alone(canary: Path, name: str) -> None:
    entry = ShardEntry("train-000000.tar", "train", 1, "0" * 64, 1, 3, 6)
    manifest = ShardManifest("0" * 64, "1" * 64, "2" * 64, 300, "uint16", 0, (entry,))
    manifest.save(canary.parent)
    assert load_shard_manifest(canary.parent) == manifest
    dataclasses.replace(manifest, shards=(dataclasses.replace(entry, name=f"{name}.tar"),)).save(canary.parent)
    with pytest.raises(ShardError, match="is no plain file name"):
        load_shard_manifest(canary.parent)


@pytest.mark.parametrize("secure", [True, False], ids=["with framework.data", "webdataset alone"])
def test_webdataset_opens_no_pipe(canary: Path, secure: bool) -> None:
    """Without ``WDS_SECURE``, which ``framework.data`` sets before it imports webdataset, the attack works."""
    program = ("import framework.data.stream\n" if secure else "") + (
        "import webdataset\nstream = webdataset.gopen('pipe:touch ran')\nstream.read(); stream.close()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "WDS_SECURE"}
    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=canary.parent, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (finished.returncode != 0) == secure
    if not secure:
        assert canary.exists()
        canary.unlink()


# --- Checkpoints ---


def checkpoint_of(folder: Path, files: dict[str, bytes]) -> CheckpointManifest:
    """A checkpoint whose manifest vouches for these files."""
    folder.mkdir(exist_ok=True)
    entries = {}
    for name, content in files.items():
        (folder / name).write_bytes(content)
        entries[name] = FileEntry(len(content), xxhash.xxh3_128(content).hexdigest())
    manifest = CheckpointManifest(
        step=4,
        cursor=32,
        tokens=2048,
        world_size=1,
        engine_kind="reference",
        zero_stage=0,
        precision="fp32",
        applied_steps=4,
        loss_scale=None,
        train_loss=3.0,
        validation_loss=None,
        identity_fingerprint="a" * 64,
        data_fingerprint="b" * 64,
        files=entries,
    )
    manifest.save(folder)
    return manifest


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_checkpoint_manifest_names_files_beside_it_alone(canary: Path, name: str) -> None:
    folder = canary.parent / "step-00000004"
    manifest = checkpoint_of(folder, {})
    (canary.parent / "outside").write_bytes(b"content")
    entry = FileEntry(7, xxhash.xxh3_128(b"content").hexdigest())
    dataclasses.replace(manifest, files={name: entry}).save(folder)
    for read in (load_checkpoint_manifest, verify):
        with pytest.raises(CheckpointError, match="which is no plain name"):
            read(folder)


def test_the_attack_works_where_torch_unpickles(canary: Path, payload: object) -> None:
    torch.save({"weight": payload}, canary.parent / "evil.pt")
    torch.load(canary.parent / "evil.pt", weights_only=False)
    assert canary.exists()
    canary.unlink()


@pytest.mark.parametrize("name", ["state-00000-of-00001.safetensors", "evil.pt", "pytorch_model.bin"])
@pytest.mark.parametrize("container", ["pickle", "torch"])
def test_a_pickle_that_the_manifest_vouches_for_is_not_loaded(
    canary: Path, payload: object, name: str, container: str
) -> None:
    buffer = io.BytesIO()
    torch.save({"weight": payload}, buffer)
    content = buffer.getvalue() if container == "torch" else pickle.dumps(payload)
    folder = canary.parent / "step-00000004"
    checkpoint_of(folder, {name: content})
    with pytest.raises(CheckpointError, match="cannot be read"):
        CheckpointReader(folder, verify(folder))


def test_a_pickle_beside_a_whole_checkpoint_is_not_looked_at(canary: Path, payload: object) -> None:
    folder = canary.parent / "step-00000004"
    manifest = checkpoint_of(folder, {})
    path = folder / "state-00000-of-00001.safetensors"
    entry = write_fragments(path, {"weight/wte@0": np.arange(4, dtype=np.float32)}, step=4)
    assert entry == FileEntry(path.stat().st_size, hash_file(path))
    dataclasses.replace(manifest, files={path.name: entry}).save(folder)
    for name in ("rank-00000.pt", "mp_rank_00_model_states.pt", "optimizer.bin"):
        (folder / name).write_bytes(pickle.dumps(payload))
    (folder / "engine").mkdir()
    (folder / "engine" / "latest").write_text("evil")
    values = CheckpointReader(folder, verify(folder)).read("weight", "wte", 1, 3)
    assert values.tolist() == [1.0, 2.0, 3.0]


# --- Tokenizers ---


def test_a_tokenizer_is_its_json_and_no_code_beside_it(canary: Path, tiny_shards: Path) -> None:
    folder = canary.parent / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((tiny_shards / "tokenizer" / "tokenizer.json").read_bytes())
    evil = {"auto_map": {"AutoTokenizer": ["tokenization.Evil", None]}, "tokenizer_class": "Evil"}
    (folder / "tokenizer_config.json").write_text(json.dumps(evil))
    for name in ("tokenization.py", "__init__.py", "tokenizer.py"):
        (folder / name).write_text("import os; os.system('touch ran')")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.fingerprint == load_tokenizer(tiny_shards / "tokenizer").fingerprint
    assert tokenizer.decode(tokenizer.encode("Once upon a time")) == "Once upon a time"


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json"])
def test_a_tokenizer_that_is_a_pickle_is_refused(canary: Path, payload: object, name: str) -> None:
    folder = canary.parent / "tokenizer"
    folder.mkdir()
    (folder / name).write_bytes(pickle.dumps(payload))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(TokenizerError):
        load_tokenizer(folder)
