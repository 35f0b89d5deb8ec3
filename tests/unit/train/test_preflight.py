from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.config import Config, build_config, dump_config, identity_fingerprint, load_config
from framework.config.schema import ModelConfig
from framework.data.manifest import load_manifest
from framework.data.prepare import prepare
from framework.durable import only_one_writer
from framework.errors import (
    BatchArithmeticError,
    ConfigError,
    PluginError,
    RunDirError,
    ShardError,
    TokenizerError,
    UserError,
)
from framework.run_dir import RunDir
from framework.train.preflight import check, live_copy, refuse_live_copy, remove_outputs
from framework.train.pretraining import _GPT2_ACTIVATIONS, _GPT2_NUMBERS, is_plain_gpt2
from tests.artefacts import checkpoint_manifest

Listing = Callable[[Path], dict[str, bytes | None]]


@pytest.fixture
def shards(tiny_shards: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_shards, tmp_path / "shards"))


@pytest.fixture
def overrides(shards: Path, tmp_path: Path) -> list[str]:
    return [f"data.shards_dir={shards}", f"run_dir={tmp_path / 'run'}", "engine.kind=reference"]


@pytest.fixture
def refuse(tmp_path: Path, listing: Listing) -> Callable[..., UserError]:
    """Checks a start that must be refused with exit code 2 and without a trace on the disk."""

    def run(config: Config, kind: type[UserError], ranks: int = 1) -> UserError:
        before = listing(tmp_path)
        with pytest.raises(kind) as caught:
            check(config, ranks)
        assert caught.value.exit_code == 2
        assert caught.value.fix
        assert listing(tmp_path) == before
        return caught.value

    return run


Refuse = Callable[..., UserError]


def begin_run(config: Config) -> None:
    config.run_dir.mkdir(parents=True)
    RunDir(config.run_dir).config.write_text(dump_config(config), encoding="utf-8")


def add_checkpoint(config: Config, step: int = 4, **changes: object) -> None:
    manifest = checkpoint_manifest(
        step,
        {},
        identity_fingerprint=identity_fingerprint(config),
        data_fingerprint=load_manifest(config.data.shards_dir).data_fingerprint,
    )
    folder = RunDir(config.run_dir).checkpoint(step)
    folder.mkdir(parents=True)
    dataclasses.replace(manifest, **changes).save(folder)  # type: ignore[arg-type]


# --- What fits ---


def test_what_fits_is_reported(tiny_config: Path, overrides: list[str]) -> None:
    config = load_config(tiny_config, overrides)
    found = check(config, 2)
    assert (found.plan.ranks, found.plan.accumulation_steps) == (2, 1)
    assert [part.manifest for part in found.recipe.corpus.parts] == [load_manifest(config.data.shards_dir)]
    assert found.recipe.tokenizer.fingerprint == found.recipe.corpus.tokenizer_fingerprint
    assert found.newest_checkpoint is None
    assert not config.run_dir.exists()


def test_an_empty_folder_may_become_a_run(tiny_config: Path, overrides: list[str]) -> None:
    config = load_config(tiny_config, overrides)
    config.run_dir.mkdir()
    assert check(config, 1).newest_checkpoint is None


def test_the_newest_readable_checkpoint_is_found(tiny_config: Path, overrides: list[str]) -> None:
    config = load_config(tiny_config, overrides)
    begin_run(config)
    for step in (4, 8, 12):
        add_checkpoint(config, step)
    os.truncate(RunDir(config.run_dir).checkpoint(12) / "manifest.json", 20)
    newest = check(config, 1).newest_checkpoint
    assert newest is not None
    assert newest.step == 8


def test_what_is_no_part_of_the_identity_may_change(tiny_config: Path, overrides: list[str]) -> None:
    begin_run(load_config(tiny_config, overrides))
    changed = [*overrides, "engine.micro_batch_size=2", "train.stop_at_step=3", "logging.every_steps=1"]
    assert check(load_config(tiny_config, changed), 1).plan.micro_batch_size == 2


# --- Config ---


def test_ranks_that_do_not_fit_are_refused(tiny_config: Path, overrides: list[str], refuse: Refuse) -> None:
    assert "1 or 2 ranks" in refuse(load_config(tiny_config, overrides), BatchArithmeticError, ranks=3).fix


def test_a_plugin_that_is_not_there_is_refused(tiny_config: Path, overrides: list[str], refuse: Refuse) -> None:
    config = load_config(tiny_config, [*overrides, "plugins.nowhere.rank=3"])
    assert "plugins.nowhere" in refuse(config, PluginError).cause


