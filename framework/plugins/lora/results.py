"""From the folds' predictions to one honest result: scores beside baselines of the same rows, and what the split leaks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framework.errors import UserError
from framework.plugins.lora.baselines import baseline_probabilities
from framework.plugins.lora.class_evaluation import PREDICTIONS_FILE
from framework.plugins.lora.options import LabelledDataOptions, LoraOptions
from framework.plugins.lora.scores import paired_difference, score
from framework.plugins.lora.splits import Fold, leakage
from framework.plugins.lora.table import LabelledData, load_labelled
from framework.run_dir import RunDir

Floats = npt.NDArray[np.float64]
_STATE_BYTES = ("trained_state_bytes", "full_fine_tuning_state_bytes")  # the second only where something is frozen


def summarise(
    data: LabelledData, folds: Sequence[Fold], runs: Sequence[Path], options: LoraOptions, *, seed: int
) -> dict[str, Any]:
    """``result.json`` of a fine-tuned classifier.

    Every test row is predicted by the model, and by the baselines, that have not seen its fold; scores are over all test rows
    together. Intervals resample groups where the split is by group. An ensemble's scores stand where the model's would, with
    the model's own in ``model_alone``.

    Args:
        data: all rows.
        folds: how they were split.
        runs: the run directory of each fold.
        options: of the plugin.
        seed: of the bootstrap.

    Raises:
        UserError: a run's predictions are missing, or of other rows.
    """
    read = [_read_predictions(run, fold) for run, fold in zip(runs, folds, strict=True)]
    of_runs = [probabilities for probabilities, _ in read]
    rows = np.concatenate([fold.test for fold in folds])
    labels = data.labels[rows]
    groups = [data.groups[row] for row in rows] if options.data.split == "groups" else None
    alone = np.concatenate(of_runs)
    baselines = _baselines(data, folds)
    answer = alone
    if options.ensemble_with:
        companions = np.mean([baselines[name] for name in options.ensemble_with], axis=0)
        answer = options.ensemble_weight * alone + (1 - options.ensemble_weight) * companions

    def scored(probabilities: Floats) -> dict[str, Any]:
        return score(
            labels,
            probabilities,
            classes=data.classes,
            class_ages=data.class_ages,
            ages=None,
            groups=groups,
            seed=seed,
        ).as_dict()

    def compared(probabilities: Floats) -> dict[str, Any]:
        return {
            name: paired_difference(labels, probabilities, each, groups=groups, seed=seed).as_dict()
            for name, each in baselines.items()
        }

    of_ensemble: dict[str, Any] = {}
    if options.ensemble_with:
        of_ensemble = {
            "ensemble": describe_ensemble(options.ensemble_with, options.ensemble_weight),
            "model_alone": {**scored(alone), "differences": compared(alone)},
        }
    results = [json.loads(RunDir(run).result.read_text(encoding="utf-8")) for run in runs]
    return {
        "status": "finished",
        "classes": list(data.classes),
        **scored(answer),
        **of_ensemble,
        "baselines": {name: scored(probabilities) for name, probabilities in baselines.items()},
        "differences": compared(answer),
        "leakage": leakage(data, *folds).as_dict(),
        "train_examples": sum(len(fold.train) for fold in folds) / len(folds),
        "test_examples": len(rows),
        "dropped": dict(data.dropped),
        "truncated_texts": read[0][1],  # every run has all rows
        "trainable_parameters": results[0]["trainable_parameters"],
        "total_parameters": results[0]["parameters"],
        **{key: results[0][key] for key in _STATE_BYTES if key in results[0]},
        "folds": _of_folds(data, folds, answer, alone if options.ensemble_with else None),
        "seconds": sum(result.get("step_seconds_total", 0.0) for result in results),
    }


def score_file(run_dir: Path, file: Path) -> tuple[dict[str, Any], str]:
    """A classifier's scores on a later file of labelled rows, as JSON has them and as a person reads them.

    The columns are those of its training. The baselines are trained on its training table, which must still be there; how much of
    the file stands in that table is part of the result.

    Raises:
        UserError: the run, the file or the training table is missing or does not fit.
    """
    from framework.plugins.lora.prediction import load_classifier, runs_below
    from framework.plugins.lora.report import format_table
    from framework.plugins.registry import active_plugins
    from framework.train.preflight import read_run_config

    config = read_run_config(runs_below(run_dir)[0])
    of_plugin = next(active.options for active in active_plugins(config) if active.plugin.name == "lora")
    options: LabelledDataOptions = of_plugin.data
    classifier = load_classifier(run_dir)
    later = load_labelled(options, file, classes=classifier.classes)
    trained = load_labelled(options, classes=classifier.classes)
    both = replace(
        later,
        texts=trained.texts + later.texts,
        labels=np.concatenate([trained.labels, later.labels]),
        groups=trained.groups + later.groups,
    )
    fold = Fold(np.arange(len(trained)), np.arange(len(trained), len(both)))
    probabilities = {
        "answer": classifier.probabilities(later.texts),
        **({"alone": classifier.probabilities(later.texts, alone=True)} if classifier.is_ensemble else {}),
        **baseline_probabilities(trained.texts, trained.labels, later.texts, later.classes),
    }
    scores = {
        name: score(
            later.labels,
            each,
            classes=later.classes,
            class_ages=classifier.class_ages,
            ages=None,
            groups=later.groups if options.split == "groups" else None,
            seed=config.seed,
        ).as_dict()
        for name, each in probabilities.items()
    }
    of_ensemble: dict[str, Any] = {}
    if classifier.is_ensemble:
        ensemble = describe_ensemble(of_plugin.ensemble_with, of_plugin.ensemble_weight)
        of_ensemble = {"ensemble": ensemble, "model_alone": scores.pop("alone")}
    result = {
        "classes": list(later.classes),
        **scores.pop("answer"),
        **of_ensemble,
        "baselines": scores,
        "leakage": leakage(both, fold).as_dict(),
        "train_examples": len(trained),
        "test_examples": len(later),
        "dropped": dict(later.dropped),
        "truncated_texts": sum(classifier.are_long(later.texts)),
    }
    return result, format_table(result)


def describe_ensemble(companions: Sequence[str], weight: float) -> dict[str, Any]:
    """What answered together with the model, and how much of the answer is the model's own."""
    return {"with": list(companions), "model_weight": weight}


