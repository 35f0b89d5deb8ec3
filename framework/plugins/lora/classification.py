"""Fine-tuning a base to name the class of a text, and scoring it on rows that it has not seen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from framework.config import BatchPlan
from framework.data.tokenizer import Tokenizer
from framework.durable import write_durably
from framework.errors import ConfigError, RunDirError, UserError
from framework.plugins.interface import Hook
from framework.plugins.lora.class_evaluation import ClassEvaluator, PredictionHook
from framework.plugins.lora.recipe import FineTuning
from framework.plugins.lora.splits import Fold, load_folds
from framework.plugins.lora.table import LabelledData
from framework.run_dir import RunDir

if TYPE_CHECKING:
    from torch import nn

    from framework.engine import Engine
    from framework.model.loss_model import LossModel
    from framework.plugins.lora.classifier import SequenceClassifier
    from framework.plugins.lora.examples import Example
    from framework.train.events import EventLog
    from framework.train.hooks import TensorBoardHook

CLASSES_FILE = "classes.json"


@dataclass(frozen=True)
class Classes:
    """What a classifier answers with: names in order, and for ages the years that each stands for."""

    names: tuple[str, ...]
    ages: tuple[float, ...] | None


class Classification(FineTuning):
    """The recipe of ``task: classification``."""

    unit = "examples"
    loaded_by = "AutoModelForSequenceClassification"

    @cached_property
    def _rows(self) -> tuple[LabelledData, tuple[Fold, ...]]:
        return load_folds(self.options.data)

    @property
    def data(self) -> LabelledData:
        """All rows, training and test."""
        return self._rows[0]

    @property
    def fold(self) -> Fold:
        """Which rows this run trains on, and which it tests.

        Raises:
            ConfigError: there is no such fold.
        """
        folds = self._rows[1]
        if self.options.fold >= len(folds):
            raise ConfigError(
                f"plugins.lora.fold is {self.options.fold}, but there are {len(folds)} folds, numbered from 0",
                fix=f"choose 0 to {len(folds) - 1}, or run them all with `zerostream finetune`",
            )
        return folds[self.options.fold]

    @property
    def data_name(self) -> str:
        return self.options.data.path or "the embedded blurbs"

    @cached_property
    def train_examples(self) -> Sequence[Example]:
        return self._examples(self.fold.train)

    @cached_property
    def test_examples(self) -> Sequence[Example]:
        return self._examples(self.fold.test)

    def _examples(self, rows: npt.NDArray[np.int64]) -> list[Example]:
        return self.make_examples([self.data.texts[row] for row in rows], self.data.labels[rows].tolist())

    def make_examples(
        self, texts: Sequence[str], labels: Sequence[int], tokenizer: Tokenizer | None = None
    ) -> list[Example]:
        """End-of-text and the text; the class is the one target, at the last token.

        Raises:
            SourceError: a text is longer than the model reads, and long texts are errors.
        """
        from framework.data.stream import IGNORED_TARGET
        from framework.plugins.lora.examples import Example

        tokenizer = tokenizer or self.tokenizer
        examples = []
        for text, ids, label in zip(texts, tokenizer.encode_documents(texts), labels, strict=True):
            tokens = np.array(self.cut([tokenizer.end_of_text_id, *ids], text), dtype=np.int64)
            targets = np.full(len(tokens), IGNORED_TARGET, dtype=np.int64)
            targets[-1] = label
            examples.append(Example(tokens, targets))
        return examples

    @property
    def classes(self) -> Classes:
        """Of the rows."""
        return Classes(self.data.classes, self.data.class_ages)

    @property
    def ignorant_loss(self) -> float:
        return math.log(len(self.data.classes)) + self.options.language_model_loss * math.log(self.tokenizer.vocab_size)

    def build_model(self, tokenizer: Tokenizer, used_from: RunDir | None = None) -> SequenceClassifier:
        import torch

        from framework.plugins.lora.classifier import (
            LanguageModelLoss,
            SequenceClassifier,
            build_classifier,
            class_targets,
        )

        options = self.options
        names = self.classes.names if used_from is None else read_classes(used_from).names
        torch.manual_seed(self.config.seed)
        pad_id = tokenizer.end_of_text_id
        base = self.base.load()
        classifier = build_classifier(base, len(names), pad_id)
        targets, language_model = torch.eye(len(names)), None
        if used_from is None:
            if options.language_model_loss > 0:
                language_model = LanguageModelLoss(base, classifier, tokenizer.vocab_size, options.language_model_loss)
            targets = class_targets(
                self.data.labels[self.fold.train].tolist(),
                len(names),
                balanced=options.class_weights == "balanced",
                smoothing=options.ordinal_smoothing,
            )
        return SequenceClassifier(
            self.adapt(classifier, used_from), pad_id, targets, pooling=options.pooling, language_model=language_model
        )

    def whole(self, model: LossModel) -> nn.Module:
        if self.options.pooling != "last":
            raise UserError(
                f"plugins.lora.pooling {self.options.pooling} is nothing that AutoModelForSequenceClassification does: exported, "
                "the model would answer otherwise",
                fix="use `zerostream predict`, or fine-tune with pooling last",
            )
        return super().whole(model)

    def evaluator(self, plan: BatchPlan, engine: Engine) -> ClassEvaluator:
        self._evaluator = ClassEvaluator(self, plan, engine)
        return self._evaluator

    def hooks(self, plan: BatchPlan, engine: Engine, board: TensorBoardHook | None, events: EventLog) -> list[Hook]:
        return [PredictionHook(self, self._evaluator, board)] if engine.world.is_main else []

    def save_for_use(self, run_dir: RunDir) -> None:
        options = self.options
        values = {
            **self.stored(),
            "classes": self.classes.names,
            "class_ages": self.classes.ages,
            "pooling": options.pooling,
            "ensemble_with": options.ensemble_with,
            "ensemble_weight": options.ensemble_weight,
        }
        if options.ensemble_with:
            from framework.plugins.lora.tfidf import fit_tfidf

            rows = self.fold.train
            texts = [self.data.texts[row] for row in rows]
            fit_tfidf(texts, self.data.labels[rows], len(self.classes.names)).save(run_dir.path)
        write_durably(run_dir.path / CLASSES_FILE, (json.dumps(values, indent=1) + "\n").encode())

    def closing_lines(self, validation: Mapping[str, float]) -> list[tuple[str, str]]:
        run_dir = self.config.run_dir
        return [
            (
                "test rows",
                f"accuracy {validation['accuracy']:.3f}, macro-F1 {validation['macro_f1']:.3f}, loss {validation['loss']:.4f}"
                + (" (the model alone)" if self.options.ensemble_with else ""),
            ),
            ("use", f'zerostream predict {run_dir} --text "Once upon a time"'),
            ("watch", f"zerostream board {run_dir}"),
        ]


def read_classes(run_dir: RunDir) -> Classes:
    """What a run that classifies answers with.

    Raises:
        RunDirError: it is no such run.
    """
    try:
        values: dict[str, Any] = json.loads((run_dir.path / CLASSES_FILE).read_text(encoding="utf-8"))
        ages = values["class_ages"]
        return Classes(tuple(values["classes"]), None if ages is None else tuple(ages))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunDirError(
            f"{run_dir.path} is no run that classifies ({CLASSES_FILE}: {error})",
            fix="name a run of `zerostream finetune` with task classification",
        ) from None
