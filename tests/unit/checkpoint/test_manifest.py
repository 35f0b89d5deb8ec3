from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from framework.checkpoint.manifest import (
    CheckpointManifest,
    FileEntry,
    hash_file,
    load_manifest,
    verify,
)
from framework.checkpoint.store import CheckpointStore, find_newest_verified
from framework.config import Config, build_config, identity_fingerprint, plan_batch
from framework.config.schema import CheckpointConfig
from framework.engine import Engine, World, build_engine, join_world
from framework.errors import CheckpointError, StorageError
from framework.model.build import build_model
from framework.run_dir import RunDir
from tests.artefacts import checkpoint_manifest

Damage = Callable[[Path], object]


def write_checkpoint(folder: Path, step: int) -> CheckpointManifest:
    folder.mkdir(parents=True)
    (folder / "state-0").write_bytes(bytes(range(256)) * 4)
    (folder / "state-1").write_bytes(f"weights of {step}".encode())
    files = {
        name: FileEntry((folder / name).stat().st_size, hash_file(folder / name)) for name in ("state-0", "state-1")
    }
    manifest = checkpoint_manifest(step, files, cursor=16 * step)
    manifest.save(folder)
    return manifest


def truncate(folder: Path) -> None:
    os.truncate(folder / "state-0", 1000)


def flip_a_bit(folder: Path) -> None:
    path = folder / "state-0"
    content = bytearray(path.read_bytes())
    content[77] ^= 4
    path.write_bytes(content)


def remove_a_file(folder: Path) -> None:
    (folder / "state-1").unlink()


def remove_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def cut_the_manifest(folder: Path) -> None:
    os.truncate(folder / "manifest.json", 100)


DAMAGES: list[tuple[Damage, str]] = [
    (truncate, r"state-0 has 1000 bytes, not 1024"),
    (flip_a_bit, r"state-0 does not have its recorded hash"),
    (remove_a_file, r"state-1 is missing"),
    (remove_the_manifest, r"no readable manifest"),
    (cut_the_manifest, r"no readable manifest"),
]


# --- Verifying ---


def test_a_whole_checkpoint_verifies_and_its_manifest_comes_back(tmp_path: Path) -> None:
    written = write_checkpoint(tmp_path / "step-00000004", 4)
    assert verify(tmp_path / "step-00000004") == load_manifest(tmp_path / "step-00000004") == written
    assert written.files["state-0"].size_bytes == 1024


@pytest.mark.parametrize(("damage", "said"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_damage_is_found_and_named(tmp_path: Path, damage: Damage, said: str) -> None:
    folder = tmp_path / "step-00000004"
    write_checkpoint(folder, 4)
    damage(folder)
    with pytest.raises(CheckpointError, match=said):
        verify(folder)


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"files": {"a": {"size": 3}}}', '{"files": [], "step": 1}', "null"],
)
def test_a_manifest_of_another_shape_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match="no readable manifest"):
        load_manifest(tmp_path)


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    manifest = write_checkpoint(tmp_path / "step-00000004", 4)
    dataclasses.replace(manifest, format_version=9).save(tmp_path / "step-00000004")
    with pytest.raises(CheckpointError, match="format version 9"):
        verify(tmp_path / "step-00000004")


@pytest.mark.parametrize("shares", [1, 2, 3])
def test_ranks_that_share_the_files_miss_none(tmp_path: Path, shares: int) -> None:
    folder = tmp_path / "step-00000004"
    for name in ("state-0", "state-1"):
        shutil.rmtree(folder, ignore_errors=True)
        write_checkpoint(folder, 4)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert sum(is_refused(folder, share, shares) for share in range(shares)) == 1


def is_refused(folder: Path, share: int, shares: int) -> bool:
    try:
        verify(folder, share=share, shares=shares)
    except CheckpointError:
        return True
    return False


# --- Choosing ---

Choose = Callable[[RunDir], CheckpointManifest | None]


@pytest.fixture(params=["by a reader", "by ranks that build meanwhile"])
def choose(request: pytest.FixtureRequest, world: World) -> Choose:
    def by_ranks(run_dir: RunDir) -> CheckpointManifest | None:
        store = CheckpointStore(config_of(run_dir.path), "d" * 64, world)
        assert store.begin_verifying() == bool(run_dir.checkpoint_steps())
        return store.newest_verified()

    return find_newest_verified if request.param == "by a reader" else by_ranks


def test_the_newest_that_verifies_is_chosen(tmp_path: Path, choose: Choose) -> None:
    run_dir = RunDir(tmp_path)
    for step in (2, 4, 10):
        write_checkpoint(run_dir.checkpoint(step), step)
    newest = choose(run_dir)
    assert newest is not None
    assert newest.step == 10


