"""lm-eval on a small task of our own, without a network: its figures are those of our own model."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
import torch

from framework.errors import UserError
from framework.train.benchmark_tasks import load_tasks, run_tasks
from framework.train.trained import Trained
from tests.lm_eval_tasks import write_tasks

needs_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed (the extra eval)"
)


def log_probability(trained: Trained, context: str, continuation: str) -> float:
    """Of the continuation's tokens after the context's."""
    begun, tokens = (trained.tokenizer.encode(text) for text in (context, context + continuation))
    log_probs = trained.model.log_probs(torch.tensor([tokens[:-1]]))[0]
    scored = range(len(begun), len(tokens))
    return sum(float(log_probs[place - 1, tokens[place]]) for place in scored)


@needs_lm_eval
def test_its_figures_are_those_of_our_model(untrained: Trained, tmp_path: Path) -> None:
    rows = write_tasks(tmp_path)
    with torch.no_grad():
        right = [log_probability(untrained, row["text"], f" {row['good']}") for row in rows]
        wrong = [log_probability(untrained, row["text"], f" {row['bad']}") for row in rows]
    found = run_tasks(untrained, load_tasks(["choose_end", "tiny_tag"], tmp_path))
    assert found["choose_end"]["acc"] == sum(a > b for a, b in zip(right, wrong, strict=True)) / len(rows)
    assert found["last_word"]["perplexity"] == pytest.approx(math.exp(-sum(right) / len(rows)), rel=1e-4)
    assert {key: found["choose_end"][key] for key in ("samples", "shots", "version")} == {
        "samples": len(rows), "shots": 0, "version": 1.0
    }  # fmt: skip
    assert found["choose_end"]["acc_stderr"] is not None
    json.dumps(found, allow_nan=False)


@needs_lm_eval
def test_what_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(UserError, match=r"task choose_end cannot be loaded: .*rows\.jsonl"):
        load_tasks(["choose_end"], tmp_path)


@needs_lm_eval
def test_a_task_that_is_asked_for_twice_is_refused(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    with pytest.raises(UserError, match="task last_word is asked for twice"):
        load_tasks(["last_word", "tiny_tag"], tmp_path)


@needs_lm_eval
@pytest.mark.slow
def test_an_unknown_task_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    with pytest.raises(UserError, match="task lambada_opnai is none of lm-eval's nor of") as caught:
        load_tasks(["choose_end", "lambada_opnai"], tmp_path)
    assert "lambada_openai" in caught.value.fix


def test_without_lm_eval_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # what Python calls not installed
    with pytest.raises(UserError, match=r"lm-eval, which is not installed\. To fix it: run `pip install 'lm-eval"):
        load_tasks(["lambada_openai"])