@pytest.mark.parametrize("key", ["n_positions", "max_position_embeddings"])
def test_a_context_beyond_the_models_positions_is_refused(
    tiny_config: Path, overrides: list[str], refuse: Refuse, key: str
) -> None:
    config = load_config(tiny_config, [*overrides, f"model.overrides.{key}=32"])
    error = refuse(config, ConfigError)
    assert "model.context_length 64" in error.cause
    assert f"{key} 32" in error.cause
    check(load_config(tiny_config, [*overrides, f"model.overrides.{key}=64"]), 1)


# --- Shards and tokenizer ---


def test_a_missing_folder_of_shards_is_refused(tiny_config: Path, overrides: list[str], refuse: Refuse) -> None:
    config = load_config(tiny_config, [*overrides, "data.shards_dir=/no/where"])
    error = refuse(config, ShardError)
    assert "/no/where" in error.cause
    assert "zerostream prepare" in error.fix


def test_shards_without_a_manifest_are_refused(
    tiny_config: Path, overrides: list[str], shards: Path, refuse: Refuse
) -> None:
    (shards / "manifest.json").unlink()
    assert "manifest.json" in refuse(load_config(tiny_config, overrides), ShardError).cause


@pytest.mark.parametrize("content", ["{", "[]", '{"shards": [{"nome": 1}]}'])
def test_a_damaged_manifest_is_refused(
    tiny_config: Path, overrides: list[str], shards: Path, refuse: Refuse, content: str
) -> None:
    (shards / "manifest.json").write_text(content)
    assert "manifest.json cannot be read" in refuse(load_config(tiny_config, overrides), ShardError).cause


def test_a_manifest_of_another_format_is_refused(
    tiny_config: Path, overrides: list[str], shards: Path, refuse: Refuse
) -> None:
    values = json.loads((shards / "manifest.json").read_text())
    (shards / "manifest.json").write_text(json.dumps({**values, "format_version": 99}))
    assert "format version 99" in refuse(load_config(tiny_config, overrides), ShardError).cause


@pytest.mark.parametrize("name", ["train-000001.tar", "validation-000000.tar"])
def test_a_missing_shard_is_refused_by_name(
    tiny_config: Path, overrides: list[str], shards: Path, refuse: Refuse, name: str
) -> None:
    (shards / name).unlink()
    assert f"{name} is missing" in refuse(load_config(tiny_config, overrides), ShardError).cause


def test_a_short_shard_is_refused_by_name_and_sizes(
    tiny_config: Path, overrides: list[str], shards: Path, refuse: Refuse
) -> None:
    path = shards / "train-000001.tar"
    size = path.stat().st_size
    os.truncate(path, size - 512)
    error = refuse(load_config(tiny_config, overrides), ShardError)
    assert f"train-000001.tar has {size - 512} bytes, its manifest says {size}" in error.cause


def test_a_shard_that_no_manifest_names_is_refused(
    tiny_config: Path, overrides: list[str], shards: Path, refuse: Refuse
) -> None:
    shutil.copy(shards / "train-000001.tar", shards / "train-000077.tar")
    error = refuse(load_config(tiny_config, overrides), ShardError)
    assert "train-000077.tar is not in the manifest" in error.cause


def test_odd_shards_are_left_to_the_run_where_they_are_skipped(
    tiny_config: Path, overrides: list[str], shards: Path
) -> None:
    (shards / "train-000001.tar").unlink()
    os.truncate(shards / "train-000002.tar", 512)
    found = check(load_config(tiny_config, [*overrides, "data.on_bad_shard=skip"]), 1)
    assert found.recipe.corpus.on_bad_shard == "skip"


def test_a_mixture_belongs_to_its_weights_and_not_to_its_folders(
    tiny_config: Path, overrides: list[str], shards: Path, tmp_path: Path, refuse: Refuse
) -> None:
    def mixture(folder: Path, *weights: int) -> Config:
        parts = ", ".join(f"{{shards_dir: {folder}, weight: {weight}}}" for weight in weights)
        return load_config(tiny_config, [*overrides, f"data.mixture=[{parts}]"])

    begun = mixture(shards, 2, 1)
    found = check(begun, 1)
    assert [part.share for part in found.recipe.corpus.parts] == [2, 1]
    begin_run(begun)
    add_checkpoint(begun, data_fingerprint=found.recipe.corpus.data_fingerprint)
    assert "data.mixture [3.0, 1.0]" in refuse(mixture(shards, 3, 1), RunDirError).cause
    assert check(mixture(shards.rename(tmp_path / "moved"), 2, 1), 1).newest_checkpoint is not None


