"""The companion of an ensemble: saved without a pickle, and the same digits when it is loaded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from framework.errors import UserError
from framework.plugins.lora.tfidf import NUMBERS_FILE, TERMS_FILE, fit_tfidf, load_tfidf

TRAIN = [
    "The sleepy bear counts sheep",
    "Good night, says the lamb",
    "A detective follows a clue",
    "A secret in the café",
]
TEXTS = ["A sleepy detective", "ß 数字", "", "The lamb's secret clue"]


@pytest.mark.parametrize(
    "labels", [[0, 0, 2, 2], [0, 1, 2, 3], [0, 0, 1, 1], [1, 1, 1, 1]], ids=["gap", "all", "two", "one"]
)
def test_what_is_loaded_answers_digit_for_digit(labels: list[int], tmp_path: Path) -> None:
    fitted = fit_tfidf(TRAIN, np.array(labels), 4)
    fitted.save(tmp_path)
    found = load_tfidf(tmp_path).probabilities(TEXTS)
    np.testing.assert_array_equal(found, fitted.probabilities(TEXTS))
    assert found.sum(axis=1) == pytest.approx(1)
    assert (found[:, np.bincount(labels, minlength=4) == 0] == 0).all()
    assert {path.name for path in tmp_path.iterdir()} == {TERMS_FILE, NUMBERS_FILE}


def test_it_is_as_sure_of_new_texts_as_it_is_often_right() -> None:
    """A word tells the classes apart in four of five texts; in the others it misleads."""
    numbers = np.arange(400)
    labels = numbers % 2
    told = np.where(numbers // 2 % 5 == 0, 1 - labels, labels)
    texts = [f"word{number} thing{number % 7} {('bedtime', 'mystery')[word]}" for number, word in enumerate(told)]
    new = fit_tfidf(texts[:200], labels[:200], 2).probabilities(texts[200:])
    assert (new.argmax(axis=1) == labels[200:]).mean() == 0.8
    assert new.max(axis=1).mean() == pytest.approx(0.8, abs=0.05)


def test_the_temperature_changes_no_answer_and_is_kept(tmp_path: Path) -> None:
    fitted = fit_tfidf(TRAIN * 3, np.array([0, 0, 1, 1] * 3), 3)
    assert fitted.temperature != 1.0
    plain = dataclasses.replace(fitted, temperature=1.0)
    assert (fitted.probabilities(TEXTS).argmax(axis=1) == plain.probabilities(TEXTS).argmax(axis=1)).all()
    fitted.save(tmp_path)
    assert load_tfidf(tmp_path).temperature == fitted.temperature


def test_it_knows_the_words_of_its_training_rows_alone(tmp_path: Path) -> None:
    fit_tfidf(TRAIN, np.array([0, 0, 1, 1]), 2).save(tmp_path)
    terms = json.loads((tmp_path / TERMS_FILE).read_text(encoding="utf-8"))["terms"][0]
    assert "sleepy bear" in terms
    assert "café" in terms
    assert not any("sleepy detective" in term for term in terms)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (TERMS_FILE, None),
        (TERMS_FILE, b"[]"),
        (TERMS_FILE, b"{}"),
        (TERMS_FILE, b'{"shares": [1, 0], "classes": [0, 1], "terms": [["a"], ["b"]]}'),
        (NUMBERS_FILE, None),
        (NUMBERS_FILE, b"no safetensors"),
    ],
    ids=["absent", "list", "empty", "others", "no-numbers", "bad-numbers"],
)
def test_files_that_do_not_fit_are_refused(file: str, content: bytes | None, tmp_path: Path) -> None:
    fit_tfidf(TRAIN, np.array([0, 0, 1, 1]), 2).save(tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=r"tfidf\.json and tfidf\.safetensors cannot be read"):
        load_tfidf(tmp_path)
