from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from framework.config import (
    Config,
    build_config,
    config_json_schema,
    dump_config,
    identity,
    identity_fingerprint,
    load_config,
    refuse_other_identity,
)
from framework.config.presets import MODEL_PRESETS
from framework.errors import ConfigError, RunDirError

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    return path


def refusal(path: Path, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return caught.value


def build(**values: Any) -> Config:
    return build_config(values, origin="test")


# --- Presets ---


@pytest.mark.parametrize("preset", MODEL_PRESETS)
def test_a_preset_fills_every_size(preset: str) -> None:
    model = build(model={"preset": preset}).model
    assert {key: getattr(model, key) for key in MODEL_PRESETS[preset]} == MODEL_PRESETS[preset]


def test_what_is_given_beside_a_preset_wins() -> None:
    model = build(model={"preset": "gpt2_nano", "layers": 2}).model
    assert (model.layers, model.width, model.heads) == (2, 128, 4)


def test_an_unknown_preset_is_refused_with_all_that_exist(empty: Path) -> None:
    error = refusal(empty, "model.preset=gpt2_smal")
    assert "model.preset 'gpt2_smal'" in error.cause
    assert all(preset in error.cause for preset in MODEL_PRESETS)


def test_a_preset_that_is_no_text_is_refused(empty: Path) -> None:
    assert "model.preset [1]" in refusal(empty, "model.preset=[1]").cause


# --- Overrides ---


@pytest.mark.parametrize(
    ("override", "section", "key", "expected"),
    [
        ("train.max_steps=50", "train", "max_steps", 50),
        ("optimizer.lr=5e-4", "optimizer", "lr", 5e-4),
        ("optimizer.lr=0.001", "optimizer", "lr", 0.001),
        ("engine.compile=true", "engine", "compile", True),
        ("engine.compile=no", "engine", "compile", False),
        ("train.stop_at_step=", "train", "stop_at_step", None),
        ("train.stop_at_step=null", "train", "stop_at_step", None),
        ("train.sample_prompts=[a, 'b, c']", "train", "sample_prompts", ("a", "b, c")),
        ("data.path=a=b.txt", "data", "path", "a=b.txt"),
        ("data.path='12'", "data", "path", "12"),
        ('data.text_field="5e-4"', "data", "text_field", "5e-4"),
        ("data.separator=: [", "data", "separator", ": ["),
        (" train.max_steps = 7", "train", "max_steps", 7),
    ],
)
def test_an_override_has_the_type_of_its_key(
    empty: Path, override: str, section: str, key: str, expected: object
) -> None:
    value = getattr(getattr(load_config(empty, [override]), section), key)
    assert value == expected
    assert type(value) is type(expected)


def test_an_override_creates_the_sections_on_its_way(empty: Path) -> None:
    config = load_config(empty, ["plugins.my_plugin.deep.key=5e-4", "model.overrides.n_inner=64"])
    assert config.plugins == {"my_plugin": {"deep": {"key": 5e-4}}}
    assert config.model.overrides == {"n_inner": 64}


def test_overrides_replace_the_file_and_the_last_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("train: {max_steps: 10, eval_every_steps: 3}\nmodel:\n")
    config = load_config(path, ["train.max_steps=20", "train.max_steps=30", "model.layers=2"])
    assert (config.train.max_steps, config.train.eval_every_steps, config.model.layers) == (30, 3, 2)


def test_a_file_may_write_an_exponent_without_a_dot(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("optimizer: {lr: 3e-4}\n")
    assert load_config(path).optimizer.lr == 3e-4


@pytest.mark.parametrize("override", ["train.max_steps", "=3", "abc"])
def test_an_override_without_key_or_value_is_refused(empty: Path, override: str) -> None:
    error = refusal(empty, override)
    assert repr(override) in error.cause
    assert "train.max_steps=100" in error.fix


def test_an_override_below_a_value_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("seed: 5\n")
    error = refusal(path, "seed.deep=1")
    assert "seed is a value" in error.cause
    assert error.fix == "set seed itself"


# --- Refusals ---


@pytest.mark.parametrize(
    ("override", "key", "nearest"),
    [
        ("model.contxt_length=3", "model.contxt_length", "model.context_length"),
        ("optimzer.lr=1", "optimzer", "optimizer"),
        ("lr=3", "lr", "optimizer.lr"),
        ("train.zero_stage=1", "train.zero_stage", "engine.zero_stage"),
        ("engine.offload.optimiser=true", "engine.offload.optimiser", "engine.offload.optimizer"),
        ("optimizer.learning=1", "optimizer.learning", "optimizer.lr"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(empty: Path, override: str, key: str, nearest: str) -> None:
    error = refusal(empty, override)
    assert error.cause == f"unknown key {key}"
    assert nearest in error.fix.replace(";", " ").split()


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("train.max_steps=many", "train.max_steps is 'many'"),
        ("train.max_steps=1.5", "train.max_steps is 1.5"),
        ("train.max_steps=0", "train.max_steps is 0"),
        ("seed=-1", "seed is -1"),
        ("optimizer.lr=0", "optimizer.lr is 0"),
        ("optimizer.lr=inf", "optimizer.lr is inf"),
        ("optimizer.lr=nan", "optimizer.lr is nan"),
        ("optimizer.beta1=1.0", "optimizer.beta1 is 1.0"),
        ("engine.compile=maybe", "engine.compile is 'maybe'"),
        ("engine.zero_stage=5", "engine.zero_stage is 5"),
        ("data.path=3", "data.path is 3"),
        ("train.sample_prompts=abc", "train.sample_prompts is 'abc'"),
        ("engine=3", "engine is 3"),
        ("plugins.lora=3", "plugins.lora is 3"),
        ("run_dir=", "run_dir is None"),
        ("data.validation_fraction=1", "data.validation_fraction is 1"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_key_and_value(empty: Path, override: str, shown: str) -> None:
    error = refusal(empty, override)
    assert shown in error.cause
    assert override.partition("=")[0] in error.cause
    assert error.fix


@pytest.mark.parametrize(
    ("override", "fix"),
    [
        ("engine.kind=deepsped", "write engine.kind=deepspeed"),
        ("engine.precision=bf61", "write engine.precision=bf16"),
        ("engine.precision=double", "choose one of fp32, bf16, fp16"),
        ("tokenizer.kind=train_bp", "write tokenizer.kind=train_bpe"),
    ],
)
def test_a_wrong_choice_is_refused_with_the_nearest(empty: Path, override: str, fix: str) -> None:
    assert refusal(empty, override).fix == fix


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["engine.compile=true", "engine.zero_stage=3"], ["engine.compile", "engine.zero_stage 3"]),
        (["engine.offload.optimizer=true", "engine.zero_stage=0"], ["engine.offload.optimizer", "zero_stage 0"]),
        (["engine.offload.optimizer=true", "engine.kind=reference"], ["engine.offload.optimizer", "reference"]),
        (["engine.offload.parameters=true", "engine.zero_stage=2"], ["engine.offload.parameters", "zero_stage 2"]),
        (["engine.global_batch_size=10", "engine.micro_batch_size=4"], ["global_batch_size 10", "micro_batch_size 4"]),
        (["data.source=jsonl"], ["data.path", "jsonl"]),
        (["data.remote=https://a", "data.mixture=[{shards_dir: a, weight: 1}]"], ["data.remote", "data.mixture"]),
        (["model.heads=7"], ["model.heads 7", "width 768"]),
        (["tokenizer.kind=pretrained"], ["tokenizer.path"]),
        (["tokenizer.path=gpt2"], ["tokenizer.path 'gpt2'", "pretrained"]),
        (["tokenizer.vocab_size=256"], ["tokenizer.vocab_size 256", "257"]),
    ],
)
def test_an_impossible_combination_is_refused_by_its_keys(empty: Path, overrides: list[str], named: list[str]) -> None:
    error = refusal(empty, *overrides)
    assert all(name in error.cause for name in named), error.cause


@pytest.mark.parametrize(
    "overrides",
    [
        ["engine.compile=true", "engine.zero_stage=3", "engine.kind=reference"],
        ["engine.offload.optimizer=true", "engine.zero_stage=1"],
        ["engine.offload.parameters=true", "engine.zero_stage=3"],
        ["data.source=of_a_plugin"],
        ["data.mixture=[{shards_dir: a, weight: 1}, {shards_dir: b, weight: 1, remote: https://b}]"],
    ],
)
def test_the_neighbours_of_impossible_combinations_are_possible(empty: Path, overrides: list[str]) -> None:
    assert isinstance(load_config(empty, overrides), Config)


# --- Files ---


def test_a_missing_file_is_refused_with_a_near_name(empty: Path) -> None:
    error = refusal(empty.with_name("emty.yaml"))
    assert "emty.yaml does not exist" in error.cause
    assert str(empty) in error.fix


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"model: {layers: 2", "is not YAML"),
        (b"model:\n\tlayers: 2\n", "line 2"),
        (b"- a\n- b\n", "holds a list, not sections"),
        (b"model", "holds a str, not sections"),
        (b"seed: \xff\xfe\n", "cannot be read"),
        (b"model: 3\n", "model is 3, but it is a section"),
        (b"1: 2\n", "unknown key 1"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "damaged.yaml"
    path.write_bytes(content)
    assert said in refusal(path).cause


def test_a_folder_is_no_config_file(tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(tmp_path).cause


# --- The configs of this repository ---


def unknown_to_schema(values: dict[str, Any], schema: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        inner = schema.get("properties", {}).get(key)
        if inner is None and not isinstance(schema.get("additionalProperties"), dict):
            yield key
        elif inner is not None and "$ref" in inner and isinstance(value, dict):
            yield from unknown_to_schema(value, root["$defs"][inner["$ref"].rpartition("/")[2]], root)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_here_loads_and_stands_in_the_schema(path: Path) -> None:
    load_config(path)
    schema = json.loads(config_json_schema())
    assert list(unknown_to_schema(yaml.safe_load(path.read_text()), schema, schema)) == []


def test_the_schema_knows_every_key_with_a_description_and_no_other() -> None:
    schema = json.loads(config_json_schema())
    assert schema["properties"].keys() == Config.model_fields.keys()
    assert schema["additionalProperties"] is False
    engine = schema["$defs"]["EngineConfig"]
    assert engine["properties"]["zero_stage"]["enum"] == [0, 1, 2, 3]
    assert "arXiv:1910.02054" in engine["properties"]["zero_stage"]["description"]
    assert list(unknown_to_schema({"train": {"max_step": 1}, "sed": 1}, schema, schema)) == ["max_step", "sed"]


# --- Round trip and identity ---


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_dumped_config_loads_to_an_equal_one(path: Path, tmp_path: Path) -> None:
    config = load_config(path, ["plugins.lora.rank=4", "optimizer.eps=1e-12", "data.separator=é\n", "run_dir=a b/ü"])
    dumped = tmp_path / "config.yaml"
    dumped.write_text(dump_config(config), encoding="utf-8")
    assert load_config(dumped) == config


MAY_CHANGE = [
    "run_dir=elsewhere",
    "data.shards_dir=elsewhere",
    "data.path=elsewhere",
    "data.validation_path=elsewhere",
    "data.prefetch_steps=5",
    "engine.kind=reference",
    "engine.zero_stage=3",
    "engine.precision=bf16",
    "engine.micro_batch_size=2",
    "engine.compile=true",
    "engine.offload.optimizer=true",
    "train.stop_at_step=3",
    "train.eval_every_steps=3",
    "checkpoint.every_steps=3",
    "checkpoint.keep=7",
    "logging.every_steps=3",
]
MUST_NOT_CHANGE = [
    "seed=1",
    "model.layers=2",
    "model.overrides.n_inner=8",
    "tokenizer.vocab_size=300",
    "data.lanes=32",
    "data.documents=5",
    "optimizer.lr=1e-5",
    "optimizer.clip_norm=0.5",
    "schedule.warmup_steps=1",
    "train.max_steps=3",
    "engine.global_batch_size=32",
]


@pytest.mark.parametrize("override", MAY_CHANGE)
def test_what_may_change_from_start_to_start_leaves_the_identity(empty: Path, override: str) -> None:
    mine, stored = load_config(empty, [override]), load_config(empty)
    assert mine != stored
    assert identity_fingerprint(mine) == identity_fingerprint(stored)
    refuse_other_identity(mine, stored, Path("runs/a"))


@pytest.mark.parametrize("override", MUST_NOT_CHANGE)
def test_what_makes_another_run_is_refused_by_key_and_both_values(empty: Path, override: str) -> None:
    mine, stored = load_config(empty, [override]), load_config(empty)
    assert identity_fingerprint(mine) != identity_fingerprint(stored)
    with pytest.raises(RunDirError) as caught:
        refuse_other_identity(mine, stored, Path("runs/a"))
    key, _, value = override.partition("=")
    assert f"{key} {value.replace('1e-5', '1e-05')} (there: " in caught.value.cause
    assert "runs/a" in caught.value.cause


def test_a_mixtures_weights_are_its_identity_and_its_folders_and_remotes_are_not(empty: Path) -> None:
    here = load_config(empty, ["data.mixture=[{shards_dir: a, weight: 2}, {shards_dir: b, weight: 1}]"])
    there = load_config(
        empty,
        ["data.mixture=[{shards_dir: c, weight: 2, remote: https://a}, {shards_dir: d, weight: 1, remote: s3://b}]"],
    )
    refuse_other_identity(there, here, Path("runs/a"))
    assert identity_fingerprint(there) == identity_fingerprint(here)


def test_a_remote_beside_a_mixture_is_to_be_named_in_its_parts(empty: Path) -> None:
    error = refusal(empty, "data.remote=https://anna:secret@a", "data.mixture=[{shards_dir: a, weight: 1}]")
    assert "`remote` in each part" in error.fix
    assert "secret" not in str(error)


def test_every_key_that_differs_is_named(empty: Path) -> None:
    with pytest.raises(RunDirError, match=r"optimizer\.lr 0\.1 .*seed 9 .*train\.max_steps 4"):
        refuse_other_identity(
            load_config(empty, ["seed=9", "train.max_steps=4", "optimizer.lr=0.1"]), load_config(empty), Path("runs/a")
        )


def test_the_identity_is_what_the_design_says() -> None:
    parts = identity(Config())
    assert parts.keys() == {"seed", "model", "tokenizer", "data", "optimizer", "schedule", "train", "engine"}
    assert parts["train"].keys() == {"max_steps"}
    assert parts["engine"].keys() == {"global_batch_size"}
