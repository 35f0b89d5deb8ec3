from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from framework.errors import NonFiniteError, UserError
from framework.plugins.lora.bootstrap import draw_sums, interval_95
from framework.plugins.lora.calibration import BINS, expected_calibration_error, reliability_bins
from framework.plugins.lora.scores import Floats, Integers, Scores, paired_difference, score

AGES = ("0-2", "3-5", "6-8", "9+")
CLASS_AGES = (0.0, 3.0, 6.0, 9.0)


def predictions_of(seed: int, examples: int, classes: int, skill: float = 0.5) -> tuple[Integers, Floats]:
    """Labels, and probabilities that lean towards them with ``skill``."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, examples)
    leaning = skill * np.eye(classes)[labels] + 3 * generator.dirichlet(np.ones(classes), examples)
    return labels, leaning / leaning.sum(axis=1, keepdims=True)


def scored(labels: Integers, probabilities: Floats, **settings: Any) -> Scores:
    names = [f"class {i}" for i in range(probabilities.shape[1])]
    return score(
        labels,
        probabilities,
        **{"classes": names, "class_ages": None, "ages": None, "groups": None, "bootstrap_samples": 200, **settings},
    )


# --- The same numbers as scikit-learn ---


@given(seed=st.integers(0, 2**32), examples=st.integers(1, 60), classes=st.integers(2, 6))
def test_all_point_scores_agree_with_scikit_learn(seed: int, examples: int, classes: int) -> None:
    labels, probabilities = predictions_of(seed, examples, classes)
    predictions, places = probabilities.argmax(axis=1), list(range(classes))
    found = scored(labels, probabilities)
    assert found.examples == examples
    assert found.accuracy == pytest.approx(accuracy_score(labels, predictions))
    assert found.macro_f1 == pytest.approx(f1_score(labels, predictions, average="macro"))
    assert found.log_loss == pytest.approx(log_loss(labels, probabilities, labels=places))
    assert np.array_equal(found.confusion, confusion_matrix(labels, predictions, labels=places))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predictions, labels=places, zero_division=0
    )
    for i, each in enumerate(found.per_class.values()):
        assert (each.precision, each.recall, each.f1) == pytest.approx((precision[i], recall[i], f1[i]))
        assert each.support == support[i]


def test_a_certain_mistake_costs_a_finite_loss_as_in_scikit_learn() -> None:
    labels, probabilities = np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])
    assert scored(labels, probabilities).log_loss == pytest.approx(log_loss(labels, probabilities))


# --- Years ---


def test_the_error_in_years_is_between_the_ages_of_the_classes() -> None:
    labels, probabilities = np.array([0, 1, 3]), np.eye(4)[[0, 3, 0]]
    found = scored(labels, probabilities, classes=AGES, class_ages=CLASS_AGES)
    assert found.mean_absolute_error_years == pytest.approx((0 + 6 + 9) / 3)


def test_an_examples_own_age_is_nearer_the_truth_than_its_class() -> None:
    labels, probabilities = np.array([0, 1]), np.eye(4)[[0, 3]]
    found = scored(labels, probabilities, classes=AGES, class_ages=CLASS_AGES, ages=np.array([0.5, 5.0]))
    assert found.mean_absolute_error_years == pytest.approx((0.5 + 4) / 2)
    low, high = found.mean_absolute_error_years_ci95 or (math.nan, math.nan)
    assert (low, high) == (0.5, 4.0)


def test_classes_that_are_no_ages_have_no_error_in_years() -> None:
    found = scored(*predictions_of(0, 20, 3))
    assert (found.mean_absolute_error_years, found.mean_absolute_error_years_ci95) == (None, None)


# --- Calibration ---


@given(seed=st.integers(0, 2**32), examples=st.integers(1, 200))
def test_the_calibration_error_is_the_papers_sum_over_bins(seed: int, examples: int) -> None:
    generator = np.random.default_rng(seed)
    confidences = generator.choice([generator.random(examples), generator.integers(1, 16, examples) / 15])
    is_right = generator.random(examples) < 0.5
    expected = 0.0
    for place in range(1, BINS + 1):
        inside = (confidences > (place - 1) / BINS) & (confidences <= place / BINS)
        if inside.any():
            expected += inside.mean() * abs(confidences[inside].mean() - is_right[inside].mean())
    bins = reliability_bins(confidences[confidences > 0], is_right[confidences > 0])
    assert len(bins) == BINS
    assert expected_calibration_error(bins) == pytest.approx(expected)


def test_sure_and_always_right_is_perfect_and_sure_and_always_wrong_is_worst() -> None:
    labels = np.array([0, 1, 2])
    assert scored(labels, np.eye(3)[labels]).expected_calibration_error == 0
    assert scored(labels, np.eye(3)[(labels + 1) % 3]).expected_calibration_error == 1


def test_bins_without_predictions_are_empty_rather_than_zero() -> None:
    bins = scored(np.array([0]), np.array([[0.9, 0.1]])).as_dict()["reliability"]
    assert [each["count"] for each in bins] == [0] * 13 + [1, 0]
    assert bins[0] == {"confidence": None, "accuracy": None, "count": 0}
    assert bins[13] == {"confidence": pytest.approx(0.9), "accuracy": 1.0, "count": 1}


# --- Intervals ---


@given(seed=st.integers(0, 2**32), examples=st.integers(2, 60), classes=st.integers(2, 5))
def test_intervals_are_ordered_and_inside_what_is_possible(seed: int, examples: int, classes: int) -> None:
    labels, probabilities = predictions_of(seed, examples, classes)
    found = scored(labels, probabilities, class_ages=range(classes), seed=seed)
    for interval, most in (
        (found.accuracy_ci95, 1),
        (found.macro_f1_ci95, 1),
        (found.mean_absolute_error_years_ci95, classes - 1),
    ):
        assert interval is not None
        assert 0 <= interval[0] <= interval[1] <= most


def test_the_interval_of_accuracy_is_as_wide_as_the_normal_theory_says() -> None:
    labels = np.repeat(0, 1000)
    probabilities = np.eye(2)[(np.arange(1000) % 10 < 3).astype(int)]
    low, high = scored(labels, probabilities, bootstrap_samples=20_000).accuracy_ci95 or (0.0, 0.0)
    deviation = math.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(0.7 - 1.96 * deviation, abs=0.002)
    assert high == pytest.approx(0.7 + 1.96 * deviation, abs=0.002)


def test_drawn_macro_f1_has_the_distribution_of_rows_drawn_one_by_one() -> None:
    labels, probabilities = predictions_of(3, 80, 4)
    found = scored(labels, probabilities, bootstrap_samples=4000).macro_f1_ci95 or (0.0, 0.0)
    rows = np.random.default_rng(1).integers(0, 80, (4000, 80))
    label, prediction = (
        labels[rows][..., None] == np.arange(4),
        probabilities.argmax(axis=1)[rows][..., None] == np.arange(4),
    )
    f1 = 2 * (label & prediction).sum(axis=1) / (label.sum(axis=1) + prediction.sum(axis=1))
    assert found == pytest.approx(tuple(np.quantile(f1.mean(axis=1), [0.025, 0.975])), abs=0.015)


@given(seed=st.integers(0, 2**32), copies=st.integers(2, 5))
def test_copies_of_a_row_in_its_group_make_no_one_surer(seed: int, copies: int) -> None:
    labels, probabilities = predictions_of(seed, 30, 3)
    once = scored(labels, probabilities, class_ages=(1, 2, 3))
    groups = [f"book {row}" for row in range(30)] * copies
    copied = scored(np.tile(labels, copies), np.tile(probabilities, (copies, 1)), class_ages=(1, 2, 3), groups=groups)
    assert copied.accuracy_ci95 == pytest.approx(once.accuracy_ci95)
    assert copied.macro_f1_ci95 == pytest.approx(once.macro_f1_ci95)
    assert copied.mean_absolute_error_years_ci95 == pytest.approx(once.mean_absolute_error_years_ci95)
    assert copied.bootstrap_groups == 30


def test_without_groups_the_copies_would_have_made_the_interval_too_narrow() -> None:
    labels, probabilities = predictions_of(0, 50, 2)
    labels, probabilities = np.tile(labels, 9), np.tile(probabilities, (9, 1))
    grouped = scored(labels, probabilities, groups=[str(row) for row in range(50)] * 9, bootstrap_samples=4000)
    rows = scored(labels, probabilities, bootstrap_samples=4000)
    wide, narrow = (high - low for low, high in (grouped.accuracy_ci95 or (0, 0), rows.accuracy_ci95 or (0, 0)))
    assert wide / narrow == pytest.approx(3, rel=0.1)


def test_groups_of_different_size_are_drawn_whole() -> None:
    draws = draw_sums(np.array([[1.0], [1.0], [1.0], [5.0]]), ["a", "a", "a", "b"], samples=500, seed=0)
    assert {float(total) for total in draws[:, 0]} == {6.0, 8.0, 10.0}


def test_drawing_in_parts_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = np.random.default_rng(0).random((40, 3))
    whole = draw_sums(sums, None, samples=100, seed=5)
    monkeypatch.setattr("framework.plugins.lora.bootstrap._DRAWN_AT_ONCE", 7 * 40)
    assert np.allclose(draw_sums(sums, None, samples=100, seed=5), whole)


def test_one_group_alone_has_no_interval() -> None:
    labels, probabilities = predictions_of(0, 10, 2)
    found = scored(labels, probabilities, groups=["the same book"] * 10).as_dict()
    assert (found["accuracy_ci95"], found["macro_f1_ci95"]) == (None, None)
    assert interval_95(np.empty(0)) is None


def test_the_seed_decides_the_interval_and_nothing_else() -> None:
    labels, probabilities = predictions_of(0, 100, 4)
    first, again, other = (scored(labels, probabilities, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.accuracy == other.accuracy
    assert first.macro_f1_ci95 != other.macro_f1_ci95


def test_two_thousand_draws_of_a_small_test_set_take_less_than_a_second() -> None:
    labels, probabilities = predictions_of(0, 430, 4)
    began = time.process_time()
    scored(labels, probabilities, groups=[str(row % 391) for row in range(430)], bootstrap_samples=2000)
    assert time.process_time() - began < 1


# --- Edges ---


def test_a_class_without_examples_lowers_macro_f1_only_when_it_is_named() -> None:
    labels = np.array([0, 0, 1, 1])
    silent = scored(labels, np.eye(3)[[0, 0, 1, 1]])
    assert (silent.macro_f1, silent.per_class["class 2"].support) == (1.0, 0)
    named = scored(labels, np.eye(3)[[0, 0, 1, 2]])
    assert named.macro_f1 == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_a_single_example() -> None:
    found = scored(np.array([1]), np.array([[0.2, 0.8]]), class_ages=(3, 6)).as_dict()
    assert (found["accuracy"], found["macro_f1"], found["mean_absolute_error_years"]) == (1, 1, 0)
    assert found["accuracy_ci95"] is None
    assert found["confusion"] == [[0, 0], [0, 1]]


def test_of_equally_likely_classes_the_first_is_predicted() -> None:
    assert scored(np.array([0, 2]), np.array([[0.5, 0.5, 0.0], [0.2, 0.4, 0.4]])).confusion == (
        (1, 0, 0),
        (0, 0, 0),
        (0, 1, 0),
    )


def test_the_scores_survive_json_unchanged() -> None:
    found = scored(*predictions_of(0, 20, 4), classes=AGES, class_ages=CLASS_AGES).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found["per_class"]) == list(AGES)
    assert set(found["per_class"]["9+"]) == {"precision", "recall", "f1", "support"}
    assert {
        "examples", "accuracy", "accuracy_ci95", "macro_f1", "macro_f1_ci95", "mean_absolute_error_years",
        "mean_absolute_error_years_ci95", "per_class", "confusion", "expected_calibration_error", "reliability", "log_loss",
    } <= set(found)  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_probabilities_that_are_not_finite_are_refused_with_their_row(value: float) -> None:
    labels, probabilities = predictions_of(0, 5, 2)
    probabilities[3, 0] = value
    with pytest.raises(NonFiniteError, match="1 of 5 examples are not finite, first of row 3"):
        scored(labels, probabilities)


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(UserError, match="no example"):
        scored(np.empty(0, dtype=np.int64), np.empty((0, 2)))


@pytest.mark.parametrize(
    ("labels", "probabilities", "settings", "message"),
    [
        ([0, 2], [[1, 0], [0, 1]], {}, "labels go from 0 to 2, and there are 2 classes"),
        ([0, -1], [[1, 0], [0, 1]], {}, "labels go from -1 to 0"),
        ([0, 1], [[1, 0, 0], [0, 1, 0]], {"classes": ["a", "b"]}, "do not fit"),
        ([0, 1], [[1, 0], [0, 1]], {"classes": ["a", "a"]}, "do not fit"),
        ([0, 1], [[1, 0], [0, 1]], {"groups": ["a"]}, "and 1 groups"),
        ([0, 1], [[0.5, 0.6], [0, 1]], {}, "no distribution"),
        ([0, 1], [[1.5, -0.5], [0, 1]], {}, "no distribution"),
        ([0, 1], [[1, 0], [0, 1]], {"class_ages": (3, 6), "ages": np.array([3, math.nan])}, "an age is missing"),
        ([0, 1], [[1, 0], [0, 1]], {"class_ages": (3, 6), "ages": np.array([3.0])}, "an age is missing"),
        ([0, 1], [[1, 0], [0, 1]], {"ages": np.array([3.0, 4.0])}, "no class_ages"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    labels: list[int], probabilities: list[list[float]], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scored(np.array(labels), np.array(probabilities, dtype=np.float64), **settings)


# --- One against another ---


def test_what_is_hard_for_both_cancels_in_their_difference() -> None:
    labels, better = predictions_of(0, 400, 4, skill=1.2)
    worse = better.copy()
    worse[:12] = np.eye(4)[(labels[:12] + 1) % 4]
    found = paired_difference(labels, better, worse, groups=None)
    assert found.accuracy_difference == pytest.approx(scored(labels, better).accuracy - scored(labels, worse).accuracy)
    assert found.macro_f1_difference == pytest.approx(scored(labels, better).macro_f1 - scored(labels, worse).macro_f1)
    low, high = found.accuracy_difference_ci95 or (0.0, 0.0)
    assert 0 < low < found.accuracy_difference < high
    alone = [scored(labels, each).accuracy_ci95 or (0.0, 0.0) for each in (better, worse)]
    assert alone[0][0] < alone[1][1]  # each interval by itself would have left the question open


@given(seed=st.integers(0, 2**32))
def test_the_difference_changes_sign_with_the_order_and_is_nothing_to_itself(seed: int) -> None:
    labels, a = predictions_of(seed, 40, 3)
    _, b = predictions_of(seed + 1, 40, 3)
    forth, back = (paired_difference(labels, *pair, groups=None, bootstrap_samples=100) for pair in ((a, b), (b, a)))
    assert forth.accuracy_difference == -back.accuracy_difference
    same = paired_difference(labels, a, a, groups=None, bootstrap_samples=100)
    assert (same.accuracy_difference, same.accuracy_difference_ci95) == (0, (0, 0))
    assert same.macro_f1_difference_ci95 == (0, 0)


def test_a_difference_of_grouped_rows_is_less_certain() -> None:
    labels, a = predictions_of(0, 40, 3, skill=3.0)
    _, b = predictions_of(1, 40, 3)
    labels, a, b = np.tile(labels, 4), np.tile(a, (4, 1)), np.tile(b, (4, 1))
    groups = [str(row) for row in range(40)] * 4
    (low, high), (left, right) = (
        paired_difference(labels, a, b, groups=each).accuracy_difference_ci95 or (0.0, 0.0) for each in (groups, None)
    )
    assert (high - low) / (right - left) == pytest.approx(2, rel=0.15)


def test_a_paired_difference_as_json() -> None:
    labels, probabilities = predictions_of(0, 3, 2)
    assert paired_difference(labels, probabilities, probabilities, groups=["a"] * 3).as_dict() == {
        "examples": 3,
        "accuracy_difference": 0.0,
        "accuracy_difference_ci95": None,
        "macro_f1_difference": 0.0,
        "macro_f1_difference_ci95": None,
    }
