"""How good a classifier is on labelled examples, and how sure these let one be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framework.errors import NonFiniteError, UserError
from framework.plugins.lora.bootstrap import Floats, Interval, draw_sums, interval_95
from framework.plugins.lora.calibration import ReliabilityBin, expected_calibration_error, reliability_bins

Integers = npt.NDArray[np.int64]

_LEAST_PROBABILITY = float(np.finfo(np.float64).eps)  # as in scikit-learn's log_loss: JSON has no word for infinity


@dataclass(frozen=True)
class ClassScore:
    """One class against the rest; 0 where a ratio has nothing to divide by. ``support`` is the class's rows."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """What ``score`` found. Intervals are (low, high), and None where one group alone was tested: it shows no spread."""

    examples: int
    accuracy: float
    accuracy_ci95: Interval | None
    macro_f1: float
    macro_f1_ci95: Interval | None
    mean_absolute_error_years: float | None
    mean_absolute_error_years_ci95: Interval | None
    log_loss: float
    expected_calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    per_class: dict[str, ClassScore]
    confusion: tuple[tuple[int, ...], ...]
    """Counts: the row is the true class, the column the predicted one, both in the order of ``per_class``."""
    bootstrap_groups: int | None
    """How many groups the intervals draw from; None: they draw rows."""

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return _as_json(self)


@dataclass(frozen=True)
class PairedDifference:
    """Scores of a minus scores of b on the same rows; a is better beyond doubt where the whole interval is above 0."""

    examples: int
    accuracy_difference: float
    accuracy_difference_ci95: Interval | None
    macro_f1_difference: float
    macro_f1_difference_ci95: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return _as_json(self)


def score(
    labels: Integers,
    probabilities: Floats,
    *,
    classes: Sequence[str],
    class_ages: Sequence[float] | None,
    ages: Floats | None,
    groups: Sequence[str] | None,
    bootstrap_samples: int = 2000,
    seed: int = 0,
) -> Scores:
    """Scores predicted probabilities against the truth; the predicted class is the likeliest, of equals the first.

    Macro-F1 is the plain mean over the classes that occur, as label or as prediction, as scikit-learn has it: a class that
    was neither there nor named has no F1. The error in years is between the ages of the predicted class and of the true
    one, or the example's own age where ``ages`` are given. What intervals say and how they are drawn: ``bootstrap``.

    Args:
        labels: [examples] int64, places in ``classes``.
        probabilities: [examples, classes] float64; every row sums to 1.
        class_ages: [classes] in years; None when the classes are no ages, and then no error in years is given.
        ages: [examples] float64, each example's own age in years; needs ``class_ages``.
        groups: [examples]; what the intervals draw. None: rows.
        seed: of the bootstrap; equal arguments give equal intervals.

    Raises:
        UserError: there is no example.
        NonFiniteError: a probability is NaN or infinite.
        ValueError: shapes disagree, a class stands twice, a label is no class, a row is no distribution, or an age is NaN.
    """
    _check(labels, probabilities, len(set(classes)), groups)
    predictions = probabilities.argmax(axis=1)
    errors = _errors_in_years(labels, predictions, class_ages, ages)
    sums = _sums(labels, predictions, len(classes), errors)
    whole, draws = sums.sum(axis=0), draw_sums(sums, groups, samples=bootstrap_samples, seed=seed)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    bins = reliability_bins(probabilities.max(axis=1), predictions == labels)
    likelihoods = np.clip(probabilities[np.arange(len(labels)), labels], _LEAST_PROBABILITY, 1)
    return Scores(
        examples=len(labels),
        accuracy=float(_accuracy(whole)),
        accuracy_ci95=interval_95(_accuracy(draws)),
        macro_f1=float(_macro_f1(whole)),
        macro_f1_ci95=interval_95(_macro_f1(draws)),
        mean_absolute_error_years=None if errors is None else float(_mean_error(whole)),
        mean_absolute_error_years_ci95=None if errors is None else interval_95(_mean_error(draws)),
        log_loss=float(-np.log(likelihoods).mean()),
        expected_calibration_error=expected_calibration_error(bins),
        reliability=bins,
        per_class=dict(zip(classes, _per_class(confusion), strict=True)),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        bootstrap_groups=None if groups is None else len(set(groups)),
    )


