from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.errors import UserError
from framework.plugins.lora.baselines import baseline_probabilities
from framework.plugins.lora.table import normalise_text

CLASSES = ("young", "middle", "old")
NAMES = {"majority", "look_up", "tfidf_logistic_regression"}
BEDTIME = [
    "The sleepy bear counts sheep",
    "A sleepy lamb goes to bed",
    "Good night says the bear",
    "Sleepy stars and a lamb",
]
MYSTERY = [
    "The detective follows a clue",
    "A clue in the haunted castle",
    "The castle hides a secret",
    "A secret detective club",
]


def found(
    train: list[tuple[str, int]], test: list[str], classes: tuple[str, ...] = CLASSES
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    return baseline_probabilities([text for text, _ in train], np.array([label for _, label in train]), test, classes)


def test_the_majority_knows_the_shares_of_the_training_labels_alone() -> None:
    majority = found([("a b", 0), ("c d", 2), ("e f", 2), ("g h", 2)], ["anything", "at all"])["majority"]
    assert majority.tolist() == [[0.25, 0, 0.75]] * 2


def test_a_text_seen_in_training_is_looked_up_whatever_its_case_and_white_space() -> None:
    train = [("The  Red Fox", 1), ("other text", 0), ("more text", 0)]
    look_up = found(train, ["the red\n\tFOX ", "the red fox."])["look_up"]
    assert look_up.tolist() == [[0, 1, 0], [2 / 3, 1 / 3, 0]]


def test_a_text_with_two_labels_in_training_is_looked_up_as_both() -> None:
    train = [("same text", 0), ("same text", 2), ("same text", 2), ("another", 1)]
    assert found(train, ["Same Text"])["look_up"].tolist() == [[1 / 3, 0, 2 / 3]]


def test_a_split_by_row_of_repeated_texts_is_no_test_at_all() -> None:
    texts = [(f"book number {i} about a subject", i % 3) for i in range(12)]
    look_up = found(texts * 4, [text for text, _ in texts])["look_up"]
    assert look_up.argmax(axis=1).tolist() == [label for _, label in texts]


def test_words_tell_unseen_texts_apart() -> None:
    train = [(text, 0) for text in BEDTIME] + [(text, 2) for text in MYSTERY]
    linear = found(train, ["a sleepy little bear", "the haunted clue"])["tfidf_logistic_regression"]
    assert linear.argmax(axis=1).tolist() == [0, 2]


def test_a_rare_class_has_the_same_weight_as_a_common_one() -> None:
    train = [(text, 0) for text in BEDTIME * 5] + [(MYSTERY[0], 2)]
    linear = found(train, ["the detective", "bed"])["tfidf_logistic_regression"]
    assert linear.argmax(axis=1).tolist() == [2, 0]


def test_a_class_without_training_examples_is_never_likely() -> None:
    train = [(text, 0) for text in BEDTIME] + [(text, 2) for text in MYSTERY]
    for name, probabilities in found(train, ["a bear", "the clue"]).items():
        assert probabilities[:, 1].tolist() == [0, 0], name


@pytest.mark.parametrize(
    "train",
    [
        pytest.param([("one text", 1), ("two texts", 1)], id="one class alone"),
        pytest.param([("a", 1), ("!", 1), ("?", 0)], id="no word"),
        pytest.param([("only", 1)], id="one example"),
    ],
)
def test_with_nothing_to_tell_apart_the_linear_model_is_the_majority(train: list[tuple[str, int]]) -> None:
    probabilities = found(train, ["some text", "!"])
    assert np.array_equal(probabilities["tfidf_logistic_regression"], probabilities["majority"])


def test_test_texts_without_a_known_word_are_still_classified() -> None:
    train = [(text, 0) for text in BEDTIME] + [(text, 1) for text in MYSTERY]
    for probabilities in found(train, ["", "ß", "数字"]).values():
        assert probabilities.sum(axis=1) == pytest.approx(1)


def test_no_test_text_is_an_empty_table() -> None:
    assert {each.shape for each in found([("a text", 0), ("two words", 1)], []).values()} == {(0, 3)}


def test_no_training_text_is_refused() -> None:
    with pytest.raises(UserError, match="no training example"):
        baseline_probabilities([], np.empty(0, dtype=np.int64), ["text"], CLASSES)


TEXTS = st.text(alphabet="abcde XY\n!é", max_size=12)


@settings(max_examples=25)
@given(train=st.lists(st.tuples(TEXTS, st.integers(0, 2)), min_size=1, max_size=8), test=st.lists(TEXTS, max_size=5))
def test_every_baseline_gives_distributions_and_the_same_ones_again(
    train: list[tuple[str, int]], test: list[str]
) -> None:
    first, again = found(train, test), found(train, test)
    assert set(first) == NAMES
    for name, probabilities in first.items():
        assert (probabilities.shape, probabilities.dtype) == ((len(test), 3), np.float64)
        assert (probabilities >= 0).all()
        assert probabilities.sum(axis=1) == pytest.approx(1)
        assert np.array_equal(probabilities, again[name])


@given(
    words=st.lists(st.text(alphabet="abcßÉ.1", min_size=1), min_size=1), space=st.sampled_from([" ", "\n\t", "\u00a0 "])
)
def test_case_and_white_space_make_no_other_text_and_a_letter_does(words: list[str], space: str) -> None:
    plain = normalise_text(" ".join(words))
    assert normalise_text(f" {space.join(words)}\n") == plain
    assert normalise_text(plain.upper()) == plain
    assert normalise_text(" ".join([*words, "x"])) != plain
