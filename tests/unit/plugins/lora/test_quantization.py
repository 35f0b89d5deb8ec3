"""QLoRA: a base in 4 bits while adapters are trained on it, and the same values whoever uses them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from framework.config import load_config
from framework.engine import World, join_world
from framework.model.build import count_elements
from framework.plugins.lora.adapters import add_adapters
from framework.plugins.lora.base import open_base
from framework.plugins.lora.blurbs import generate_blurbs
from framework.plugins.lora.classifier import build_classifier
from framework.plugins.lora.options import AdapterOptions
from framework.plugins.lora.prediction import load_classifier
from framework.plugins.lora.quantization import quantize_to_nf4, round_to_nf4
from framework.train.session import train
from framework.train.stopping import StopRequest
from framework.train.trained import export, load_trained
from tests.tiny_base import finetuning_config, make_base
from tests.unit.conftest import RunCli

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="QLoRA is tested where bitsandbytes is installed"
)
IDS = torch.tensor([[511, 5, 6, 7], [511, 9, 8, 7]])


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, base: Path, tmp_path: Path) -> PreTrainedModel:
    folder = base if request.param == "gpt2" else make_base(tmp_path / "llama", architecture="llama")
    torch.manual_seed(3)
    return build_classifier(open_base(str(folder)).load(), 4, 511).eval()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with join_world(30) as joined:
        yield joined


@needs_bitsandbytes
def test_packed_and_rounded_are_the_same_model_and_not_the_whole_one(model: PreTrainedModel, base: Path) -> None:
    whole = model(input_ids=IDS).logits
    elements = sum(map(count_elements, model.parameters()))
    packed = build_classifier(model, 4, 511).eval()
    packed.load_state_dict(model.state_dict())
    quantize_to_nf4(packed)
    round_to_nf4(model)
    rounded = model(input_ids=IDS).logits
    torch.testing.assert_close(packed(input_ids=IDS).logits, rounded, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(rounded, whole, atol=1e-3)
    kinds = [type(module).__name__ for module in packed.modules()]
    assert kinds.count("Linear4bit") == 2 * (4 if model.config.model_type == "gpt2" else 7)  # all of both layers
    assert type(packed.score) is torch.nn.Linear
    assert sum(map(count_elements, packed.parameters())) == elements


@needs_bitsandbytes
def test_adapters_on_packed_weights_learn_and_nothing_else_does(model: PreTrainedModel) -> None:
    quantize_to_nf4(model)
    wrapped = add_adapters(model, AdapterOptions(rank=2), task="classification", base_name="base")
    trained = {name for name, each in wrapped.named_parameters() if each.requires_grad}
    assert all("lora_" in name or "score" in name for name in trained)
    wrapped(input_ids=IDS).logits.square().sum().backward()
    moved = {name for name, each in wrapped.named_parameters() if each.grad is not None and each.grad.abs().sum() > 0}
    assert moved == {name for name in trained if "lora_A" not in name}  # lora_B begins at zero


@needs_bitsandbytes
def test_what_was_trained_on_four_bits_answers_alike_everywhere(world: World, base: Path, tmp_path: Path) -> None:
    """As the run scored itself, as `predict` does, and as the export does."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    short = ["engine.kind=reference", "logging.tensorboard=false", "model.dropout=0"]
    config = load_config(finetuning_config(tmp_path, base), [*short, "plugins.lora.quantization=nf4"])
    train(config, StopRequest())
    predictions = json.loads((config.run_dir / "predictions.json").read_text())
    blurbs = list(generate_blurbs(60, seed=0))
    texts = [blurbs[row].text for row in predictions["rows"]]
    found = load_classifier(config.run_dir).probabilities(texts)
    np.testing.assert_allclose(found, predictions["probabilities"], rtol=0, atol=1e-4)
    result = json.loads((config.run_dir / "result.json").read_text())
    assert result["trainable_parameters"] < result["parameters"] / 4

    export(load_trained(config.run_dir), tmp_path / "whole")
    exported = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole")
    text = min(texts, key=len)
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text).input_ids]])
    with torch.no_grad():
        answer = exported(ids).logits.softmax(-1)[0].double().numpy()
    np.testing.assert_allclose(answer, found[texts.index(text)], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        (["plugins.lora.method=full"], "method full trains those weights"),
        (["plugins.lora.quantization=int3"], "plugins.lora.quantization"),
    ],
)
def test_what_cannot_be_quantized_is_refused(
    overrides: list[str], cause: str, run_cli: RunCli, config_file: Path
) -> None:
    refused = run_cli("finetune", config_file, "plugins.lora.quantization=nf4", *overrides)
    assert refused.code == 2
    assert cause in refused.last_line
    assert not (config_file.parent / "run").exists()


@needs_bitsandbytes
def test_stage_3_is_refused_before_ranks_start(run_cli: RunCli, config_file: Path) -> None:
    refused = run_cli("finetune", config_file, "plugins.lora.quantization=nf4", "engine.zero_stage=3")
    assert refused.code == 2
    assert "set engine.zero_stage=2" in refused.last_line


def test_without_bitsandbytes_it_is_refused_before_ranks_start(
    run_cli: RunCli, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else find_spec(name, *more)
    )
    refused = run_cli("finetune", config_file, "plugins.lora.quantization=nf4")
    assert refused.code == 2
    assert "needs bitsandbytes, which is not installed" in refused.last_line
    assert not (config_file.parent / "run").exists()
