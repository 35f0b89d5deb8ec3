"""What fine-tuned runs leave behind and how it is used: adapters on a run, several on one base, whole models, prompts."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from framework.errors import UserError
from framework.plugins.lora.base import open_base
from framework.plugins.lora.blurbs import generate_blurbs
from framework.plugins.lora.outcome import CARD_FILE, outcome_of, read_card
from framework.plugins.lora.prediction import load_classifier
from framework.run_dir import RunDir
from framework.train.trained import export, load_trained
from tests.conftest import ROOT
from tests.distributed.conftest import Runs, StartRanks
from tests.tiny_base import finetuning_config, make_base

pytestmark = pytest.mark.distributed

TEXTS = ["A baby says moo to the cow.", "Moo!", "In the year of the long winter an heir sails for the last city."]
LONG = "cow " * 200
CONTEXT = 64


@pytest.fixture(scope="module")
def runs(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory, start_ranks: StartRanks) -> Runs:
    """One rank pretrains a base; two folds, a full fine-tuning and others start from it."""
    folder = tmp_path_factory.mktemp("outcome")
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": f"Tom has {n} hats."}) + "\n" for n in range(40)))
    config = str(finetuning_config(folder, folder / "base"))
    sizes = ["model.layers=2", "model.width=64", "model.heads=4", f"model.context_length={CONTEXT}"]

    def job(name: str, *more: str) -> list[str]:
        return [config, f"run_dir={folder / name}", *sizes, "engine.kind=reference", *more]

    reads_no_data = "plugins.lora.data={}"
    prompts = ["plugins.lora.task=causal_lm", reads_no_data, f"plugins.lora.prompts.path={folder / 'rows.jsonl'}"]
    jobs = {
        "base": [
            str(tiny_config),
            f"run_dir={folder / 'base'}",
            "train.max_steps=4",
            "engine.kind=reference",
            "model.pad_vocab_to_multiple=96",
        ],
        "first": job("first"),
        "second": job("second", "plugins.lora.fold=1", "seed=7"),
        "other-classes": job("other-classes", "plugins.lora.data.age_groups=[0,6]"),
        "full": job("full", "plugins.lora.method=full", "optimizer.lr=1e-3"),
        "prompts": job("prompts", *prompts),
        "on-a-classifier": job("refused", f"plugins.lora.base={folder / 'first'}"),
        "on-an-adapter": job("refused", f"plugins.lora.base={folder / 'prompts'}"),
    }
    return start_ranks(1, jobs, folder)


def probabilities(target: Path, *adapters: Path) -> npt.NDArray[np.float64]:
    return load_classifier(target, adapters).probabilities(TEXTS)


def adapter(runs: Runs, name: str) -> Path:
    assert runs.outcomes[name]["exit_code"] == 0, runs.outcomes[name]["message"]
    return outcome_of(RunDir(runs.path(name)))


@pytest.mark.parametrize("name", ["first", "full"])
def test_what_is_loaded_again_predicts_what_the_run_did(name: str, runs: Runs) -> None:
    """For all test rows, those that were cut included: the base is as it was, the head and the adapter are there."""
    adapter(runs, name)
    left = json.loads((runs.path(name) / "predictions.json").read_text())
    blurbs = list(generate_blurbs(60, seed=0))
    classifier = load_classifier(runs.path(name))
    texts = [blurbs[row].text for row in left["rows"]]
    assert any(classifier.are_long(texts))
    np.testing.assert_allclose(classifier.probabilities(texts), left["probabilities"], atol=1e-5)


def test_several_adapters_on_one_base_answer_together(runs: Runs) -> None:
    first, second = adapter(runs, "first"), adapter(runs, "second")
    base = runs.path("base")
    each = [probabilities(base, first), probabilities(base, second)]
    assert not np.allclose(*each, atol=1e-3)
    np.testing.assert_allclose(probabilities(base, first, second), sum(each) / 2, atol=1e-9)
    np.testing.assert_array_equal(each[0], probabilities(runs.path("first")))


def test_adapters_that_answer_other_questions_are_refused(runs: Runs) -> None:
    first = adapter(runs, "first")
    with pytest.raises(UserError, match="have different classes"):
        load_classifier(runs.path("base"), [first, adapter(runs, "other-classes")])
    with pytest.raises(UserError, match="is no classifier"):
        load_classifier(runs.path("base"), [adapter(runs, "prompts")])


def test_another_base_is_refused(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was made on other weights than those of base"):
        load_classifier(make_base(tmp_path / "other"), [adapter(runs, "first")])


@pytest.mark.parametrize(
    ("run", "file"),
    [
        ("first", "adapter_model.safetensors"),
        ("first", "adapter_config.json"),
        ("first", CARD_FILE),
        ("full", "model.safetensors"),
        ("full", "config.json"),
        ("full", "tokenizer.json"),
    ],
)
def test_a_file_that_was_changed_or_lost_is_noticed(run: str, file: str, runs: Runs, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapter(runs, run), tmp_path / "copy"))
    read_card(folder)
    path, changed = folder / file, f"{file} is not what was saved"
    content = path.read_bytes()
    if file == CARD_FILE:
        path.write_bytes(content.replace(b'"0-2"', b'"9-9"', 1))
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=changed):
        load_classifier(runs.path("base"), [folder])
    path.unlink()
    with pytest.raises(UserError, match=file):
        load_classifier(runs.path("base"), [folder])


def test_a_later_checkpoint_renews_the_adapter(runs: Runs, tmp_path: Path) -> None:
    run_dir = RunDir(Path(shutil.copytree(runs.path("first"), tmp_path / "run")))
    shutil.rmtree(run_dir.path / "adapter", ignore_errors=True)
    steps = run_dir.checkpoint_steps()
    assert len(steps) == 2
    newest = run_dir.checkpoint(steps[1])
    newest.rename(tmp_path / "aside")
    earlier = probabilities(run_dir.path)
    (tmp_path / "aside").rename(newest)
    assert not np.allclose(probabilities(run_dir.path), earlier, atol=1e-3)
    np.testing.assert_array_equal(probabilities(run_dir.path), probabilities(runs.path("first")))
    # Without checkpoints, what was made of them still serves.
    shutil.rmtree(run_dir.checkpoints)
    np.testing.assert_array_equal(probabilities(run_dir.path), probabilities(runs.path("first")))


def test_a_long_text_loses_its_end_only_where_training_did_that(runs: Runs) -> None:
    adapter(runs, "first")
    classifier = load_classifier(runs.path("first"))
    assert classifier.are_long([TEXTS[0], LONG]) == [False, True]
    tokens = classifier.tokenizer.encode(LONG)
    cut = classifier.tokenizer.decode(tokens[: CONTEXT - 1])
    assert classifier.tokenizer.encode(cut) == tokens[: CONTEXT - 1]
    np.testing.assert_allclose(classifier.probabilities([LONG]), classifier.probabilities([cut]), atol=1e-12)
    strict = dataclasses.replace(classifier, truncates=False)
    with pytest.raises(UserError, match=rf"text 2 has {1 + len(tokens)} tokens, and the model reads {CONTEXT}"):
        strict.probabilities([TEXTS[0], LONG])


def test_an_export_is_the_classifier_without_an_adapter(runs: Runs, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    export(load_trained(runs.path("first")), tmp_path / "whole")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole")
    assert not any("lora" in name for name, _ in model.named_parameters())
    for text, expected in zip(TEXTS, probabilities(runs.path("first")), strict=True):
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text).input_ids]])
        with torch.no_grad():
            found = model(ids).logits.softmax(-1)[0].double().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_run_and_its_export_are_one_base(runs: Runs, tmp_path: Path) -> None:
    """Though the run's vocabulary matrix is rounded up, and its checkpoint cut and laid out otherwise."""
    trained = load_trained(runs.path("base"))
    embedding: Any = trained.model.transformer.get_input_embeddings()  # type: ignore[operator]
    assert len(embedding.weight) > trained.tokenizer.vocab_size
    export(trained, tmp_path / "base")
    assert open_base(str(tmp_path / "base")).fingerprint == open_base(str(runs.path("base"))).fingerprint
    first = adapter(runs, "first")
    np.testing.assert_allclose(probabilities(tmp_path / "base", first), probabilities(runs.path("first")), atol=1e-6)


