"""`zerostream finetune` and what is asked of its runs, as a user types it."""

from __future__ import annotations

import csv
import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from framework.metrics.records import read_json_lines
from framework.plugins.lora.blurbs import generate_blurbs
from framework.plugins.lora.options import LabelledDataOptions
from framework.plugins.lora.prediction import load_classifier
from framework.plugins.lora.splits import load_folds
from framework.plugins.lora.tfidf import fit_tfidf
from framework.run_dir import RunDir
from tests.conftest import ROOT
from tests.distributed.conftest import RunZerostream
from tests.starts import Zygote
from tests.tiny_base import finetuning_config, make_base

pytestmark = pytest.mark.distributed

ONE_FOLD = ["plugins.lora.data.folds=null", "plugins.lora.data.split=rows", "plugins.lora.data.train_rows=40"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Base and config."""
    folder = tmp_path_factory.mktemp("finetune")
    base = make_base(folder / "base")
    return base, finetuning_config(folder, base)


def test_finetune_scores_all_folds_beside_baselines(
    prepared: tuple[Path, Path], tmp_path: Path, zerostream: RunZerostream
) -> None:
    run_dir = tmp_path / "run"
    more = [f"run_dir={run_dir}", "engine.kind=reference", "train.max_steps=3"]
    result = json.loads(zerostream("finetune", prepared[1], *more, "--nproc", 2, "--json").stdout)
    assert result == json.loads((run_dir / "result.json").read_text())
    assert {"majority", "look_up", "tfidf_logistic_regression"} == result["baselines"].keys()
    for scores in (result, *result["baselines"].values()):
        low, high = scores["accuracy_ci95"]
        assert low <= scores["accuracy"] <= high
        assert 0 <= scores["macro_f1"] <= 1
        assert scores["mean_absolute_error_years"] >= 0
    assert result["leakage"]["test_texts_in_training_fraction"] == 0
    assert 0 < result["trainable_parameters"] < result["total_parameters"]
    assert result["test_examples"] == 60  # each row once
    for name in ("report.html", "confusion.png", "reliability.png", "comparison.png"):
        assert (run_dir / name).stat().st_size > 1000
    # Again: nothing is trained, and the result is the same.
    before = {fold: read_json_lines(run_dir / fold / "metrics.jsonl") for fold in ("fold-1", "fold-2")}
    again = zerostream("finetune", prepared[1], *more, "--nproc", 2, "--json")
    assert json.loads(again.stdout) == result
    assert "nothing to do" in again.stderr
    assert {fold: read_json_lines(run_dir / fold / "metrics.jsonl") for fold in before} == before

    answer = json.loads(zerostream("predict", run_dir, "--text", "A baby says moo.", "--json").stdout)
    probabilities = answer["predictions"][0]["probabilities"]
    assert list(probabilities) == ["0-2", "3-5", "6-8", "9+"]
    assert sum(probabilities.values()) == pytest.approx(1)
    later = tmp_path / "later.jsonl"
    later.write_text("".join(json.dumps({"text": text, "age": "Age 3-5"}) + "\n" for text in ("A cow.", "A hen.")))
    scored = json.loads(zerostream("evaluate", run_dir, "--labelled", later, "--json").stdout)
    assert scored["examples"] == 2
    adapter = run_dir / "fold-1" / "adapter"
    other_base = make_base(tmp_path / "other", seed=2)
    refused = zerostream("predict", other_base, "--adapter", adapter, "--text", "A cow.", expect=2)
    assert "was made on other weights" in refused.stderr.splitlines()[-1]
    weights = adapter / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    tampered = zerostream("predict", prepared[0], "--adapter", adapter, "--text", "A cow.", expect=2)
    assert "is not what was saved" in tampered.stderr.splitlines()[-1]


def test_an_ensemble_answers_with_the_words_of_its_own_training_rows(
    prepared: tuple[Path, Path], tmp_path: Path, zerostream: RunZerostream
) -> None:
    run_dir = tmp_path / "run"
    more = [f"run_dir={run_dir}", "engine.kind=reference", "train.max_steps=3", "plugins.lora.pooling=mean"]
    more += ["plugins.lora.ensemble_with=[tfidf_logistic_regression]", "plugins.lora.ensemble_weight=0.25"]
    told = zerostream("finetune", prepared[1], *more)
    result = json.loads((run_dir / "result.json").read_text())
    assert "An ensemble: class probabilities are 25% the model's" in told.stdout
    assert "An ensemble: " in (run_dir / "report.html").read_text(encoding="utf-8")
    assert result["ensemble"] == {"with": ["tfidf_logistic_regression"], "model_weight": 0.25}
    assert result["model_alone"].keys() - {"differences"} == result["baselines"]["majority"].keys()

    data, folds = load_folds(LabelledDataOptions(documents=60, folds=2))
    hits = alone_hits = 0
    for number, fold in enumerate(folds, start=1):
        predictions = json.loads((run_dir / f"fold-{number}" / "predictions.json").read_text())
        own = np.array(predictions["probabilities"])
        texts = [data.texts[row] for row in fold.test]
        words = fit_tfidf([data.texts[row] for row in fold.train], data.labels[fold.train], len(data.classes))
        answer = 0.25 * own + 0.75 * words.probabilities(texts)
        hits += (answer.argmax(axis=1) == data.labels[fold.test]).sum()
        alone_hits += (own.argmax(axis=1) == data.labels[fold.test]).sum()
        # The fold's own run answers alike, from its files alone.
        classifier = load_classifier(run_dir / f"fold-{number}")
        np.testing.assert_allclose(classifier.probabilities(texts), answer, rtol=0, atol=1e-5)
        np.testing.assert_allclose(classifier.probabilities(texts, alone=True), own, rtol=0, atol=1e-5)
    assert result["accuracy"] == pytest.approx(hits / 60)
    assert result["model_alone"]["accuracy"] == pytest.approx(alone_hits / 60)

    later = tmp_path / "later.jsonl"
    later.write_text("".join(json.dumps({"text": text, "age": "Age 3-5"}) + "\n" for text in ("A cow.", "A hen.")))
    scored = json.loads(zerostream("evaluate", run_dir, "--labelled", later, "--json").stdout)
    assert scored["ensemble"] == result["ensemble"]
    assert scored["model_alone"]["log_loss"] != scored["log_loss"]
    exported = zerostream("export", run_dir / "fold-1", tmp_path / "exported", expect=2)
    assert "plugins.lora.pooling mean" in exported.stderr.splitlines()[-1]


def test_json_is_one_object_and_an_export_says_what_loads_it(
    prepared: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zerostream: RunZerostream
) -> None:
    """transformers imports deepspeed when it saves a whole model, and that speaks on standard output; so nothing is forked."""
    for name in ("DS_ACCELERATOR", "DS_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    run_dir = tmp_path / "run"
    more = [f"run_dir={run_dir}", "engine.kind=reference", "train.max_steps=1", "plugins.lora.method=full", *ONE_FOLD]
    finetuned = zerostream("finetune", prepared[1], *more, "--json", python=sys.executable)
    assert json.loads(finetuned.stdout)["status"] == "finished"
    exported = zerostream("export", run_dir / "fold-1", tmp_path / "exported", "--json", python=sys.executable)
    assert json.loads(exported.stdout)["load"].startswith("AutoModelForSequenceClassification.from_pretrained(")


def test_prompts_are_continued_by_an_adapter_and_by_its_export(
    prepared: tuple[Path, Path], tmp_path: Path, zerostream: RunZerostream
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"ask": f"Tom has {n} hats.", "say": f" {n} hats!"}) + "\n" for n in range(40)))
    run_dir = tmp_path / "run"
    config = tmp_path / "prompts.yaml"
    config.write_text(f"""\
run_dir: {run_dir}
model: {{layers: 2, width: 32, heads: 2, context_length: 64}}
optimizer: {{lr: 1.0e-2}}
engine: {{kind: reference, micro_batch_size: 4, global_batch_size: 8}}
train: {{max_steps: 4, eval_every_steps: 4, sample_max_tokens: 4}}
data: {{lanes: 8}}
plugins:
  lora:
    base: {prepared[0]}
    task: causal_lm
    prompts: {{source: jsonl, path: {rows}, prompt_field: ask, text_field: say}}
""")
    result = json.loads(zerostream("finetune", config, "--json").stdout)
    assert result["trainable_parameters"] < result["parameters"]
    assert {"loss", "perplexity"} <= result["validation"].keys()
    told = json.loads(zerostream("generate", run_dir, "--prompt", "Tom has", "--temperature", 0, "--json").stdout)
    zerostream("export", run_dir, tmp_path / "exported")
    assert not (tmp_path / "exported" / "adapter_config.json").exists()
    script = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
ids = [tokenizer.eos_token_id, *tokenizer("Tom has").input_ids]
print(tokenizer.decode(model(torch.tensor([ids])).logits[0, -1].argmax().item()), end="")
"""
    first = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "exported")], capture_output=True, text=True, check=True
    )
    assert told["stories"][0]["text"].startswith(first.stdout)