def paired_difference(
    labels: Integers,
    probabilities_a: Floats,
    probabilities_b: Floats,
    *,
    groups: Sequence[str] | None,
    bootstrap_samples: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Whether a is better than b, both on the same rows: each draw scores both, so that what is hard for both cancels.

    Two intervals that overlap do not show that two classifiers are equal; the interval of their difference does what
    such a look is meant to do. Arguments and errors are those of ``score``.
    """
    classes = probabilities_a.shape[-1]
    _check(labels, probabilities_a, classes, groups)
    _check(labels, probabilities_b, classes, groups)
    sums = [_sums(labels, each.argmax(axis=1), classes, None) for each in (probabilities_a, probabilities_b)]
    width = sums[0].shape[1]
    both = np.concatenate(sums, axis=1)
    whole, draws = both.sum(axis=0), draw_sums(both, groups, samples=bootstrap_samples, seed=seed)
    return PairedDifference(
        examples=len(labels),
        accuracy_difference=float(_accuracy(whole[:width]) - _accuracy(whole[width:])),
        accuracy_difference_ci95=interval_95(_accuracy(draws[:, :width]) - _accuracy(draws[:, width:])),
        macro_f1_difference=float(_macro_f1(whole[:width]) - _macro_f1(whole[width:])),
        macro_f1_difference_ci95=interval_95(_macro_f1(draws[:, :width]) - _macro_f1(draws[:, width:])),
    )


def _as_json(scores: Scores | PairedDifference) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(asdict(scores), allow_nan=False))  # tuples become lists
    return values


def _check(labels: Integers, probabilities: Floats, classes: int, groups: Sequence[str] | None) -> None:
    if len(labels) == 0:
        raise UserError("there is no example to score", fix="give a test set with at least one labelled row")
    if probabilities.shape != (len(labels), classes) or (groups is not None and len(groups) != len(labels)):
        raise ValueError(
            f"{len(labels)} labels of {classes} classes do not fit probabilities of shape {probabilities.shape}"
            + ("" if groups is None else f" and {len(groups)} groups")
        )
    if not np.isfinite(probabilities).all():
        rows = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
        raise NonFiniteError(
            f"the predicted probabilities of {len(rows)} of {len(labels)} examples are not finite, first of row {rows[0]}",
            fix="look for the step at which the loss went wrong, lower the learning rate, or train in bf16 or fp32",
        )
    if ((labels < 0) | (labels >= classes)).any():
        raise ValueError(f"labels go from {labels.min()} to {labels.max()}, and there are {classes} classes from 0")
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise ValueError("a row of probabilities is no distribution: they must not be negative, and sum to 1")


def _errors_in_years(
    labels: Integers, predictions: Integers, class_ages: Sequence[float] | None, ages: Floats | None
) -> Floats | None:
    if class_ages is None:
        if ages is not None:
            raise ValueError("ages are given, and no class_ages to compare them with")
        return None
    years = np.asarray(class_ages, dtype=np.float64)
    truth = years[labels] if ages is None else ages
    errors: Floats = np.abs(years[predictions] - truth)
    if truth.shape != labels.shape or not np.isfinite(errors).all():
        raise ValueError("an age is missing or not finite")
    return errors


def _sums(labels: Integers, predictions: Integers, classes: int, errors: Floats | None) -> Floats:
    """[examples, 3 x classes + 1]: one row's hits, labels and predictions by class, then its error in years."""
    label, prediction = np.eye(classes)[labels], np.eye(classes)[predictions]
    years = np.zeros(len(labels)) if errors is None else errors
    return np.column_stack([label * prediction, label, prediction, years])


def _accuracy(sums: Floats) -> Floats:
    hits, label, _ = _by_class(sums)
    accuracy: Floats = hits.sum(axis=-1) / label.sum(axis=-1)
    return accuracy


def _macro_f1(sums: Floats) -> Floats:
    hits, label, prediction = _by_class(sums)
    occurs = label + prediction > 0
    f1 = np.divide(2 * hits, label + prediction, out=np.zeros_like(hits), where=occurs)
    mean: Floats = f1.sum(axis=-1) / occurs.sum(axis=-1)
    return mean


def _mean_error(sums: Floats) -> Floats:
    _, label, _ = _by_class(sums)
    mean: Floats = sums[..., -1] / label.sum(axis=-1)
    return mean


def _by_class(sums: Floats) -> tuple[Floats, Floats, Floats]:
    hits, label, prediction = np.split(sums[..., :-1], 3, axis=-1)
    return hits, label, prediction


def _per_class(confusion: Integers) -> list[ClassScore]:
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    ratios = [
        np.divide(top, bottom, out=np.zeros(len(hits)), where=bottom > 0)
        for top, bottom in ((hits, predicted), (hits, support), (2 * hits, predicted + support))
    ]
    return [
        ClassScore(float(precision), float(recall), float(f1), int(rows))
        for precision, recall, f1, rows in zip(*ratios, support, strict=True)
    ]
