"""Fine-tuning on real ranks: the same engines, loop and checkpoints as pretraining, with a base that stays as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from framework.checkpoint.fragments import CheckpointReader
from framework.checkpoint.manifest import verify
from framework.engine import WEIGHT
from framework.plugins.lora.blurbs import generate_blurbs
from framework.plugins.lora.outcome import write_outcome
from framework.plugins.lora.prediction import load_classifier
from framework.run_dir import RunDir
from tests.conftest import ROOT
from tests.distributed.conftest import ENGINES, Runs, StartRanks, engine_overrides
from tests.tiny_base import finetuning_config, make_base

pytestmark = pytest.mark.distributed

STEPS, STOP_AT = 6, 4
VARIANTS = {
    "dora": ["plugins.lora.adapter.dora=true"],
    "rslora": ["plugins.lora.adapter.rslora=true", "plugins.lora.adapter.targets=[c_attn]"],
    "recomputed": ["engine.activation_checkpointing=true"],
    "weighted": ["plugins.lora.class_weights=balanced", "plugins.lora.ordinal_smoothing=0.2"],
    "all": ["plugins.lora.method=full", "optimizer.lr=1e-3"],
    "second": ["plugins.lora.pooling=mean", "plugins.lora.language_model_loss=0.5"],
    "second-all": ["plugins.lora.language_model_loss=0.5", "plugins.lora.method=full", "optimizer.lr=1e-3"],
}


def jobs(config: Path, folder: Path, ranks: int) -> dict[str, list[str]]:
    """What both compare with the oracle, which is one rank's; stopping and moving are for two ranks."""

    def job(name: str, engine: str, *more: str) -> list[str]:
        return [str(config), *engine_overrides(engine), f"run_dir={folder / name}", *more]

    found = {engine: job(engine, engine, "model.dropout=0.0") for engine in ENGINES}
    for name, more in VARIANTS.items():
        for engine in ("reference", "zero3") if ranks == 1 else ("zero3",):
            found[f"{name}-{engine}"] = job(f"{name}-{engine}", engine, "model.dropout=0.0", *more)
    if ranks == 1:
        return found
    stop = f"train.stop_at_step={STOP_AT}"
    for engine in ENGINES:
        found[f"whole-{engine}"] = job(f"whole-{engine}", engine)
        found[f"cut-{engine}-stopped"] = job(f"cut-{engine}", engine, stop)
        found[f"cut-{engine}"] = job(f"cut-{engine}", engine)
    found["moved-stopped"] = job("moved", "zero3", "model.dropout=0.0", stop)
    found["moved"] = job("moved", "zero1", "model.dropout=0.0", "engine.micro_batch_size=1")
    return {**found, "full": job("full", "zero2", "plugins.lora.method=full", "optimizer.lr=1e-3")}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Base and config."""
    folder = tmp_path_factory.mktemp("finetune")
    base = make_base(folder / "base")
    return base, finetuning_config(folder, base)


@pytest.fixture(scope="module")
def started(
    prepared: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, start_ranks: StartRanks
) -> Callable[[int], Runs]:
    found: dict[int, Runs] = {}

    def start(ranks: int) -> Runs:
        if ranks not in found:
            folder = tmp_path_factory.mktemp(f"ranks{ranks}")
            found[ranks] = start_ranks(ranks, jobs(prepared[1], folder, ranks), folder)
        return found[ranks]

    return start


def values(lines: list[dict[str, Any]], key: str) -> list[Any]:
    return [line[key] for line in lines]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_oracles_losses(engine: str, ranks: int, started: Callable[[int], Runs]) -> None:
    oracle, lines = started(1).metrics("reference"), started(ranks).metrics(engine)
    assert len(lines) == STEPS
    assert values(lines, "batch_digest") == values(oracle, "batch_digest")
    assert values(lines, "loss") == pytest.approx(values(oracle, "loss"), rel=1e-5)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", VARIANTS)
def test_zero_3_gives_the_oracles_losses_in_every_variant(
    name: str, ranks: int, started: Callable[[int], Runs]
) -> None:
    oracle = values(started(1).metrics(f"{name}-reference"), "loss")
    assert values(started(ranks).metrics(f"{name}-zero3"), "loss") == pytest.approx(oracle, rel=1e-5)
    plain = values(started(1).metrics("reference"), "loss")
    assert (oracle == pytest.approx(plain, rel=1e-5)) == (name == "recomputed")  # recomputing changes no number


def test_another_engine_goes_on_with_what_zero_3_saved(started: Callable[[int], Runs]) -> None:
    """And with another micro-batch."""
    runs = started(2)
    assert runs.outcomes["moved-stopped"]["exit_code"] == 75
    moved, whole = runs.metrics("moved"), runs.metrics("zero1")
    assert values(moved, "batch_digest") == values(whole, "batch_digest")
    assert values(moved, "loss") == pytest.approx(values(whole, "loss"), rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stopped_run_goes_on_to_the_same_digits(engine: str, started: Callable[[int], Runs]) -> None:
    """With dropout on."""
    runs = started(2)
    assert runs.outcomes[f"cut-{engine}-stopped"]["exit_code"] == 75
    whole, cut = runs.metrics(f"whole-{engine}"), runs.metrics(f"cut-{engine}")
    for key in ("step", "loss", "grad_norm", "lr", "batch_digest"):
        assert values(cut, key) == values(whole, key)


def test_zero_3_saves_adapters_whole_and_nothing_of_the_base(started: Callable[[int], Runs]) -> None:
    run_dir = RunDir(started(2).path("zero3"))
    folder = run_dir.checkpoint(STEPS)
    manifest = verify(folder)
    reader = CheckpointReader(folder, manifest)
    names = reader.names(WEIGHT)
    assert names
    assert all(".lora_" in name or ".score." in name for name in names)
    adapter = load_file(write_outcome(run_dir) / "adapter_model.safetensors")
    assert len(adapter) == len(names)
    shapes = {tuple(tensor.shape) for name, tensor in adapter.items() if "lora_A" in name}
    assert shapes == {(4, 32), (4, 128)}  # rank x width, rank x inner width
    for name, tensor in adapter.items():
        assert torch.isfinite(tensor).all()
        assert tensor.abs().sum() > 0, name  # lora_B began at zero


def test_what_is_left_behind_gives_the_runs_own_answers_in_a_fresh_process(
    prepared: tuple[Path, Path], started: Callable[[int], Runs]
) -> None:
    own: dict[str, torch.Tensor] = {}
    texts: dict[str, list[str]] = {}
    for name in ("zero3", "reference", "full"):
        run_dir = RunDir(started(2).path(name))
        folder = str(write_outcome(run_dir))
        texts[folder], expected = short_rows(json.loads((run_dir.path / "predictions.json").read_text()))
        own[folder] = torch.from_numpy(load_classifier(run_dir.path).probabilities(texts[folder]))
        torch.testing.assert_close(own[folder], expected, rtol=0, atol=1e-4)
    others = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS, str(prepared[0]), json.dumps(texts)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(others.stdout)
    assert found.keys() == own.keys()
    for folder, probabilities in own.items():
        torch.testing.assert_close(torch.tensor(found[folder]).double(), probabilities, rtol=0, atol=1e-5)


def short_rows(predictions: dict[str, Any]) -> tuple[list[str], torch.Tensor]:
    """Some of the test rows that were not cut to the context, and their probabilities."""
    blurbs = list(generate_blurbs(60, seed=0))
    texts = [blurbs[row].text for row in predictions["rows"]]
    chosen = sorted(range(len(texts)), key=lambda number: len(texts[number]))[:6]
    probabilities = torch.tensor(predictions["probabilities"], dtype=torch.float64)
    return [texts[number] for number in chosen], probabilities[chosen]


IN_A_FRESH_PROCESS = """
import json, sys
from pathlib import Path
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

base, folders = sys.argv[1], json.loads(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(base)
pad = tokenizer.eos_token_id
found = {}
for folder, texts in folders.items():
    if Path(folder).name == "adapter":
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=4, pad_token_id=pad)
        model = PeftModel.from_pretrained(model, folder)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.eval()
    rows = [torch.tensor([[pad, *tokenizer(text).input_ids]]) for text in texts]
    with torch.no_grad():
        found[folder] = [model(row).logits.softmax(-1)[0].tolist() for row in rows]
print(json.dumps(found))
"""