def test_the_protocol_by_rows_announces_its_leak(
    prepared: tuple[Path, Path], tmp_path: Path, zerostream: RunZerostream
) -> None:
    """configs/age_rows.yaml on a table as it describes it: 41 books in 3,269 rows. The training is kept tiny."""
    books = list(itertools.islice(generate_blurbs(41, seed=4), 41))
    table = tmp_path / "children_books.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Title", "Author", "Desc", "Inerest_age", "Reading_age"])
        for row in range(3269):
            book = books[row % len(books)]
            writer.writerow([f"Book {row % len(books)}", "N. N.", book.text, book.age, book.age])
    run_dir, config = tmp_path / "run", ROOT / "configs" / "age_rows.yaml"
    data = [f"run_dir={run_dir}", f"plugins.lora.data.path={table}", f"plugins.lora.base={prepared[0]}"]
    short = ["model.context_length=32", "train.max_steps=2", "train.eval_every_steps=2", "schedule.warmup_steps=1"]
    told = zerostream("finetune", config, *data, *short, "--json")
    result = json.loads(told.stdout)
    assert (result["train_examples"], result["test_examples"]) == (2000, 1269)
    assert result["leakage"]["test_texts_in_training_fraction"] == 1.0
    assert result["leakage"]["is_leaky"] is True
    assert result["leakage"]["distinct_texts"] == 41
    assert result["baselines"]["look_up"]["accuracy"] == 1.0
    assert result["baselines"]["look_up"]["mean_absolute_error_years"] == 0.0
    assert result["truncated_texts"] > 0
    assert "LEAKY SPLIT: 100.0% of the 1,269 test rows" in told.stderr
    assert "100%" in (run_dir / "report.html").read_text(encoding="utf-8")
    again = zerostream("finetune", config, *data, *short)
    assert again.stdout.lstrip().startswith("LEAKY SPLIT")  # before any score


