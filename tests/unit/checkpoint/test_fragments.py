from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

from framework.checkpoint.fragments import CheckpointReader, fragment_key, write_fragments
from framework.checkpoint.manifest import CheckpointManifest, FileEntry, hash_file
from framework.errors import CheckpointError, NonFiniteError
from tests.artefacts import checkpoint_manifest

Arrays = dict[str, npt.NDArray[np.float32]]


def manifest_of(files: dict[str, FileEntry]) -> CheckpointManifest:
    return checkpoint_manifest(1, files, world_size=len(files))


def cut(
    values: npt.NDArray[np.float32], pieces: int, chance: random.Random
) -> list[tuple[int, npt.NDArray[np.float32]]]:
    ends = sorted(chance.sample(range(1, len(values)), pieces - 1))
    return [(first, values[first:last]) for first, last in zip([0, *ends], [*ends, len(values)], strict=True)]


@pytest.mark.parametrize("seed", range(20))
def test_whoever_cut_it_any_part_reads_back_the_same(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    ranks = chance.choice([1, 2, 3, 7])
    values = np.random.default_rng(seed).standard_normal(chance.randrange(50, 200), dtype=np.float32)
    pieces = cut(values, chance.randrange(1, 9), chance)
    shares: list[Arrays] = [{} for _ in range(ranks)]
    for start, part in pieces:
        shares[chance.randrange(ranks)][fragment_key("weight", "h.0.w", start)] = part
    files = {f"s{rank}": write_fragments(tmp_path / f"s{rank}", share, step=1) for rank, share in enumerate(shares)}
    reader = CheckpointReader(tmp_path, manifest_of(files))
    assert reader.names("weight") == {"h.0.w"}
    for _ in range(30):
        first = chance.randrange(len(values))
        count = chance.randrange(len(values) - first + 1)
        assert np.array_equal(reader.read("weight", "h.0.w", first, count).numpy(), values[first : first + count])
    with pytest.raises(CheckpointError, match=f"from element {len(values)} on"):
        reader.read("weight", "h.0.w", 1, len(values))


def test_the_library_reads_our_file_and_the_entry_describes_it(tmp_path: Path) -> None:
    arrays: Arrays = {"weight/a@0": np.arange(5, dtype=np.float32), "weight/b@3": np.zeros(0, dtype=np.float32)}
    entry = write_fragments(tmp_path / "s", arrays, step=1)
    assert entry == FileEntry((tmp_path / "s").stat().st_size, hash_file(tmp_path / "s"))
    loaded = load_file(tmp_path / "s")
    assert loaded.keys() == arrays.keys()
    assert torch.equal(loaded["weight/a@0"], torch.arange(5, dtype=torch.float32))


def test_a_gap_and_a_missing_name_are_refused(tmp_path: Path) -> None:
    arrays: Arrays = {"weight/a@0": np.ones(4, dtype=np.float32), "weight/a@6": np.ones(4, dtype=np.float32)}
    reader = CheckpointReader(tmp_path, manifest_of({"s": write_fragments(tmp_path / "s", arrays, step=1)}))
    with pytest.raises(CheckpointError, match="lacks weight of a from element 4 on"):
        reader.read("weight", "a", 0, 10)
    with pytest.raises(CheckpointError, match="lacks exp_avg of a from element 0 on"):
        reader.read("exp_avg", "a", 0, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_not_saved(tmp_path: Path, bad: float) -> None:
    values = np.zeros(1000, dtype=np.float32)
    values[777] = bad
    with pytest.raises(NonFiniteError, match="exp_avg/a@0"):
        write_fragments(tmp_path / "s", {"exp_avg/a@0": values}, step=1)
    assert not (tmp_path / "s").exists()


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"\x80\x04pickle")
    with pytest.raises(CheckpointError, match="cannot be read"):
        CheckpointReader(tmp_path, manifest_of({"s": FileEntry(8, "")}))
