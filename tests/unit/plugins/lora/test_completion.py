"""Prompts and completions as examples: what is asked, what is cut, what is held out, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from framework.config import BatchPlan, build_config
from framework.data.stream import IGNORED_TARGET
from framework.errors import SourceError
from framework.plugins.lora.completion import Completion
from framework.plugins.lora.options import LoraOptions
from tests.tiny_base import CONTEXT

Row = dict[str, Any]
Make = Callable[..., Completion]
ROWS: list[Row] = [{"ask": f"Tom has {number} hats.", "say": f" So {number} hats!"} for number in range(40)]


@pytest.fixture
def recipe(base: Path, tmp_path: Path) -> Make:
    """Of these rows; further options of ``prompts`` by name."""

    def write(name: str, rows: Sequence[Row]) -> str:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    def make(
        rows: Sequence[Row], test: Sequence[Row] | None = None, on_long_text: str = "error", **prompts: Any
    ) -> Completion:
        fields = {"prompt_field": "ask", "text_field": "say", **prompts, "path": write("rows", rows)}
        if test is not None:
            fields["test_path"] = write("test", test)
        options = {"base": str(base), "task": "causal_lm", "prompts": fields, "on_long_text": on_long_text}
        sizes = {"layers": 2, "width": 32, "heads": 2, "context_length": CONTEXT}
        config = build_config({"model": sizes, "run_dir": str(tmp_path / "run")}, origin="a test")
        return Completion(config, LoraOptions.model_validate(options))

    return make


def test_the_prompt_is_read_and_the_completion_and_its_end_are_asked(recipe: Make) -> None:
    made = recipe(ROWS, test=ROWS[:1])
    end, row = made.tokenizer.end_of_text_id, ROWS[0]
    prompt, completion = made.tokenizer.encode(row["ask"]), made.tokenizer.encode(row["say"])
    [example] = made.test_examples
    assert example.input_ids.tolist() == [end, *prompt, *completion]
    assert example.targets.tolist() == [*[IGNORED_TARGET] * len(prompt), *completion, end]
    assert example.target_count == len(completion) + 1


@pytest.mark.parametrize("options", [{"learn_prompt": True}, {"prompt_field": None, "text_field": "ask"}])
def test_without_masking_every_token_is_asked(recipe: Make, options: dict[str, Any]) -> None:
    [example] = recipe(ROWS, test=ROWS[:1], **options).test_examples
    assert example.targets[:-1].tolist() == example.input_ids[1:].tolist()
    assert (example.targets != IGNORED_TARGET).all()


def test_the_loss_is_that_of_the_completion_alone(recipe: Make) -> None:
    made = recipe(ROWS, test=ROWS[:1])
    [example] = made.test_examples
    model = made.build_model(made.tokenizer).eval()
    input_ids, targets = torch.from_numpy(example.input_ids)[None], torch.from_numpy(example.targets)[None]
    loss = model(input_ids, targets)
    log_probs = model.transformer(input_ids=input_ids).logits[0].log_softmax(-1)
    asked = [(place, int(target)) for place, target in enumerate(example.targets) if target != IGNORED_TARGET]
    torch.testing.assert_close(loss, -sum(log_probs[place, target] for place, target in asked))
    # What the prompt's targets would have been changes nothing.
    assert len(asked) < len(example.targets)


def test_a_row_may_fill_the_context_and_no_more(recipe: Make) -> None:
    """End-of-text behind the row is a target, and needs no room."""
    made = recipe(ROWS)
    words = " hat" * CONTEXT
    tokens = made.tokenizer.encode(words)
    fits = made.tokenizer.decode(tokens[: CONTEXT - 1])
    assert len(made.tokenizer.encode(fits)) == CONTEXT - 1
    whole = {"prompt_field": None, "text_field": "say"}
    [example] = recipe(ROWS, test=[{"say": fits}], **whole).test_examples
    assert len(example.input_ids) == CONTEXT
    assert example.targets[-1] == made.tokenizer.end_of_text_id
    with pytest.raises(SourceError, match=f"tokens, and model.context_length is {CONTEXT}"):
        recipe(ROWS, test=[{"say": words}], **whole).check()


def test_a_long_row_loses_its_end_and_is_counted(recipe: Make) -> None:
    long = {"ask": "Tom", "say": " hat" * CONTEXT}
    made = recipe([*ROWS, long], test=ROWS[:1], on_long_text="truncate")
    example = max(made.train_examples, key=lambda each: len(each.input_ids))
    assert len(example.input_ids) == len(example.targets) == CONTEXT
    assert example.targets[-1] != made.tokenizer.end_of_text_id  # it does not end there
    assert made.truncated_texts == 1
    assert "1 texts lost their end" in made.describe_data(BatchPlan(1, 2, 1, 2, CONTEXT))


def test_rows_are_held_out_by_their_text(recipe: Make) -> None:
    rows = [*ROWS, *[{**row, "ask": row["ask"].upper()} for row in ROWS]]  # case does not make another text
    made = recipe(rows, test_fraction=0.3)
    names = [{made.tokenizer.decode(each.input_ids.tolist()).casefold() for each in of}
             for of in (made.train_examples, made.test_examples)]  # fmt: skip
    assert not names[0] & names[1]
    assert len(made.train_examples) + len(made.test_examples) == len(rows)
    again = recipe(rows, test_fraction=0.3)
    assert again.data_fingerprint == made.data_fingerprint


@pytest.mark.parametrize(
    ("rows", "more", "cause"),
    [
        (ROWS, {"test": []}, "test.jsonl holds no row"),
        ([], {}, "rows.jsonl holds no row"),
        (ROWS, {"text_field": "answer"}, "has no column 'answer'"),
        (ROWS, {"prompt_field": "question"}, "has no column 'question'"),
        ([*ROWS, {"ask": "Tom?", "say": "  "}], {}, "rows.jsonl:41: say is empty"),
        ([*ROWS, {"ask": "Tom?", "say": float("nan")}], {}, "rows.jsonl:41: say is empty"),
        ([*ROWS, {"ask": " hat" * CONTEXT, "say": "!"}], {"on_long_text": "truncate"}, "leaves no room"),
        (ROWS[:2], {"test_fraction": 1e-9}, "none of the 2 rows"),
    ],
    ids=["no-test", "no-rows", "text", "prompt", "empty", "nan", "no-room", "none-held-out"],
)
def test_rows_that_do_not_do(recipe: Make, rows: list[Row], more: dict[str, Any], cause: str) -> None:
    with pytest.raises(SourceError, match=cause):
        recipe(rows, **more).check()


def test_the_head_of_the_base_is_what_goes_on(recipe: Make) -> None:
    made = recipe(ROWS)
    model = made.build_model(made.tokenizer).eval()
    input_ids = torch.from_numpy(np.arange(8))[None]
    expected = made.base.load().eval()(input_ids=input_ids).logits
    torch.testing.assert_close(model.transformer(input_ids=input_ids).logits, expected)  # lora_B is zero
