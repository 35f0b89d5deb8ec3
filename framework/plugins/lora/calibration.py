"""Whether a classifier is right as often as it is sure (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 15
"""As in the paper: of equal width, (low, high] in the confidence, which is the probability of the predicted class."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of about equal confidence; mean confidence and accuracy are None where there is none."""

    confidence: float | None
    accuracy: float | None
    count: int


def reliability_bins(
    confidences: npt.NDArray[np.float64], is_right: npt.NDArray[np.bool_]
) -> tuple[ReliabilityBin, ...]:
    """All ``BINS`` bins in ascending order; both arguments are [examples]."""
    inner_edges = np.arange(1, BINS) / BINS
    places = np.searchsorted(inner_edges, confidences, side="left")  # a confidence on an edge falls below it
    counts = np.bincount(places, minlength=BINS)
    confidence = np.bincount(places, confidences, minlength=BINS)
    right = np.bincount(places, is_right, minlength=BINS)
    return tuple(
        ReliabilityBin(float(confidence[i] / counts[i]), float(right[i] / counts[i]), int(counts[i]))
        if counts[i]
        else ReliabilityBin(None, None, 0)
        for i in range(BINS)
    )


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """The mean gap between confidence and accuracy, weighted by the examples of each bin; 0 is best."""
    gaps = [
        abs(each.confidence - each.accuracy) * each.count
        for each in bins
        if each.confidence is not None and each.accuracy is not None
    ]
    return sum(gaps) / sum(each.count for each in bins)
