from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.checkpoint.manifest import CheckpointManifest, FileEntry, hash_file
from framework.config import dump_config, identity_fingerprint, load_config
from framework.data.manifest import load_manifest
from framework.data.shards import hash_shard
from framework.metrics.records import JsonLines
from framework.run_dir import RunDir
from tests.artefacts import checkpoint_manifest

ROOT = Path(__file__).parents[3]

RunCli = Callable[..., Any]
Damage = Callable[[Path], object]


def write_checkpoint(folder: Path, step: int, identity: str = "a" * 64) -> CheckpointManifest:
    folder.mkdir(parents=True)
    files = {}
    for rank in range(2):
        path = folder / f"state-{rank:05d}-of-00002.safetensors"
        path.write_bytes(bytes(range(256)) * (40 + rank))
        files[path.name] = FileEntry(path.stat().st_size, hash_file(path))
    manifest = checkpoint_manifest(
        step,
        files,
        tokens=512 * step,
        world_size=2,
        engine_kind="deepspeed",
        zero_stage=1,
        train_loss=3.0,
        identity_fingerprint=identity,
    )
    manifest.save(folder)
    return manifest


@pytest.fixture
def shards(tiny_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_shards, tmp_path / "shards"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "step-00000004", 4)
    return tmp_path / "step-00000004"


@pytest.fixture
def run(tiny_config: Path, tiny_shards: Path, tmp_path: Path) -> Path:
    """A run of 10 steps with checkpoints of steps 4 and 8."""
    run_dir = RunDir(tmp_path / "run")
    config = load_config(tiny_config, [f"run_dir={run_dir.path}"])
    run_dir.path.mkdir()
    run_dir.config.write_text(dump_config(config))
    run_dir.environment.write_text("{}")
    shutil.copytree(tiny_shards / "tokenizer", run_dir.tokenizer)
    metrics = JsonLines(run_dir.metrics, resume_step=0)
    for step in range(1, 11):
        metrics.append({"step": step, "loss": 1.0})
    metrics.close()
    evaluations = JsonLines(run_dir.evaluations, resume_step=0)
    evaluations.append({"step": 5, "loss": 1.0})
    evaluations.close()
    for step in (4, 8):
        write_checkpoint(run_dir.checkpoint(step), step, identity_fingerprint(config))
    return run_dir.path


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def states(run_cli: RunCli, path: Path) -> dict[str, str]:
    """State of every file by its path, as ``--json`` tells it; its exit code and last line have to agree."""
    result = run_cli("verify", path, "--json")
    report = json.loads(result.out)
    found = {file["path"]: file["state"] for file in report["files"]}
    damaged = [name for name, state in found.items() if state not in ("ok", "leftover")]
    assert report["ok"] == (not damaged)
    assert result.code == (2 if damaged else 0)
    if damaged:
        assert str(path / damaged[0]) in result.last_line
        assert found[damaged[0]] in result.last_line
        assert ". To fix it: " in result.last_line
    else:
        assert result.err == ""
    return found


def damaged(found: dict[str, str]) -> dict[str, str]:
    return {name: state for name, state in found.items() if state != "ok"}


# --- All is well ---


def test_whole_shards_are_well_and_each_is_named(run_cli: RunCli, shards: Path) -> None:
    found = states(run_cli, shards)
    assert found.keys() == {"manifest.json", "tokenizer", *(entry.name for entry in load_manifest(shards).shards)}
    assert set(found.values()) == {"ok"}


def test_a_whole_checkpoint_is_well(run_cli: RunCli, checkpoint: Path) -> None:
    names = ["manifest.json", "state-00000-of-00002.safetensors", "state-00001-of-00002.safetensors"]
    assert states(run_cli, checkpoint) == dict.fromkeys(names, "ok")


