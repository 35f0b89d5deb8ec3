"""What a comparison concludes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.ratios import Ratio, paired_ratio, unpaired_ratio


def noisy(center: float, count: int, seed: int, spread: float = 0.02) -> list[float]:
    return list(center * np.exp(np.random.default_rng(seed).normal(0, spread, count)))


def test_pairs_cancel_what_both_sides_met() -> None:
    """A machine that slows down by half in the middle says nothing about the ratio."""
    machine = np.array([1.0] * 6 + [0.5] * 6)
    ratio = paired_ratio(machine * np.array(noisy(1.1, 12, 1)), machine * np.array(noisy(1.0, 12, 2)))
    assert ratio.median == pytest.approx(1.1, rel=0.03)
    assert ratio.low > 1.05


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(200):
        ratio = paired_ratio(noisy(1.0, 15, 2 * seed), noisy(1.0, 15, 2 * seed + 1))
        hits += ratio.low <= 1 <= ratio.high
    assert hits >= 180


def test_sides_measured_apart_have_a_wider_interval() -> None:
    machine = np.linspace(0.5, 1.5, 20)
    sides = machine * np.array(noisy(1.0, 20, 3)), machine * np.array(noisy(1.0, 20, 4))
    paired, unpaired = paired_ratio(*sides), unpaired_ratio(*sides)
    assert unpaired.high - unpaired.low > 3 * (paired.high - paired.low)


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (Ratio(0.95, 0.94, 0.96, 0.99), "slower"),
        (Ratio(1.05, 1.04, 1.06, 0.99), "faster"),
        (Ratio(0.95, 0.89, 1.01, 0.99), "noise"),  # it may as well be none
        (Ratio(0.99, 0.985, 0.995, 0.99), "noise"),  # too small to tell two starts apart
    ],
)
def test_verdicts(ratio: Ratio, verdict: str) -> None:
    assert ratio.verdict(0.025) == verdict
