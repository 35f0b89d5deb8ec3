"""Fine-tuning a base to go on from prompts, or to speak as a set of texts does."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.config import BatchPlan
from framework.data.tokenizer import Tokenizer
from framework.durable import write_durably
from framework.errors import SourceError
from framework.plugins.interface import Hook
from framework.plugins.lora.options import LabelledDataOptions, PromptDataOptions
from framework.plugins.lora.recipe import FineTuning
from framework.plugins.lora.rows import RawTable, read_file_rows, read_training_rows
from framework.plugins.lora.table import normalise_text
from framework.run_dir import RunDir

if TYPE_CHECKING:
    from framework.engine import Engine
    from framework.model.language_model import LanguageModel
    from framework.plugins.lora.examples import Example
    from framework.train.events import EventLog
    from framework.train.hooks import TensorBoardHook

STORED_FILE = "completion.json"


@dataclass(frozen=True)
class Pair:
    """A prompt, empty where the text is learned whole, and what follows it."""

    prompt: str
    completion: str


class Completion(FineTuning):
    """The recipe of ``task: causal_lm``."""

    @property
    def prompts(self) -> PromptDataOptions:
        """Where the rows are; the options have made sure of them."""
        assert self.options.prompts is not None
        return self.options.prompts

    @property
    def data_name(self) -> str:
        return str(self.prompts.path)

    @cached_property
    def _pairs(self) -> tuple[list[Pair], list[Pair]]:
        """Training and test rows."""
        options = _columns(self.prompts)
        pairs = list(_read_pairs(read_training_rows(options), self.prompts))
        if self.prompts.test_path is not None:
            file = Path(self.prompts.test_path).expanduser()
            return pairs, list(_read_pairs(read_file_rows(file, options), self.prompts))
        test = [pair for pair in pairs if _share(pair) < self.prompts.test_fraction]
        train = [pair for pair in pairs if _share(pair) >= self.prompts.test_fraction]
        if not test:
            raise SourceError(
                f"none of the {len(pairs)} rows of {self.data_name} is held out to test",
                fix="raise plugins.lora.prompts.test_fraction, or name a test_path",
            )
        return train, test

    @cached_property
    def train_examples(self) -> Sequence[Example]:
        return self._examples(self._pairs[0])

    @cached_property
    def test_examples(self) -> Sequence[Example]:
        return self._examples(self._pairs[1])

    def _examples(self, pairs: Sequence[Pair]) -> list[Example]:
        """End-of-text, prompt, completion, end-of-text: as a document of pretraining, with the prompt perhaps not asked."""
        from framework.data.stream import IGNORED_TARGET
        from framework.plugins.lora.examples import Example

        end = self.tokenizer.end_of_text_id
        prompts = self.tokenizer.encode_documents([pair.prompt for pair in pairs])
        completions = self.tokenizer.encode_documents([pair.completion for pair in pairs])
        examples = []
        for pair, prompt, completion in zip(pairs, prompts, completions, strict=True):
            row = self.cut([end, *prompt, *completion, end], pair.prompt + pair.completion, targets_behind=1)
            tokens = np.array(row, dtype=np.int64)
            targets = tokens[1:].copy()
            if not self.prompts.learn_prompt:
                targets[: len(prompt)] = IGNORED_TARGET
            if not (targets != IGNORED_TARGET).any():
                raise SourceError(
                    f"the prompt that begins {pair.prompt[:40]!r} leaves no room for its completion",
                    fix="raise model.context_length, or shorten the prompt",
                )
            examples.append(Example(tokens[:-1], targets))
        return examples

    @property
    def leaves_a_base(self) -> bool:
        return self.options.method == "full"

    @property
    def ignorant_loss(self) -> float:
        return math.log(self.tokenizer.vocab_size)

    def build_model(self, tokenizer: Tokenizer, used_from: RunDir | None = None) -> LanguageModel:
        import torch

        from framework.model.language_model import LanguageModel

        torch.manual_seed(self.config.seed)
        return LanguageModel(self.adapt(self.base.load(), used_from), tokenizer.vocab_size)

    def evaluator(self, plan: BatchPlan, engine: Engine) -> TargetEvaluator:
        return TargetEvaluator(self, plan, engine)

    def hooks(self, plan: BatchPlan, engine: Engine, board: TensorBoardHook | None, events: EventLog) -> list[Hook]:
        from framework.train.hooks import StoryHook

        return [StoryHook(RunDir(self.config.run_dir), self.config, self.tokenizer, engine, board)]

    def save_for_use(self, run_dir: RunDir) -> None:
        write_durably(run_dir.path / STORED_FILE, (json.dumps(self.stored(), indent=1) + "\n").encode())

    def closing_lines(self, validation: Mapping[str, float]) -> list[tuple[str, str]]:
        run_dir = self.config.run_dir
        return [
            ("test rows", f"loss {validation['loss']:.4f} per target, perplexity {validation['perplexity']:.2f}"),
            ("read", f'zerostream generate {run_dir} --prompt "Once upon a time"'),
            ("watch", f"zerostream board {run_dir}"),
            ("take away", f"zerostream export {run_dir} DIR"),
        ]


class TargetEvaluator:
    """Loss on the test rows' targets. All ranks call it together."""

    def __init__(self, recipe: Completion, plan: BatchPlan, engine: Engine) -> None:
        self._recipe = recipe
        self._plan = plan
        self._engine = engine

    def evaluate(self, step: int) -> dict[str, float]:
        """``loss`` in nats per target, and ``perplexity``."""
        from framework.plugins.lora.examples import evaluation_batches

        examples, pad_id = self._recipe.test_examples, self._recipe.tokenizer.end_of_text_id
        batches = (batch for _, batch in evaluation_batches(examples, self._plan, self._engine.world.rank, pad_id))
        loss_sum, targets = self._engine.evaluate(batches)
        return {"loss": loss_sum / targets, "perplexity": math.exp(min(loss_sum / targets, 700.0))}


def _columns(prompts: PromptDataOptions) -> LabelledDataOptions:
    """The options that the readers of tables take; no column of theirs is a label here."""
    return LabelledDataOptions(
        source=prompts.source,
        path=prompts.path,
        text_fields=(prompts.text_field,),
        label_field=prompts.prompt_field or "label",
        encoding=prompts.encoding,
        hub_config=prompts.hub_config,
        hub_split=prompts.hub_split,
    )


def _read_pairs(table: RawTable, prompts: PromptDataOptions) -> Iterator[Pair]:
    if not table.rows:
        raise SourceError(f"{table.name} holds no row", fix="name a file with texts in it")
    for field in filter(None, (prompts.prompt_field, prompts.text_field)):
        if field not in table.columns:
            raise SourceError(
                f"{table.name} has no column {field!r} (it has {', '.join(table.columns)})",
                fix="set plugins.lora.prompts.text_field and prompt_field to its columns",
            )
    for where, row in table.rows:
        prompt = _text_of(row, prompts.prompt_field, where) if prompts.prompt_field else ""
        yield Pair(prompt, _text_of(row, prompts.text_field, where))


def _text_of(row: Mapping[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise SourceError(f"{where}: {field} is empty", fix="fill or remove that row")
    return value


def _share(pair: Pair) -> float:
    """A number in [0, 1) by the row's text alone: equal texts are held out together."""
    digest = hashlib.blake2b(normalise_text(f"{pair.prompt}\n{pair.completion}").encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
