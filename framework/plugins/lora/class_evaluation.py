"""What a classifier says of its test rows while it trains: scores at each evaluation, and what is left for the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from framework.config import BatchPlan
from framework.durable import write_durably
from framework.plugins.interface import StepRecord
from framework.plugins.lora.bootstrap import Floats

if TYPE_CHECKING:
    from framework.engine import Engine
    from framework.plugins.lora.classification import Classification
    from framework.train.hooks import TensorBoardHook

PREDICTIONS_FILE = "predictions.json"


class ClassEvaluator:
    """Scores the test rows of a fold. All ranks call every method together."""

    def __init__(self, recipe: Classification, plan: BatchPlan, engine: Engine) -> None:
        self._recipe = recipe
        self._plan = plan
        self._engine = engine
        self.last: Floats | None = None
        """[test rows, classes]: the probabilities of the last evaluation, on every rank."""

    def _probabilities(self) -> Floats:
        import torch

        from framework.plugins.lora.classifier import SequenceClassifier
        from framework.plugins.lora.examples import evaluation_batches

        recipe, world, model = self._recipe, self._engine.world, self._engine.model
        assert isinstance(model, SequenceClassifier)
        model.eval()
        mine: list[tuple[int, list[float]]] = []
        for numbers, batch in evaluation_batches(
            recipe.test_examples, self._plan, world.rank, recipe.tokenizer.end_of_text_id
        ):
            with torch.no_grad():
                rows = model.log_probs(batch.input_ids.to(world.device)).double().exp().cpu()
            mine += zip(numbers, rows.tolist(), strict=False)  # what is behind the last number is padding
        result = np.zeros((len(recipe.test_examples), len(recipe.classes.names)))
        for of_rank in world.together(lambda: mine):
            for number, row in of_rank:
                result[number] = row
        total: Floats = result.sum(axis=1, keepdims=True)
        return np.divide(result, total)

    def evaluate(self, step: int) -> dict[str, float]:
        """``loss`` (nats per example), ``accuracy`` and ``macro_f1`` on the test rows."""
        from sklearn.metrics import f1_score

        probabilities = self.last = self._probabilities()
        labels = self._recipe.data.labels[self._recipe.fold.test]
        predicted = probabilities.argmax(axis=1)
        likelihood = probabilities[np.arange(len(labels)), labels]
        return {
            "loss": float(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean()),
            "accuracy": float((predicted == labels).mean()),
            "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        }


class PredictionHook:
    """Leaves the last step's probabilities of the test rows in ``predictions.json``, and the confusion in TensorBoard. On rank
    0 alone."""

    def __init__(self, recipe: Classification, evaluator: ClassEvaluator, board: TensorBoardHook | None) -> None:
        self._recipe = recipe
        self._evaluator = evaluator
        self._board = board

    def on_start(self, step: int) -> None: ...

    def on_step(self, record: StepRecord) -> None: ...

    def on_evaluate(self, step: int, metrics: Mapping[str, float]) -> None:
        recipe, probabilities = self._recipe, self._evaluator.last
        assert probabilities is not None
        labels = recipe.data.labels[recipe.fold.test]
        if step == recipe.config.train.max_steps:
            values = {
                "step": step,
                "truncated_texts": recipe.truncated_texts,
                "rows": recipe.fold.test.tolist(),
                "labels": labels.tolist(),
                "probabilities": probabilities.tolist(),
            }
            write_durably(recipe.config.run_dir / PREDICTIONS_FILE, json.dumps(values).encode())
        if self._board is not None:
            from sklearn.metrics import confusion_matrix

            from framework.plugins.lora.plots import draw_confusion, figure_to_image

            names = recipe.classes.names
            counts = confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(len(names)))
            picture = draw_confusion({"confusion": counts, "classes": names})
            self._board.show_image(step, "confusion", figure_to_image(picture))

    def on_finish(self, step: int) -> None: ...