@pytest.mark.slow
def test_a_signal_to_the_command_saves_and_the_rest_is_the_same_digits(
    prepared: tuple[Path, Path], tmp_path: Path, zerostream: RunZerostream, zygote: Zygote
) -> None:
    """The signal reaches `zerostream finetune` alone, as from a scheduler; with dropout on."""
    steps = 40
    more = [
        "engine.kind=reference",
        f"train.max_steps={steps}",
        "train.eval_every_steps=1000",
        "checkpoint.every_steps=1000",
    ]
    more += ONE_FOLD
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    zerostream("finetune", prepared[1], *more, f"run_dir={whole}")
    command = [zygote.python, "-m", "launch.cli", "finetune", str(prepared[1]), *more, f"run_dir={cut}"]
    metrics = cut / "fold-1" / "metrics.jsonl"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 600
            while not (metrics.is_file() and metrics.stat().st_size) and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=600)
        finally:
            process.kill()
    assert process.returncode == 75, told[-2000:]
    [stopped_at] = RunDir(cut / "fold-1").checkpoint_steps()
    assert 0 < stopped_at < steps
    assert not (cut / "result.json").exists()
    zerostream("finetune", prepared[1], *more, f"run_dir={cut}")
    lines = [read_json_lines(folder / "fold-1" / "metrics.jsonl") for folder in (whole, cut)]
    for key in ("step", "loss", "grad_norm", "lr", "batch_digest"):
        assert [line[key] for line in lines[1]] == [line[key] for line in lines[0]], key
    results = [json.loads((folder / "result.json").read_text()) for folder in (whole, cut)]
    assert results[0]["accuracy"] == results[1]["accuracy"]
    assert results[0]["expected_calibration_error"] == results[1]["expected_calibration_error"]