@pytest.mark.parametrize("damage", [damage for damage, _ in DAMAGES])
def test_an_older_one_is_chosen_where_the_newest_is_damaged(tmp_path: Path, choose: Choose, damage: Damage) -> None:
    run_dir = RunDir(tmp_path)
    for step in (2, 4):
        write_checkpoint(run_dir.checkpoint(step), step)
    damage(run_dir.checkpoint(4))
    newest = choose(run_dir)
    assert newest is not None
    assert newest.step == 2


def test_none_that_verifies_is_an_error_and_no_start_from_scratch(tmp_path: Path, choose: Choose) -> None:
    run_dir = RunDir(tmp_path)
    for step in (2, 4):
        write_checkpoint(run_dir.checkpoint(step), step)
        flip_a_bit(run_dir.checkpoint(step))
    with pytest.raises(CheckpointError, match=r"no checkpoint .* verifies: .*step-00000004"):
        choose(run_dir)


def test_other_files_and_unfinished_saves_are_no_checkpoints(tmp_path: Path, choose: Choose) -> None:
    run_dir = RunDir(tmp_path)
    assert choose(run_dir) is None
    write_checkpoint(run_dir.checkpoints / "step-00000004.tmp", 4)
    (run_dir.checkpoints / "notes").mkdir()
    assert run_dir.checkpoint_steps() == []
    assert choose(run_dir) is None


# --- The store, with one rank and the reference engine ---


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with join_world(30) as joined:
        yield joined


def config_of(run_dir: Path, keep: int = 2) -> Config:
    return build_config(
        {
            "run_dir": str(run_dir),
            "model": {"layers": 1, "width": 16, "heads": 2, "context_length": 8},
            "engine": {"kind": "reference", "micro_batch_size": 2, "global_batch_size": 4},
            "checkpoint": {"keep": keep},
        },
        origin="test",
    )


def engine_of(config: Config, world: World) -> Engine:
    return build_engine(config, plan_batch(config, 1), world, build_model(config, 50, 0))


STATE = "state-00000-of-00001.safetensors"


def save(store: CheckpointStore, step: int, engine: Engine, tokens: int) -> None:
    store.save(step, engine, tokens=tokens)
    store.finish()


def folders(run_dir: Path) -> list[str]:
    return sorted(entry.name for entry in (run_dir / "checkpoints").iterdir())


def test_saving_five_and_keeping_two_leaves_the_newest_two(tmp_path: Path, world: World) -> None:
    config = config_of(tmp_path)
    store, engine = CheckpointStore(config, "d" * 64, world), engine_of(config, world)
    kept = []
    for step in (1, 2, 3, 10, 20):
        save(store, step, engine, 10 * step)
        kept.append(folders(tmp_path))
    assert kept == [
        ["step-00000001"],
        ["step-00000001", "step-00000002"],
        ["step-00000002", "step-00000003"],
        ["step-00000003", "step-00000010"],
        ["step-00000010", "step-00000020"],
    ]


def test_a_saved_checkpoint_verifies_and_says_who_wrote_it(tmp_path: Path, world: World) -> None:
    config = config_of(tmp_path)
    save(CheckpointStore(config, "d" * 64, world), 3, engine_of(config, world), 30)
    manifest = verify(RunDir(tmp_path).checkpoint(3))
    assert manifest.files.keys() == {STATE}
    assert all(isinstance(entry, FileEntry) and entry.size_bytes > 0 for entry in manifest.files.values())
    described = json.loads((RunDir(tmp_path).checkpoint(3) / "manifest.json").read_text())
    del described["files"]
    assert described == {
        "step": 3,
        "cursor": 12,
        "tokens": 30,
        "world_size": 1,
        "engine_kind": "reference",
        "zero_stage": 0,
        "precision": "fp32",
        "applied_steps": 0,
        "loss_scale": None,
        "train_loss": None,
        "validation_loss": None,
        "identity_fingerprint": identity_fingerprint(config),
        "data_fingerprint": "d" * 64,
        "format_version": 3,
    }


def test_loading_brings_the_weights_back(tmp_path: Path, world: World) -> None:
    config = config_of(tmp_path)
    store, engine = CheckpointStore(config, "d" * 64, world), engine_of(config, world)
    save(store, 1, engine, 10)
    saved = {name: parameter.detach().clone() for name, parameter in engine.model.named_parameters()}
    with torch.no_grad():
        for parameter in engine.model.parameters():
            parameter += 1.0
    assert store.begin_verifying()
    newest = store.newest_verified()
    assert newest is not None
    store.load(newest, engine)
    assert all(torch.equal(parameter, saved[name]) for name, parameter in engine.model.named_parameters())