def _of_folds(
    data: LabelledData, folds: Sequence[Fold], answer: Floats, alone: Floats | None
) -> list[dict[str, float]]:
    result = []
    first = 0
    for fold in folds:
        rows, labels = slice(first, first := first + len(fold.test)), data.labels[fold.test]
        scores: dict[str, float] = {"accuracy": float((answer[rows].argmax(axis=1) == labels).mean())}
        if alone is not None:
            scores["model_alone_accuracy"] = float((alone[rows].argmax(axis=1) == labels).mean())
        result.append({**scores, "test_examples": len(labels)})
    return result


def _baselines(data: LabelledData, folds: Sequence[Fold]) -> dict[str, Floats]:
    of_folds = [
        baseline_probabilities(
            [data.texts[row] for row in fold.train],
            data.labels[fold.train],
            [data.texts[row] for row in fold.test],
            data.classes,
        )
        for fold in folds
    ]
    return {name: np.concatenate([each[name] for each in of_folds]) for name in of_folds[0]}


def _read_predictions(run: Path, fold: Fold) -> tuple[Floats, int | None]:
    """Of a run's test rows, and how many texts lost their end; None where that was not written down."""
    path = run / PREDICTIONS_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        probabilities = np.array(values["probabilities"], dtype=np.float64)
        rows, truncated = values["rows"], values.get("truncated_texts")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read: {error}", fix="remove that run and start `zerostream finetune` again"
        ) from None
    if rows != fold.test.tolist():
        raise UserError(
            f"{path} predicts other rows than the fold has", fix="remove that run and start `zerostream finetune` again"
        )
    return probabilities, truncated