def test_a_whole_run_is_well_and_each_checkpoint_is_looked_at(run_cli: RunCli, run: Path) -> None:
    found = states(run_cli, run)
    assert set(found.values()) == {"ok"}
    assert {"config.yaml", "metrics.jsonl", "eval.jsonl", "environment.json", "tokenizer"} <= found.keys()
    assert {f"checkpoints/step-0000000{step}/manifest.json" for step in (4, 8)} <= found.keys()


def test_a_folder_of_checkpoints_is_looked_at_as_well(run_cli: RunCli, run: Path) -> None:
    assert set(states(run_cli, run / "checkpoints").values()) == {"ok"}


def test_it_reads_as_text(run_cli: RunCli, checkpoint: Path) -> None:
    (checkpoint / "state-00001-of-00002.safetensors").unlink()
    result = run_cli("verify", checkpoint)
    assert result.code == 2
    *lines, summary = result.out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["ok", "ok", "missing"]
    assert "2 ok, 1 missing" in summary
    assert result.last_line == (
        f"zerostream: {checkpoint}/state-00001-of-00002.safetensors: missing. To fix it: remove {checkpoint}: training goes "
        "on from the newest checkpoint that verifies, or restore it from a backup."
    )


# --- Shards ---


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 512)


def zero_the_tail(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(bytes(size - size // 2))


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "state"),
    [
        (Path.unlink, "missing"),
        (truncate, "wrong size"),
        (lambda path: path.write_bytes(b""), "wrong size"),
        (zero_the_tail, "wrong hash"),
        (flip_a_bit, "wrong hash"),
        (replace_by_a_folder, "unreadable"),
    ],
    ids=["missing", "truncated", "empty", "zero tail", "flipped bit", "folder"],
)
def test_a_damaged_shard_is_found(run_cli: RunCli, shards: Path, damage: Damage, state: str) -> None:
    name = load_manifest(shards).shards[1].name
    damage(shards / name)
    assert damaged(states(run_cli, shards)) == {name: state}


def test_what_a_cache_has_not_fetched_yet_is_said_to_be_no_loss(run_cli: RunCli, shards: Path) -> None:
    (shards / load_manifest(shards).shards[0].name).unlink()
    assert "remote" not in run_cli("verify", shards).last_line
    (shards / "prepare.journal.jsonl").unlink()
    assert "in a cache of remote shards nothing has to be done" in run_cli("verify", shards).last_line


def test_two_swapped_shards_are_both_found(run_cli: RunCli, shards: Path) -> None:
    first, second = (shards / entry.name for entry in load_manifest(shards).shards[:2])
    first.rename(shards / "aside")
    second.rename(first)
    (shards / "aside").rename(second)
    assert damaged(states(run_cli, shards)).keys() == {first.name, second.name}


def test_a_shard_with_other_counts_than_its_manifest_says_is_found(run_cli: RunCli, shards: Path) -> None:
    manifest = load_manifest(shards)
    entries = list(manifest.shards)
    entries[2] = dataclasses.replace(entries[2], documents=entries[2].documents + 1)
    dataclasses.replace(manifest, shards=tuple(entries)).save(shards)
    assert damaged(states(run_cli, shards)) == {entries[2].name: "wrong content"}


def test_a_shard_that_is_no_tar_but_what_its_manifest_says_is_found(run_cli: RunCli, shards: Path) -> None:
    manifest = load_manifest(shards)
    entries = list(manifest.shards)
    path = shards / entries[0].name
    path.write_bytes(b"no tar" * 1000)
    entries[0] = dataclasses.replace(entries[0], size_bytes=6000, sha256=hash_shard(path))
    dataclasses.replace(manifest, shards=tuple(entries)).save(shards)
    assert damaged(states(run_cli, shards)) == {path.name: "wrong content"}


def test_a_shard_that_stands_in_no_manifest_is_found(run_cli: RunCli, shards: Path) -> None:
    shutil.copy(shards / load_manifest(shards).shards[0].name, shards / "train-000999.tar")
    assert damaged(states(run_cli, shards)) == {"train-000999.tar": "extra"}


def test_what_an_interrupted_prepare_left_is_no_damage(run_cli: RunCli, shards: Path) -> None:
    (shards / "train-000999.tar.tmp").write_bytes(b"half")
    assert damaged(states(run_cli, shards)) == {"train-000999.tar.tmp": "leftover"}


@pytest.mark.parametrize(
    ("damage", "state"),
    [(Path.unlink, "missing"), (lambda path: os.truncate(path, 100), "unreadable")],
    ids=["missing", "cut"],
)
def test_a_damaged_manifest_of_shards_is_found(run_cli: RunCli, shards: Path, damage: Damage, state: str) -> None:
    damage(shards / "manifest.json")
    assert damaged(states(run_cli, shards)) == {"manifest.json": state}


def test_another_tokenizer_is_found(run_cli: RunCli, shards: Path) -> None:
    path = shards / "tokenizer" / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["merges"].pop()
    path.write_text(json.dumps(values))
    assert damaged(states(run_cli, shards)) == {"tokenizer": "wrong content"}


# --- Checkpoints ---


@pytest.mark.parametrize(
    ("damage", "state"),
    [
        (Path.unlink, "missing"),
        (truncate, "wrong size"),
        (flip_a_bit, "wrong hash"),
        (replace_by_a_folder, "unreadable"),
    ],
    ids=["missing", "truncated", "flipped bit", "folder"],
)
def test_a_damaged_checkpoint_file_is_found(run_cli: RunCli, checkpoint: Path, damage: Damage, state: str) -> None:
    name = "state-00000-of-00002.safetensors"
    damage(checkpoint / name)
    assert damaged(states(run_cli, checkpoint)) == {name: state}


def test_a_file_that_gives_an_input_output_error_is_found(run_cli: RunCli, checkpoint: Path) -> None:
    """/proc/self/mem is a file of size 0 whose first byte cannot be read."""
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"]["state-00000-of-00002.safetensors"]["size_bytes"] = 0
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    path = checkpoint / "state-00000-of-00002.safetensors"
    path.unlink()
    path.symlink_to("/proc/self/mem")
    assert damaged(states(run_cli, checkpoint)) == {path.name: "unreadable"}


def test_a_file_that_the_checkpoint_does_not_name_is_found(run_cli: RunCli, checkpoint: Path) -> None:
    (checkpoint / "optimizer.pt").write_bytes(b"\x80\x04.")
    assert damaged(states(run_cli, checkpoint)) == {"optimizer.pt": "extra"}


def test_a_checkpoint_in_the_folder_of_another_step_is_found(run_cli: RunCli, checkpoint: Path) -> None:
    moved = checkpoint.rename(checkpoint.with_name("step-00000009"))
    assert damaged(states(run_cli, moved)) == {"manifest.json": "wrong content"}


@pytest.mark.parametrize(
    ("damage", "state"),
    [(Path.unlink, "missing"), (lambda path: os.truncate(path, 100), "unreadable")],
    ids=["missing", "cut"],
)
def test_a_damaged_manifest_of_a_checkpoint_is_found(
    run_cli: RunCli, checkpoint: Path, damage: Damage, state: str
) -> None:
    damage(checkpoint / "manifest.json")
    assert states(run_cli, checkpoint) == {"manifest.json": state}


# --- Runs ---


def test_one_damaged_checkpoint_of_a_run_is_found(run_cli: RunCli, run: Path) -> None:
    name = "checkpoints/step-00000004/state-00001-of-00002.safetensors"
    flip_a_bit(run / name)
    assert damaged(states(run_cli, run)) == {name: "wrong hash"}


def test_a_checkpoint_of_another_run_is_found(run_cli: RunCli, run: Path) -> None:
    shutil.rmtree(run / "checkpoints" / "step-00000008")
    write_checkpoint(run / "checkpoints" / "step-00000008", 8, identity="c" * 64)
    assert damaged(states(run_cli, run)) == {"checkpoints/step-00000008/manifest.json": "wrong content"}


def test_a_save_that_a_kill_cut_short_is_no_damage(run_cli: RunCli, run: Path) -> None:
    (run / "checkpoints" / "step-00000012.tmp").mkdir()
    assert damaged(states(run_cli, run)) == {"checkpoints/step-00000012.tmp": "leftover"}


def drop_line_3(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]))