def test_a_remotes_manifest_and_tokenizer_are_fetched_and_its_shards_are_not(
    tiny_config: Path, overrides: list[str], shards: Path, tmp_path: Path
) -> None:
    remote = [*overrides, f"data.remote=file://{shards}", f"data.shards_dir={tmp_path / 'cache'}"]
    found = check(load_config(tiny_config, remote), 1)
    assert found.recipe.corpus.data_fingerprint == load_manifest(shards).data_fingerprint
    assert found.recipe.tokenizer.vocab_size == 512
    fetched = sorted(str(path.relative_to(tmp_path / "cache")) for path in (tmp_path / "cache").rglob("*.*"))
    assert fetched == ["manifest.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"]


def test_another_vocabulary_size_is_refused(tiny_config: Path, overrides: list[str], refuse: Refuse) -> None:
    error = refuse(load_config(tiny_config, [*overrides, "tokenizer.vocab_size=600"]), ShardError)
    assert "tokenizer.vocab_size is 600" in error.cause
    assert "512" in error.cause
    assert "tokenizer.vocab_size=512" in error.fix


def test_a_tokenizer_that_did_not_write_the_shards_is_refused(
    tiny_config: Path, overrides: list[str], shards: Path, refuse: Refuse
) -> None:
    path = shards / "tokenizer" / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["merges"][-1], values["model"]["merges"][-2] = values["model"]["merges"][-2:]
    path.write_text(json.dumps(values))
    assert (
        "not the tokenizer that wrote the shards" in refuse(load_config(tiny_config, overrides), TokenizerError).cause
    )


def test_shards_without_their_tokenizer_are_refused(
    tiny_config: Path, overrides: list[str], shards: Path, refuse: Refuse
) -> None:
    shutil.rmtree(shards / "tokenizer")
    assert "tokenizer" in refuse(load_config(tiny_config, overrides), TokenizerError).cause


