"""How much faster one side is than another, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

_SAMPLES = 10_000

Verdict = Literal["faster", "slower", "noise"]


@dataclass(frozen=True)
class Ratio:
    """A ratio and its interval from a bootstrap (Efron and Tibshirani 1993, chapter 13)."""

    median: float
    low: float
    high: float
    confidence: float

    def as_json(self) -> dict[str, Any]:
        return {key: round(value, 4) for key, value in asdict(self).items()}

    def verdict(self, smallest_effect: float) -> Verdict:
        """Of B's speed over A's: ``noise`` where the interval holds 1, or the effect is too small to tell two starts apart."""
        if self.low <= 1 <= self.high or abs(np.log(self.median)) < np.log1p(smallest_effect):
            return "noise"
        return "faster" if self.median > 1 else "slower"

    def __str__(self) -> str:
        return f"{self.median:.3f}x [{self.low:.3f}, {self.high:.3f}]"


def unpaired_ratio(numerators: Sequence[float], denominators: Sequence[float], confidence: float = 0.95) -> Ratio:
    """The ratio of the medians of two sides that were measured apart; each is drawn anew by itself."""
    generator = np.random.default_rng(0)
    above, below = (
        np.median(generator.choice(np.array(values, dtype=float), size=(_SAMPLES, len(values))), axis=1)
        for values in (numerators, denominators)
    )
    return _ratio_of(float(np.median(numerators) / np.median(denominators)), above / below, confidence)


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float], confidence: float = 0.95) -> Ratio:
    """The ratio of two sides that were measured in turns, pair by pair.

    Args:
        numerators: of one side, one number a turn.
        denominators: of the other, in the same turns.
        confidence: of the interval.
    """
    ratios = np.array(numerators, dtype=float) / np.array(denominators, dtype=float)
    draws = np.random.default_rng(0).choice(ratios, size=(_SAMPLES, len(ratios)))
    return _ratio_of(float(np.median(ratios)), np.median(draws, axis=1), confidence)


def _ratio_of(median: float, draws: npt.NDArray[np.float64], confidence: float) -> Ratio:
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Ratio(median, float(low), float(high), confidence)
