"""TF-IDF with logistic regression: the strong baseline, and what ``ensemble_with`` lets a classifier answer together with.

Saved without a pickle, so that reading a folder runs nobody's code:

    tfidf.json          the class shares, the temperature, the classes with a coefficient, each vectorizer's terms in their order
    tfidf.safetensors   ``idf.0``, ``idf.1`` [terms], ``coefficients`` [classes or 1, all terms], ``intercepts``; float64
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from scipy.optimize import minimize_scalar
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union

from framework.durable import write_durably
from framework.errors import UserError
from framework.plugins.lora.bootstrap import Floats
from framework.plugins.lora.scores import Integers
from framework.plugins.lora.table import normalise_text

TERMS_FILE, NUMBERS_FILE = "tfidf.json", "tfidf.safetensors"
_WORD = re.compile(r"\b\w\w+\b")  # what TfidfVectorizer takes for a word
_MOST_FEATURES = 200_000
_FOLDS = 5
_WIDEST_TEMPERATURES = (0.02, 50.0)


@dataclass(frozen=True, eq=False)
class TfidfClassifier:
    """Fitted to training rows; equal rows give equal answers.

    Args:
        shares: [classes] float64, of the training labels.
        pipeline: None where one class alone or no word at all leaves nothing to tell apart: the shares are then the answer.
        temperature: that its log-probabilities are divided by.
    """

    shares: Floats
    pipeline: Pipeline | None
    temperature: float = 1.0

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """[texts, classes] float64; every row sums to 1, and a class without training rows has the probability 0."""
        result = np.tile(self.shares, (len(texts), 1))
        if self.pipeline is not None and texts:
            result[:, self.pipeline[-1].classes_] = self.pipeline.predict_proba(texts)
            result = _at_temperature(result, self.temperature)
        return result

    def save(self, folder: Path) -> None:
        """Writes both files, each whole or not at all.

        Raises:
            StorageError: the file system refuses.
        """
        terms: dict[str, Any] = {"shares": self.shares.tolist()}
        numbers: dict[str, Floats] = {}
        if self.pipeline is not None:
            linear = self.pipeline[-1]
            terms |= {"temperature": self.temperature, "classes": linear.classes_.tolist(), "terms": []}
            numbers = {"coefficients": linear.coef_, "intercepts": linear.intercept_}
            for place, vectorizer in enumerate(_vectorizers(self.pipeline)):
                terms["terms"].append(vectorizer.get_feature_names_out().tolist())
                numbers[f"idf.{place}"] = vectorizer.idf_
        write_durably(folder / NUMBERS_FILE, save({name: np.ascontiguousarray(each) for name, each in numbers.items()}))
        write_durably(folder / TERMS_FILE, json.dumps(terms, ensure_ascii=False).encode())


def fit_tfidf(texts: Sequence[str], labels: Integers, classes: int) -> TfidfClassifier:
    """Learns from the rows of one training fold, with the temperature that new texts ask for.

    The penalty keeps a linear model on thousands of rare terms from being as sure as it may be (a mean of 0.36 where 0.63 were
    right), which would leave it little say in an ensemble. The temperature (Guo et al. 2017, arXiv:1706.04599) is fitted to what
    five models say of texts that each has not seen: of training rows alone. Which class is likeliest does not change.

    Args:
        labels: [texts] int64, below ``classes``.
    """
    fitted = _fit(texts, labels, classes)
    if fitted.pipeline is None:
        return fitted
    fold_of = _folds_of(texts, labels)
    unseen = np.empty((len(texts), classes))
    for fold in range(_FOLDS):
        learned, asked = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        if len(learned) and len(asked):
            inner = _fit([texts[row] for row in learned.tolist()], labels[learned], classes)
            unseen[asked] = inner.probabilities([texts[row] for row in asked.tolist()])
        else:
            unseen[asked] = fitted.shares
    return replace(fitted, temperature=_best_temperature(unseen, labels))


def _fit(texts: Sequence[str], labels: Integers, classes: int) -> TfidfClassifier:
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    is_hopeless = np.count_nonzero(counts) == 1 or not any(_WORD.search(text) for text in texts)
    pipeline = None if is_hopeless else build_tfidf_logistic_regression().fit(texts, labels)
    return TfidfClassifier(counts / counts.sum(), pipeline)


def _folds_of(texts: Sequence[str], labels: Integers) -> Integers:
    """[texts] int64: copies of a text stay together, and every class is spread evenly. No random numbers."""
    keys = [normalise_text(text) for text in texts]
    label_of = dict(zip(keys, labels.tolist(), strict=True))
    fold_of = {key: place % _FOLDS for place, key in enumerate(sorted(label_of, key=lambda key: (label_of[key], key)))}
    return np.array([fold_of[key] for key in keys], dtype=np.int64)


def _best_temperature(probabilities: Floats, labels: Integers) -> float:
    """The one of the least mean negative log-probability, which has one minimum."""

    def loss(log_temperature: float) -> float:
        right = _at_temperature(probabilities, math.exp(log_temperature))[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(right, np.finfo(np.float64).eps)).mean())

    low, high = map(math.log, _WIDEST_TEMPERATURES)
    return math.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x)


def _at_temperature(probabilities: Floats, temperature: float) -> Floats:
    """[texts, classes], the log-probabilities divided and every row's sum 1 again; what was 0 stays 0."""
    powers = (probabilities / probabilities.max(axis=1, keepdims=True)) ** (1 / temperature)
    result: Floats = powers / powers.sum(axis=1, keepdims=True)
    return result


