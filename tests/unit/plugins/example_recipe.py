"""A complete plugin that decides what a run learns: to put back the letters that a sentence has lost.

    l_ly s_w a cat =>   ->   lily saw a cat

Its package names it by an entry point: `[project.entry-points."zerostream.plugins"] denoise = "zerostream_denoise:plugin"`.
The engines, the loop, checkpoints, exact resume and TensorBoard are those of every run; `zerostream generate` reads the result.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from framework.config import BatchPlan, Config
from framework.config.schema import Section
from framework.data.tokenizer import Tokenizer, build_tokenizer
from framework.errors import SourceError
from framework.plugins.interface import Plugin
from framework.run_dir import RunDir
from framework.train.recipe import Recipe

if TYPE_CHECKING:
    from framework.engine import Engine
    from framework.model.language_model import LanguageModel
    from framework.plugins.lora.examples import Example, ExampleStream

ASK = " =>"
"""Stands between the sentence with gaps and the whole one."""
HELD_OUT = 0.1


class Options(Section):
    """What may stand below `plugins.denoise`."""

    path: str
    """A UTF-8 file with a sentence in each line."""
    lost: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the letters that are lost."""


@dataclass(frozen=True)
class Row:
    """Token ids of end-of-text, question, answer, end-of-text; the first ``asked_from`` of the targets are not asked."""

    tokens: tuple[int, ...]
    asked_from: int


class Denoising(Recipe):
    """The recipe: rows are a function of file and options alone, so that every rank and every start has the same."""

    unit = "targets"
    data_kind = "sentences"
    restore_data_fix = "give it the sentences and the options of plugins.denoise that it began with"

    def __init__(self, config: Config, options: Options) -> None:
        super().__init__(config)
        self.options = options

    def check(self) -> None:
        longest = max(map(len, (row.tokens for row in (*self.train_rows, *self.test_rows)))) - 1
        if longest > self.config.model.context_length:
            raise SourceError(
                f"a sentence of {self.data_name} takes {longest} tokens with its question, and model.context_length is "
                f"{self.config.model.context_length}",
                fix=f"set model.context_length={longest}, or shorten the sentence",
            )

    @property
    def data_name(self) -> str:
        return self.options.path

    @cached_property
    def _sentences(self) -> list[str]:
        try:
            text = Path(self.options.path).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(
                f"plugins.denoise.path {self.options.path} cannot be read: {error}", fix="name a file of UTF-8 text"
            ) from error
        return [line.strip() for line in text.splitlines() if line.strip()]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return build_tokenizer(self.config, documents=self._sentences)

    @cached_property
    def train_rows(self) -> list[Row]:
        """What is learned from."""
        return self._rows(is_test=False)

    @cached_property
    def test_rows(self) -> list[Row]:
        """What is scored on: chosen by the hash of the sentence, so equal ones are on one side."""
        return self._rows(is_test=True)

    def _rows(self, *, is_test: bool) -> list[Row]:
        end, rows = self.tokenizer.end_of_text_id, []
        for sentence in self._sentences:
            if (_share(sentence) < HELD_OUT) == is_test:
                question = self.tokenizer.encode(lose_letters(sentence, self.options.lost) + ASK)
                answer = self.tokenizer.encode(f" {sentence}")
                rows.append(Row((end, *question, *answer, end), asked_from=len(question)))
        if not rows:
            raise SourceError(
                f"none of the {len(self._sentences)} sentences of {self.data_name} is there to "
                + ("test" if is_test else "learn from"),
                fix="give it more sentences",
            )
        return rows

    @property
    def data_fingerprint(self) -> str:
        rows = [(row.tokens, row.asked_from) for row in (*self.train_rows, *self.test_rows)]
        return hashlib.sha256(json.dumps([self.tokenizer.fingerprint, rows]).encode()).hexdigest()

    @property
    def ignorant_loss(self) -> float:
        return math.log(self.tokenizer.vocab_size)

    def describe_data(self, plan: BatchPlan) -> str:
        epochs = self.config.train.max_steps * plan.global_batch_size / len(self.train_rows)
        return f"{len(self.train_rows):,} sentences, {len(self.test_rows):,} to test; {epochs:.2f} epochs"

    def build_model(self, tokenizer: Tokenizer, used_from: RunDir | None = None) -> LanguageModel:
        from framework.model.build import build_model

        return build_model(self.config, tokenizer.vocab_size, tokenizer.end_of_text_id)

    def stream(self, plan: BatchPlan, rank: int) -> ExampleStream:
        from framework.plugins.lora.examples import ExampleStream

        end = self.tokenizer.end_of_text_id
        return ExampleStream(_as_examples(self.train_rows), plan, seed=self.config.seed, rank=rank, pad_id=end)

    def evaluator(self, plan: BatchPlan, engine: Engine) -> AnswerEvaluator:
        return AnswerEvaluator(self, plan, engine)

    def closing_lines(self, validation: Mapping[str, float]) -> list[tuple[str, str]]:
        return [
            ("test rows", f"loss {validation['loss']:.4f} per target, perplexity {validation['perplexity']:.2f}"),
            ("read", f'zerostream generate {self.config.run_dir} --prompt "l_ly s_w a cat{ASK}"'),
        ]


class AnswerEvaluator:
    """Loss on the answers of the held-out sentences. All ranks call it together."""

    def __init__(self, recipe: Denoising, plan: BatchPlan, engine: Engine) -> None:
        self._examples = _as_examples(recipe.test_rows)
        self._pad_id = recipe.tokenizer.end_of_text_id
        self._plan = plan
        self._engine = engine

    def evaluate(self, step: int) -> dict[str, float]:
        """``loss`` in nats per target, and ``perplexity``."""
        from framework.plugins.lora.examples import evaluation_batches

        batches = evaluation_batches(self._examples, self._plan, self._engine.world.rank, self._pad_id)
        loss_sum, targets = self._engine.evaluate(batch for _, batch in batches)
        return {"loss": loss_sum / targets, "perplexity": math.exp(loss_sum / targets)}


def lose_letters(sentence: str, share: float) -> str:
    """``sentence`` with about ``share`` of its letters written ``_``: the same ones whenever it is asked for."""
    chance = random.Random(sentence)  # a text seeds by its SHA-512, not by Python's hash
    return "".join("_" if letter.isalpha() and chance.random() < share else letter for letter in sentence)


def _share(sentence: str) -> float:
    """A number in [0, 1) by the text alone."""
    return int.from_bytes(hashlib.blake2b(sentence.encode(), digest_size=8).digest(), "big") / 2**64


def _as_examples(rows: Sequence[Row]) -> list[Example]:
    """Needs torch, which ``check`` does without: ranks have not started there."""
    import numpy as np

    from framework.data.stream import IGNORED_TARGET
    from framework.plugins.lora.examples import Example

    examples = []
    for row in rows:
        tokens = np.array(row.tokens, dtype=np.int64)
        targets = tokens[1:].copy()
        targets[: row.asked_from] = IGNORED_TARGET
        examples.append(Example(tokens[:-1], targets))
    return examples


plugin = Plugin(name="denoise", options=Options, recipe=Denoising)