def test_the_documentations_code_uses_an_adapter_elsewhere(runs: Runs, tmp_path: Path) -> None:
    """docs/finetuning.md, run as it stands in a fresh process, on an exported base."""
    export(load_trained(runs.path("base")), tmp_path / "exported_base")
    folder = tmp_path / "runs" / "finetune_blurbs" / "fold-1"
    folder.mkdir(parents=True)
    (folder / "adapter").symlink_to(adapter(runs, "first"))
    [code] = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "finetuning.md").read_text(encoding="utf-8"), re.DOTALL
    )
    shown = "\nimport json; print(json.dumps(logits.softmax(-1)[0].tolist()))\n"
    told = subprocess.run(
        [sys.executable, "-c", code + shown], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr[-2000:]
    expected = load_classifier(runs.path("first")).probabilities(["A baby says moo."])[0]
    np.testing.assert_allclose(json.loads(told.stdout), expected, atol=1e-5)


def test_an_adapter_for_prompts_works_with_peft_alone(runs: Runs, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    trained = load_trained(runs.path("prompts"))
    ids = torch.tensor([[trained.tokenizer.end_of_text_id, *trained.tokenizer.encode("Tom has")]])
    with torch.no_grad():
        expected = trained.model.transformer.cpu()(input_ids=ids).logits
    export(load_trained(runs.path("base")), tmp_path / "base")
    base: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    untuned = base(input_ids=ids).logits
    tuned = PeftModel.from_pretrained(base, str(adapter(runs, "prompts"))).eval()
    with torch.no_grad():
        found = tuned(input_ids=ids).logits
    torch.testing.assert_close(found, expected[..., : found.shape[-1]], rtol=0, atol=1e-5)
    assert not torch.allclose(found, untuned, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "said"),
    [("on-a-classifier", "task classification"), ("on-an-adapter", "or export it and name that folder")],
)
def test_a_base_that_is_fine_tuned_itself_is_refused_before_anything_is_written(
    name: str, said: str, runs: Runs
) -> None:
    outcome = runs.outcomes[name]
    assert outcome["exit_code"] == 2, outcome["message"]
    assert "is itself fine-tuned" in outcome["message"]
    assert said in outcome["message"]
    assert not runs.path("refused").exists()