def test_loading_fills_a_model_that_was_built_to_be_filled(tmp_path: Path, world: World) -> None:
    config = config_of(tmp_path)
    store, engine = CheckpointStore(config, "d" * 64, world), engine_of(config, world)
    save(store, 1, engine, 10)
    saved = {name: parameter.detach().clone() for name, parameter in engine.model.named_parameters()}
    model = build_model(config, 50, 0, weights_follow=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))  # anything
    empty = build_engine(config, plan_batch(config, 1), world, model)
    store.load(load_manifest(RunDir(tmp_path).checkpoint(1)), empty)
    assert all(torch.equal(parameter, saved[name]) for name, parameter in empty.model.named_parameters())


def test_a_weight_that_loading_leaves_out_does_not_go_unnoticed(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path)
    store, engine = CheckpointStore(config, "d" * 64, world), engine_of(config, world)
    save(store, 1, engine, 10)
    manifest = load_manifest(RunDir(tmp_path).checkpoint(1))
    held = list(engine._held())
    monkeypatch.setattr(engine, "_held", lambda: iter(held[1:]))
    with pytest.raises(AssertionError, match="weights were restored"):
        store.load(manifest, engine)
    monkeypatch.setattr(engine, "_held", lambda: iter([dataclasses.replace(held[0], name="new"), *held[1:]]))
    with pytest.raises(CheckpointError, match="lacks weight of new from element 0 on"):
        store.load(manifest, engine)


def test_what_a_killed_save_left_is_gone_after_the_next(tmp_path: Path, world: World) -> None:
    config = config_of(tmp_path)
    store, engine = CheckpointStore(config, "d" * 64, world), engine_of(config, world)
    save(store, 1, engine, 10)
    stale = RunDir(tmp_path).checkpoints / "step-00000002.tmp"
    stale.mkdir(parents=True)
    (stale / "half").write_bytes(b"of a file")
    save(store, 2, engine, 20)
    assert folders(tmp_path) == ["step-00000001", "step-00000002"]
    assert not (RunDir(tmp_path).checkpoint(2) / "half").exists()


def test_a_checkpoint_of_the_step_that_did_not_verify_is_replaced(tmp_path: Path, world: World) -> None:
    config = config_of(tmp_path)
    store, engine = CheckpointStore(config, "d" * 64, world), engine_of(config, world)
    save(store, 1, engine, 10)
    os.truncate(RunDir(tmp_path).checkpoint(1) / STATE, 5)
    save(store, 1, engine, 10)
    verify(RunDir(tmp_path).checkpoint(1))
    assert folders(tmp_path) == ["step-00000001"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB, room for one checkpoint."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system takes root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.faults
def test_a_full_disk_is_a_storage_error_and_leaves_the_older_checkpoint(small_disk: Path, world: World) -> None:
    config = config_of(small_disk)
    store, engine = CheckpointStore(config, "d" * 64, world), engine_of(config, world)
    save(store, 1, engine, 10)
    free = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - 16_384))
    with pytest.raises(StorageError) as caught:
        save(store, 2, engine, 20)
    assert "step-00000002.tmp" in caught.value.cause
    newest = find_newest_verified(RunDir(small_disk))
    assert newest is not None
    assert newest.step == 1
    (small_disk / "filler").unlink()
    save(store, 2, engine, 20)
    assert folders(small_disk) == ["step-00000001", "step-00000002"]


@pytest.mark.faults
def test_a_read_only_disk_is_a_storage_error_and_leaves_the_older_checkpoint(small_disk: Path, world: World) -> None:
    config = config_of(small_disk)
    store, engine = CheckpointStore(config, "d" * 64, world), engine_of(config, world)
    save(store, 1, engine, 10)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="Read-only"):
        save(store, 2, engine, 20)
    newest = find_newest_verified(RunDir(small_disk))
    assert newest is not None
    assert newest.step == 1


def test_a_later_checkpoint_that_does_not_verify_never_displaces_a_good_one(tmp_path: Path, world: World) -> None:
    config = config_of(tmp_path).model_copy(update={"checkpoint": CheckpointConfig(keep=1)})
    store, engine = CheckpointStore(config, "d" * 64, world), engine_of(config, world)
    save(store, 9, engine, 90)
    (RunDir(tmp_path).checkpoint(9) / STATE).write_bytes(b"")
    save(store, 5, engine, 50)
    newest = find_newest_verified(RunDir(tmp_path))
    assert newest is not None
    assert (newest.step, newest.tokens) == (5, 50)
    assert folders(tmp_path) == ["step-00000005"]