@pytest.fixture(scope="module")
def other_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other stories, with a tokenizer of 300."""
    folder = tmp_path_factory.mktemp("other") / "shards"
    values = {
        "tokenizer": {"vocab_size": 300},
        "data": {"documents": 30, "shards_dir": str(folder), "validation_fraction": 0.2},
    }
    prepare(build_config(values, origin="test"))
    return folder


def test_a_pretrained_tokenizer_that_is_not_the_shards_is_refused(
    tiny_config: Path, overrides: list[str], other_shards: Path, refuse: Refuse
) -> None:
    path = other_shards / "tokenizer"
    pretrained = ["tokenizer.kind=pretrained", f"tokenizer.path={path}", "tokenizer.vocab_size="]
    error = refuse(load_config(tiny_config, [*overrides, *pretrained]), TokenizerError)
    assert f"tokenizer.path {path} (300 tokens) is not the tokenizer of the shards" in error.cause


def test_the_shards_own_tokenizer_given_as_pretrained_fits(
    tiny_config: Path, overrides: list[str], shards: Path
) -> None:
    pretrained = ["tokenizer.kind=pretrained", f"tokenizer.path={shards / 'tokenizer'}"]
    assert check(load_config(tiny_config, [*overrides, *pretrained]), 1).recipe.tokenizer.vocab_size == 512


# --- Run directory ---


def test_a_run_of_another_config_is_refused_by_key(tiny_config: Path, overrides: list[str], refuse: Refuse) -> None:
    begin_run(load_config(tiny_config, overrides))
    error = refuse(load_config(tiny_config, [*overrides, "optimizer.lr=0.5", "seed=4"]), RunDirError)
    assert "optimizer.lr 0.5 (there: 0.001)" in error.cause
    assert "seed 4 (there: 1337)" in error.cause


def test_a_folder_of_something_else_is_refused(
    tiny_config: Path, overrides: list[str], tmp_path: Path, refuse: Refuse
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "holiday.txt").write_text("photos")
    assert "is not empty and holds no run" in refuse(load_config(tiny_config, overrides), RunDirError).cause


def test_a_file_in_place_of_the_run_directory_is_refused(
    tiny_config: Path, overrides: list[str], tmp_path: Path, refuse: Refuse
) -> None:
    (tmp_path / "run").write_text("a file")
    assert str(tmp_path / "run") in refuse(load_config(tiny_config, overrides), RunDirError).cause


def test_a_run_of_another_version_is_refused(tiny_config: Path, overrides: list[str], refuse: Refuse) -> None:
    config = load_config(tiny_config, overrides)
    begin_run(config)
    path = RunDir(config.run_dir).config
    path.write_text(path.read_text() + "of_the_future: 3\n")
    error = refuse(config, RunDirError)
    assert "of_the_future" in error.cause
    assert "another version" in error.fix


def test_a_run_that_was_trained_on_other_shards_is_refused(
    tiny_config: Path, overrides: list[str], refuse: Refuse
) -> None:
    config = load_config(tiny_config, overrides)
    begin_run(config)
    add_checkpoint(config, data_fingerprint="e" * 64)
    assert "was trained on other shards" in refuse(config, RunDirError).cause


@pytest.mark.parametrize(
    "changes", [{"world_size": 2}, {"engine_kind": "deepspeed"}, {"zero_stage": 3}, {"precision": "bf16"}]
)
def test_a_checkpoint_of_another_sharding_is_taken(
    tiny_config: Path, overrides: list[str], changes: dict[str, object]
) -> None:
    config = load_config(tiny_config, overrides)
    begin_run(config)
    add_checkpoint(config, **changes)
    newest = check(config, 1).newest_checkpoint
    assert newest is not None
    assert newest.step == 4


def add_metrics(config: Config, steps: int) -> None:
    lines = [json.dumps({"step": step}) + "\n" for step in range(1, steps + 1)]
    RunDir(config.run_dir).metrics.write_text("".join(lines))


def test_a_run_that_was_killed_before_its_first_save_starts_again(tiny_config: Path, overrides: list[str]) -> None:
    config = load_config(tiny_config, overrides)
    begin_run(config)
    add_metrics(config, 2 * config.checkpoint.every_steps)
    assert check(config, 1).newest_checkpoint is None


def test_a_run_that_has_lost_its_checkpoints_starts_again_only_at_the_users_word(
    tiny_config: Path, overrides: list[str], refuse: Refuse
) -> None:
    config = load_config(tiny_config, overrides)
    begin_run(config)
    add_metrics(config, 2 * config.checkpoint.every_steps + 1)
    own = config.run_dir / "notes.txt"
    own.write_text("mine")
    error = refuse(config, RunDirError)
    assert f"has taken {2 * config.checkpoint.every_steps + 1} steps, but holds no checkpoint" in error.cause
    assert "--start-over" in error.fix
    remove_outputs(RunDir(config.run_dir))
    assert [path.name for path in config.run_dir.iterdir()] == [own.name]


def test_a_second_live_copy_is_refused(tiny_config: Path, overrides: list[str]) -> None:
    config = load_config(tiny_config, overrides)
    begin_run(config)
    run_dir = RunDir(config.run_dir)
    with only_one_writer(run_dir.lock, refusal=live_copy(run_dir)):
        with pytest.raises(RunDirError, match="another start of this run is alive"):
            refuse_live_copy(run_dir)
        with pytest.raises(RunDirError, match="is alive"):
            remove_outputs(run_dir)
    refuse_live_copy(run_dir)


def test_another_runs_checkpoint_is_refused(tiny_config: Path, overrides: list[str], refuse: Refuse) -> None:
    config = load_config(tiny_config, overrides)
    begin_run(config)
    add_checkpoint(config, identity_fingerprint="e" * 64)
    assert "belongs to another run" in refuse(config, RunDirError).cause


@pytest.mark.parametrize(
    "overrides",
    [{key: 0.05} for key in _GPT2_NUMBERS] + [{"activation_function": name} for name in _GPT2_ACTIVATIONS],
    ids=str,
)
def test_what_counts_as_plain_gpt2_is_taken_by_transformers(overrides: dict[str, object]) -> None:
    from transformers.activations import ACT2FN

    from framework.model.build import transformers_config

    model = ModelConfig(overrides=overrides)
    assert is_plain_gpt2(model)
    made = transformers_config(model, vocab_size=512, end_of_text_id=0).to_dict()
    assert {key: made[key] for key in overrides} == overrides
    assert overrides.get("activation_function", "gelu_new") in ACT2FN


@pytest.mark.parametrize(
    "values",
    [
        {"architecture": "llama"},
        {"overrides": {"initializer_rang": 0.05}},
        {"overrides": {"initializer_range": "wide"}},
        {"overrides": {"activation_function": "gelu_ne"}},
        {"overrides": {"initializer_range": 0.05, "n_inner": 64}},
    ],
    ids=str,
)
def test_what_does_not_is_asked(values: dict[str, Any]) -> None:
    assert not is_plain_gpt2(ModelConfig(**values))
