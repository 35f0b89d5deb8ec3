"""What a run leaves behind, in the hands of others: peft and transformers alone, a changed file, another base, two adapters."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from framework.config import load_config
from framework.engine import join_world
from framework.errors import UserError
from framework.plugins.lora.outcome import CARD_FILE, outcome_of, read_card, write_outcome
from framework.plugins.lora.prediction import FOLD_FOLDER, load_classifier, runs_below
from framework.run_dir import RunDir
from framework.train.session import train
from framework.train.stopping import StopRequest
from tests.tiny_base import finetuning_config, make_base

# Of different lengths: read together, the shorter ones are padded.
TEXTS = ["Moo!", "A baby says moo to the cow.", "In the year of the long winter an heir sails for the last city."]
STEPS = 2

# No import of zerostream: what others have is peft, transformers and the folders.
ELSEWHERE = """\
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

base, adapter, whole, texts = *sys.argv[1:4], json.loads(sys.argv[4])

def ask(model, tokenizer):
    rows = [[tokenizer.eos_token_id, *tokenizer(text).input_ids] for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.eos_token_id] * (longest - len(row)) for row in rows])
    with torch.no_grad():
        return model.eval()(ids).logits.softmax(-1).tolist()

tokenizer = AutoTokenizer.from_pretrained(base)
torch.manual_seed(99)  # the head that is drawn here must not matter
model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=4, pad_token_id=tokenizer.eos_token_id)
answers = {"lora": ask(PeftModel.from_pretrained(model, adapter), tokenizer)}
answers["full"] = ask(AutoModelForSequenceClassification.from_pretrained(whole), AutoTokenizer.from_pretrained(whole))
assert not any(name.partition(".")[0] in ("framework", "launch") for name in sys.modules)
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Tuned:
    """Run directories of one base: two folds with adapters, and one with all weights."""

    base: Path
    first: Path
    second: Path
    full: Path


@pytest.fixture(scope="module")
def tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("tuned")
    config_file = finetuning_config(folder, base)
    runs = {
        "first": [],
        "second": ["plugins.lora.fold=1", "seed=7"],
        "full": ["plugins.lora.method=full", "optimizer.lr=1e-3"],
    }
    short = ["engine.kind=reference", "logging.tensorboard=false", f"train.max_steps={STEPS}"]
    short += [f"train.eval_every_steps={STEPS}", f"checkpoint.every_steps={STEPS}"]
    with pytest.MonkeyPatch.context() as environment:
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            environment.delenv(name, raising=False)
        with join_world(60):
            for name, more in runs.items():
                train(load_config(config_file, [f"run_dir={folder / name}", *short, *more]), StopRequest())
    return Tuned(base, *(folder / name for name in runs))


@pytest.fixture
def run_copy(tuned: Tuned, tmp_path: Path) -> RunDir:
    """A run with its adapter, to spoil."""
    outcome_of(RunDir(tuned.first))
    return RunDir(Path(shutil.copytree(tuned.first, tmp_path / "copy")))


def test_peft_and_transformers_alone_give_the_same_probabilities(tuned: Tuned) -> None:
    """In a process that knows nothing of zerostream, with the texts in one padded batch."""
    adapter, whole = write_outcome(RunDir(tuned.first)), write_outcome(RunDir(tuned.full))
    told = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, (tuned.base, adapter, whole)), json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tuned.base,  # away from the repository: -c puts the working directory on the path
    )
    assert told.returncode == 0, told.stderr[-2000:]
    answers = json.loads(told.stdout)
    for method, run in (("lora", tuned.first), ("full", tuned.full)):
        np.testing.assert_allclose(answers[method], load_classifier(run).probabilities(TEXTS), rtol=0, atol=1e-5)
    assert not np.allclose(answers["lora"], answers["full"], atol=1e-3)


def test_two_adapters_on_one_base_are_averaged(tuned: Tuned) -> None:
    adapters = [outcome_of(RunDir(run)) for run in (tuned.first, tuned.second)]
    each = [load_classifier(tuned.base, [adapter]).probabilities(TEXTS) for adapter in adapters]
    assert not np.allclose(*each, atol=1e-3)
    both = load_classifier(tuned.base, adapters).probabilities(TEXTS)
    # Each model's float32 row sums to 1 within about 1e-7, and the sum of both is what is made whole.
    np.testing.assert_allclose(both, (each[0] + each[1]) / 2, rtol=0, atol=1e-6)


def test_one_changed_bit_of_the_weights_is_noticed(tuned: Tuned, run_copy: RunDir) -> None:
    adapter = outcome_of(run_copy)
    weights = adapter / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"adapter_model\.safetensors is not what was saved"):
        load_classifier(tuned.base, [adapter])
    with pytest.raises(UserError, match=r"adapter_model\.safetensors is not what was saved"):
        load_classifier(run_copy.path)
    write_outcome(run_copy)
    np.testing.assert_array_equal(
        load_classifier(run_copy.path).probabilities(TEXTS), load_classifier(tuned.first).probabilities(TEXTS)
    )


def test_a_base_with_other_weights_is_refused(tuned: Tuned, tmp_path: Path) -> None:
    """Of the same shape and tokenizer, so that nothing else would have noticed."""
    other = make_base(tmp_path / "other", seed=2)
    with pytest.raises(UserError, match="was made on other weights than those of base") as refused:
        load_classifier(other, [outcome_of(RunDir(tuned.first))])
    assert str(tuned.base) in refused.value.fix


@pytest.mark.parametrize("left_over", ["adapter.tmp", "adapter"])
def test_what_a_killed_writer_left_does_not_get_into_the_adapter(left_over: str, run_copy: RunDir) -> None:
    shutil.rmtree(run_copy.path / "adapter")
    (run_copy.path / left_over).mkdir()
    (run_copy.path / left_over / "half.safetensors").write_bytes(b"half")
    folder = outcome_of(run_copy)
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", CARD_FILE}
    assert read_card(folder).method == "lora"
    assert not folder.with_name("adapter.tmp").exists()


@pytest.mark.parametrize("content", ["", "null", "3", "[]", "{}", '{"method": "qlora"}'])
def test_a_run_whose_description_is_damaged_is_refused_by_its_file(content: str, run_copy: RunDir) -> None:
    (run_copy.path / "classes.json").write_text(content)
    with pytest.raises(UserError, match=r"classes\.json"):
        outcome_of(run_copy)


@pytest.mark.parametrize("content", ["", "null", "3", "[]"])
def test_a_card_that_is_damaged_is_refused_by_its_file(content: str, run_copy: RunDir) -> None:
    (run_copy.path / "adapter" / CARD_FILE).write_text(content)
    with pytest.raises(UserError, match=r"zerostream\.json"):
        load_classifier(run_copy.path)


def test_folds_come_by_number_and_what_is_set_aside_is_no_fold(tuned: Tuned, tmp_path: Path) -> None:
    for name in ("10", "2", "old", "2-copy", "1-5"):
        (tmp_path / FOLD_FOLDER.format(name)).symlink_to(tuned.first)
    assert [path.name for path in runs_below(tmp_path)] == ["fold-2", "fold-10"]
    assert runs_below(tuned.first) == [tuned.first]


def test_of_no_text_there_is_no_row(tuned: Tuned) -> None:
    assert load_classifier(tuned.first).probabilities([]).shape == (0, 4)
