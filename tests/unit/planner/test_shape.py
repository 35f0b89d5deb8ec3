"""The planner counts what transformers builds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from framework.config import build_config
from framework.errors import ConfigError
from framework.metrics.hardware import training_flops_per_token
from framework.model.build import build_model
from framework.planner.shape import shape_of, vocabulary_size

MODELS: list[dict[str, Any]] = [
    {"architecture": "gpt2", "layers": 3, "width": 64, "heads": 4},
    {"architecture": "gpt2", "layers": 2, "width": 64, "heads": 4, "overrides": {"n_inner": 96}},
    {"architecture": "gpt2", "layers": 2, "width": 64, "heads": 4, "overrides": {"tie_word_embeddings": False}},
    {"architecture": "gpt_neox", "layers": 2, "width": 64, "heads": 4},
    {"architecture": "llama", "layers": 2, "width": 64, "heads": 4},
    {
        "architecture": "llama",
        "layers": 2,
        "width": 64,
        "heads": 4,
        "overrides": {"num_key_value_heads": 2, "intermediate_size": 176, "tie_word_embeddings": True},
    },
    {"architecture": "llama", "layers": 2, "width": 64, "heads": 4, "overrides": {"attention_bias": True}},
    {"architecture": "mistral", "layers": 2, "width": 64, "heads": 4, "overrides": {"num_key_value_heads": 1}},
    {"architecture": "qwen2", "layers": 2, "width": 64, "heads": 4},
    {"architecture": "qwen3", "layers": 2, "width": 64, "heads": 4, "overrides": {"head_dim": 32}},
]


def config_of(model: dict[str, Any], **sections: Any) -> Any:
    return build_config(
        {
            "model": {"context_length": 32, **model},
            "tokenizer": {"vocab_size": 300},
            "data": {"shards_dir": "nowhere"},
            **sections,
        },
        origin="test",
    )


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model['architecture']} {model.get('overrides', '')}")
def test_parameters_are_those_of_the_built_model(model: dict[str, Any]) -> None:
    config = config_of(model)
    shape = shape_of(config)
    with torch.device("meta"):
        built = build_model(config, 300, 0)
    counts = [parameter.numel() for parameter in built.parameters()]
    matrices = [parameter.numel() for parameter in built.parameters() if parameter.dim() >= 2]
    assert shape.parameters == sum(counts)
    assert shape.matrix_parameters == sum(matrices)
    assert shape.largest_parameter == max(counts)


def test_flops_are_those_that_training_reports() -> None:
    config = config_of(MODELS[0])
    shape = shape_of(config)
    positions = 32 * 64
    expected = training_flops_per_token(shape.parameters, positions, layers=3, width=64, context_length=32)
    assert shape.training_flops_per_token == expected


def test_an_unknown_architecture_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'lama'.*model\.architecture=llama"):
        shape_of(config_of({**MODELS[0], "architecture": "lama"}))


@pytest.mark.parametrize("value", ["abc", 0, -5, 1.5, [1], True])
def test_a_size_that_is_none_is_refused(value: Any) -> None:
    model = {"architecture": "llama", "layers": 2, "width": 64, "heads": 4}
    with pytest.raises(ConfigError, match=r"model\.overrides\.intermediate_size is "):
        shape_of(config_of({**model, "overrides": {"intermediate_size": value}}))


class TestVocabulary:
    def test_prepared_shards_know_it_best(self, tmp_path: Path) -> None:
        (tmp_path / "manifest.json").write_text(json.dumps({"vocab_size": 777}), encoding="utf-8")
        assert vocabulary_size(config_of(MODELS[0], data={"shards_dir": str(tmp_path)})) == 777

    @pytest.mark.parametrize("text", ["{", "[]", '{"vocab_size": -5}', '{"vocab_size": Infinity}'])
    def test_a_damaged_manifest_is_no_reason_to_fail(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
        assert vocabulary_size(config_of(MODELS[0], data={"shards_dir": str(tmp_path)})) == 300

    def test_known_tokenizers_and_defaults(self) -> None:
        known = config_of(MODELS[0], tokenizer={"kind": "pretrained", "path": "gpt2"})
        assert vocabulary_size(known) == 50257
        assert vocabulary_size(config_of(MODELS[0], tokenizer={})) == 4096

    def test_an_unknown_one_is_asked_for(self) -> None:
        with pytest.raises(ConfigError, match=r"tokenizer\.vocab_size=32000"):
            vocabulary_size(config_of(MODELS[0], tokenizer={"kind": "pretrained", "path": "somebody/model"}))