def load_tfidf(folder: Path) -> TfidfClassifier:
    """What ``TfidfClassifier.save`` wrote; its answers are those of the one that was saved, digit for digit.

    Raises:
        UserError: a file is missing, or the two do not fit together.
    """
    try:
        terms: dict[str, Any] = json.loads((folder / TERMS_FILE).read_text(encoding="utf-8"))
        numbers = load_file(folder / NUMBERS_FILE)
        shares = np.array(terms["shares"], dtype=np.float64)
        if "terms" not in terms:
            return TfidfClassifier(shares, None)
        return TfidfClassifier(shares, _filled(terms, numbers), float(terms["temperature"]))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(
            f"{folder / TERMS_FILE} and {NUMBERS_FILE} cannot be read: {' '.join(str(error).split())[:200]}",
            fix="start `zerostream finetune` again: it writes them anew",
        ) from error


def build_tfidf_logistic_regression() -> Pipeline:
    """Words and pairs of words beside the pieces of words, weighted by TF-IDF, under a linear classifier.

    Chosen on blurbs of children's books by age group (428 rows, grouped 5-fold, seven ways to fold, mean accuracy 63.9%):
    pieces of 3 to 5 letters bring 3 points over words alone, as they see stems and endings that 340 texts hardly repeat;
    equal weight for every class brings 2 points, and 0.03 of macro-F1; the strength of the penalty (C from 0.5 to 3) and
    pieces of 2 to 4 letters change nothing beyond the spread. scikit-learn's defaults hold for the rest. No random numbers
    are involved.
    """
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_MOST_FEATURES)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, max_features=_MOST_FEATURES)
    return make_pipeline(make_union(words, pieces), LogisticRegression(C=1.0, class_weight="balanced", max_iter=2000))


def _vectorizers(pipeline: Pipeline) -> list[TfidfVectorizer]:
    return [vectorizer for _, vectorizer in pipeline[0].transformer_list]


def _filled(terms: dict[str, Any], numbers: dict[str, Any]) -> Pipeline:
    pipeline = build_tfidf_logistic_regression()
    for place, vectorizer in enumerate(_vectorizers(pipeline)):
        vectorizer.set_params(vocabulary=terms["terms"][place])
        vectorizer.idf_ = numbers[f"idf.{place}"]
    linear = pipeline[-1]
    linear.classes_ = np.array(terms["classes"], dtype=np.int64)
    linear.coef_, linear.intercept_ = numbers["coefficients"], numbers["intercepts"]
    linear.n_features_in_ = sum(map(len, terms["terms"]))
    if linear.coef_.shape[1] != linear.n_features_in_:
        raise ValueError(f"{linear.n_features_in_} terms, but {linear.coef_.shape[1]} coefficients")
    return pipeline