@pytest.mark.parametrize(
    ("damage", "state"),
    [
        (drop_line_3, "wrong content"),
        (lambda path: path.write_text(path.read_text().replace('"step": 5', '"step": "five"')), "wrong content"),
        (lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[:7])), "wrong content"),
        (lambda path: path.write_bytes(path.read_bytes()[:40] + bytes(20) + b"\n"), "wrong content"),
        (Path.unlink, "missing"),
        (replace_by_a_folder, "unreadable"),
    ],
    ids=["hole", "no number", "ends before the checkpoint", "zeros", "missing", "folder"],
)
def test_a_damaged_curve_is_found(run_cli: RunCli, run: Path, damage: Damage, state: str) -> None:
    damage(run / "metrics.jsonl")
    assert damaged(states(run_cli, run)) == {"metrics.jsonl": state}


def test_a_last_line_that_a_kill_cut_short_is_no_damage(run_cli: RunCli, run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "lo')
    assert damaged(states(run_cli, run)) == {}


def test_a_damaged_config_is_found_and_the_checkpoints_are_looked_at_all_the_same(run_cli: RunCli, run: Path) -> None:
    (run / "config.yaml").write_text("train: {max_steps: many}")
    flip_a_bit(run / "checkpoints" / "step-00000004" / "state-00000-of-00002.safetensors")
    assert damaged(states(run_cli, run)) == {
        "config.yaml": "unreadable",
        "checkpoints/step-00000004/state-00000-of-00002.safetensors": "wrong hash",
    }


@pytest.mark.parametrize(
    ("name", "content", "state"),
    [
        ("eval.jsonl", '{"step": 5}\n{"loss": 1.0}\n', "wrong content"),
        ("events.jsonl", "[]\n", "wrong content"),
        ("result.json", '{"status": ', "wrong content"),
        ("tokenizer/tokenizer.json", "{}", "unreadable"),
    ],
)
def test_a_damaged_record_is_found(run_cli: RunCli, run: Path, name: str, content: str, state: str) -> None:
    (run / name).write_text(content)
    assert damaged(states(run_cli, run)) == {name.partition("/")[0]: state}


# --- Neither ---


@pytest.mark.parametrize("name", ["nowhere", "file", "empty"])
def test_what_is_nothing_to_verify_is_refused(run_cli: RunCli, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    result = run_cli("verify", tmp_path / name)
    assert (result.code, result.out) == (2, "")
    assert str(tmp_path / name) in result.last_line
    assert "name a folder of shards, a checkpoint's folder, or a run directory" in result.last_line


# --- In a process of its own ---


def test_shards_are_verified_in_a_new_process(shards: Path) -> None:
    """Several threads decode; what they need must have been imported before."""
    command = [sys.executable, "-m", "launch.cli", "verify", str(shards)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.splitlines()[-1].startswith(f"shards {shards}: {2 + len(load_manifest(shards).shards)} ok; ")


def test_checkpoints_and_runs_are_verified_without_torch(run: Path) -> None:
    program = f"""
import sys
from launch.cli import main
for path in {[str(run), str(run / "checkpoints" / "step-00000004")]}:
    sys.argv = ["zerostream", "verify", path]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, ended.code
loaded = [name for name in ("torch", "webdataset", "transformers") if name in sys.modules]
assert loaded == [], loaded
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_nothing_is_changed(run_cli: RunCli, run: Path, listing: Callable[[Path], dict[str, bytes | None]]) -> None:
    flip_a_bit(run / "checkpoints" / "step-00000004" / "state-00000-of-00002.safetensors")
    before = listing(run)
    run_cli("verify", run)
    assert listing(run) == before
