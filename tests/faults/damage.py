"""What happens to files while no rank looks: shards and checkpoints, torn, exchanged, lost."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from framework.checkpoint.manifest import MANIFEST_NAME
from framework.run_dir import RunDir
from tests.faults.scenario import Damage, Scene


def _train_shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("train-*.tar"))


def _overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def flip_bit(path: Path, rng: random.Random) -> None:
    """One bit of one byte, anywhere in the file."""
    offset = rng.randrange(path.stat().st_size)
    with path.open("rb") as file:
        file.seek(offset)
        byte = file.read(1)[0]
    _overwrite(path, offset, bytes([byte ^ (1 << rng.randrange(8))]))


def truncate_shard(folder: Path, rng: random.Random) -> None:
    path = rng.choice(_train_shards(folder))
    os.truncate(path, rng.randrange(512, path.stat().st_size))


def zero_tail_of_shard(folder: Path, rng: random.Random) -> None:
    """A tar ends with zeros of its own: those are not enough."""
    path = rng.choice(_train_shards(folder))
    size = path.stat().st_size
    keep = rng.randrange(512, max(513, len(path.read_bytes().rstrip(b"\0")) - 512))
    _overwrite(path, keep, bytes(size - keep))


def flip_bit_of_shard(folder: Path, rng: random.Random) -> None:
    flip_bit(rng.choice(_train_shards(folder)), rng)


def lose_shard(folder: Path, rng: random.Random) -> None:
    rng.choice(_train_shards(folder)).unlink()


def empty_shard(folder: Path, rng: random.Random) -> None:
    os.truncate(rng.choice(_train_shards(folder)), 0)


def swap_shards(folder: Path, rng: random.Random) -> None:
    first, second = rng.sample(_train_shards(folder), 2)
    aside = folder / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def add_shard(folder: Path, rng: random.Random) -> None:
    """A file that the manifest does not know."""
    shutil.copy(rng.choice(_train_shards(folder)), folder / f"train-{rng.randrange(500, 1000):06d}.tar")


def change_shard_list(folder: Path, rng: random.Random) -> None:
    """A folder that is sound in itself, and lacks a shard that the run began with."""
    path = folder / MANIFEST_NAME
    values = json.loads(path.read_text())
    gone = rng.choice([shard for shard in values["shards"] if shard["split"] == "train"])
    values["shards"].remove(gone)
    (folder / gone["name"]).unlink()
    path.write_text(json.dumps(values))


SHARD_DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "truncated": truncate_shard,
    "zero-tailed": zero_tail_of_shard,
    "bit-flipped": flip_bit_of_shard,
    "missing": lose_shard,
    "empty": empty_shard,
    "swapped": swap_shards,
}


def to_shards(damage: Callable[[Path, random.Random], None]) -> Damage:
    return lambda scene: damage(scene.shards, scene.rng)


def restore_shards(scene: Scene) -> None:
    scene.restore_shards()


def _checkpoints(scene: Scene) -> list[Path]:
    """Newest first."""
    run_dir = RunDir(scene.run_dir)
    folders = [run_dir.checkpoint(step) for step in reversed(run_dir.checkpoint_steps())]
    assert len(folders) >= 2, f"{len(folders)} checkpoints are too few to damage one and fall back to another"
    return folders


def _a_fragment(folder: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(path for path in folder.iterdir() if path.name != MANIFEST_NAME))


def lose_fragment(scene: Scene) -> None:
    _a_fragment(_checkpoints(scene)[0], scene.rng).unlink()


def truncate_fragment(scene: Scene) -> None:
    path = _a_fragment(_checkpoints(scene)[0], scene.rng)
    os.truncate(path, scene.rng.randrange(path.stat().st_size))


def flip_bit_of_fragment(scene: Scene) -> None:
    flip_bit(_a_fragment(_checkpoints(scene)[0], scene.rng), scene.rng)


def lose_manifest(scene: Scene) -> None:
    (_checkpoints(scene)[0] / MANIFEST_NAME).unlink()


def truncate_manifest(scene: Scene) -> None:
    path = _checkpoints(scene)[0] / MANIFEST_NAME
    os.truncate(path, scene.rng.randrange(path.stat().st_size))


def leave_temporary_folder(scene: Scene) -> None:
    """As a save that was killed leaves it: the next step's folder, with a part of one file."""
    newest = _checkpoints(scene)[0]
    step = int(newest.name.removeprefix("step-"))
    for later in (step + 1, step + 3):
        folder = newest.with_name(f"step-{later:08d}.tmp")
        shutil.copytree(newest, folder)
        (folder / MANIFEST_NAME).unlink()
        path = _a_fragment(folder, scene.rng)
        os.truncate(path, scene.rng.randrange(path.stat().st_size))


def break_two_newest(scene: Scene) -> None:
    newest, second, *rest = _checkpoints(scene)
    assert rest, "two broken ones leave none to fall back to"
    flip_bit(_a_fragment(newest, scene.rng), scene.rng)
    _a_fragment(second, scene.rng).unlink()


def take_manifest_of(overrides: tuple[str, ...]) -> Damage:
    """The manifest of another run, of the same step."""

    def damage(scene: Scene) -> None:
        newest = _checkpoints(scene)[0]
        other = scene.golden(overrides, 2) / "checkpoints" / newest.name / MANIFEST_NAME
        shutil.copy(other, newest / MANIFEST_NAME)

    return damage


def take_checkpoint_of(overrides: tuple[str, ...]) -> Damage:
    """A whole checkpoint of another run, of the same step."""

    def damage(scene: Scene) -> None:
        newest = _checkpoints(scene)[0]
        shutil.rmtree(newest)
        shutil.copytree(scene.golden(overrides, 2) / "checkpoints" / newest.name, newest)

    return damage


def take_older_manifest(scene: Scene) -> None:
    """The manifest of this run's own previous checkpoint."""
    newest, second, *_ = _checkpoints(scene)
    shutil.copy(second / MANIFEST_NAME, newest / MANIFEST_NAME)


def remove_newest(scene: Scene) -> None:
    """What the message of a refusal asks for."""
    shutil.rmtree(_checkpoints(scene)[0])
