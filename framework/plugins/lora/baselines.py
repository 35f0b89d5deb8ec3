"""What a classifier has to beat: three that need no language model, trained and tested on the same rows as it.

``majority`` knows the labels' shares alone. ``look_up`` knows the training texts by heart and nothing else: whatever it
scores above ``majority`` is leakage of the split, not skill. ``tfidf_logistic_regression`` is the strong one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from framework.errors import UserError
from framework.plugins.lora.bootstrap import Floats
from framework.plugins.lora.scores import Integers
from framework.plugins.lora.table import normalise_text
from framework.plugins.lora.tfidf import fit_tfidf


def baseline_probabilities(
    train_texts: Sequence[str], train_labels: Integers, test_texts: Sequence[str], classes: Sequence[str]
) -> dict[str, Floats]:
    """[test texts, classes] float64 by the baseline's name; every row sums to 1. Equal arguments give equal answers.

    A class without training examples has the probability 0.

    Args:
        train_labels: [training texts] int64, places in ``classes``.

    Raises:
        UserError: there is no training example.
    """
    if len(train_texts) == 0:
        raise UserError("there is no training example for the baselines", fix="give a training set with labelled rows")
    tfidf = fit_tfidf(train_texts, train_labels, len(classes))
    return {
        "majority": np.tile(tfidf.shares, (len(test_texts), 1)),
        "look_up": _look_up(train_texts, train_labels, test_texts, len(classes)),
        "tfidf_logistic_regression": tfidf.probabilities(test_texts),
    }


def _look_up(train_texts: Sequence[str], train_labels: Integers, test_texts: Sequence[str], classes: int) -> Floats:
    labels_of: dict[str, list[int]] = {}
    for text, label in zip(train_texts, train_labels.tolist(), strict=True):
        labels_of.setdefault(normalise_text(text), []).append(label)
    everything = train_labels.tolist()
    found = [labels_of.get(normalise_text(text), everything) for text in test_texts]
    counts = np.array([np.bincount(each, minlength=classes) for each in found], dtype=np.float64)
    counts = counts.reshape(len(test_texts), classes)
    probabilities: Floats = counts / counts.sum(axis=1, keepdims=True)
    return probabilities
