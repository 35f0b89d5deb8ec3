"""Measures of stories, against values computed by hand, and what must hold for any text."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.data.embedded import generate_stories
from framework.data.embedded.vocabulary import BOYS, FEMALE_ANIMALS, GIRLS, MALE_ANIMALS
from framework.metrics.story_quality import (
    Story,
    StoryQuality,
    distinct,
    ends_properly,
    name_consistency,
    repetition,
    self_bleu,
    story_quality,
    words,
)

TOLD = st.lists(st.lists(st.sampled_from("abcd"), max_size=12), min_size=2, max_size=6)


def test_words_have_no_case_and_no_punctuation() -> None:
    assert words('"Don\'t," said Tom\'s well-fed CAT -- 3 times_over… Ä!') == [
        "don't", "said", "tom's", "well-fed", "cat", "3", "times", "over", "ä",
    ]  # fmt: skip
    assert words(" ?! ") == []


# --- Distinct-n and repetition ---


def test_distinct_n_counts_over_all_stories_together() -> None:
    told = [["a", "b", "a"], ["a", "b"]]
    assert distinct(told, 1) == pytest.approx(2 / 5)  # a, b of a b a a b
    assert distinct(told, 2) == pytest.approx(2 / 3)  # ab, ba of ab ba ab: none across two stories
    assert distinct(told, 3) == pytest.approx(1.0)
    assert distinct(told, 4) is None


def test_repetition_is_the_share_of_4grams_that_stood_there_before() -> None:
    # abcd bcda cdab dabc abcd: four of five are new
    assert repetition(list("abcdabcd")) == pytest.approx(1 / 5)
    assert repetition(list("aaaaaa")) == pytest.approx(2 / 3)
    assert repetition(list("abcdefgh")) == 0.0
    assert repetition(list("abc")) is None


# --- Ends ---


@pytest.mark.parametrize(
    ("text", "ended", "proper"),
    [
        ("They went home.", True, True),
        ('"Good night!" \n', True, True),
        ("She smiled (and slept).", True, True),
        ("Is it over?", True, True),
        ("\u201cGood night.\u201d", True, True),
        ("They went home.", False, False),  # cut by the longest length, not by the model
        ("They went home", True, False),
        ("They went home,", True, False),
        ("", True, False),
    ],
)
def test_a_proper_end_is_a_sentences_end_before_end_of_text(text: str, ended: bool, proper: bool) -> None:
    assert ends_properly(Story(text, ended)) is proper


# --- Self-BLEU ---


def test_self_bleu_of_the_same_stories_is_one_and_of_strangers_zero() -> None:
    assert self_bleu([list("abcdef")] * 3) == pytest.approx(1.0)
    assert self_bleu([list("abcde"), list("vwxyz")]) == 0.0
    assert self_bleu([list("abcde")]) is None
    assert self_bleu([[], []]) == 0.0


def test_self_bleu_by_hand() -> None:
    # "a b c d e" with "a b c d x y": 4 of 5 words, 3 of 4 pairs, 2 of 3, 1 of 2; one word too short
    first = math.exp(1 - 6 / 5) * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    # the other way round: 4 of 6, 3 of 5, 2 of 4, 1 of 3; long enough
    second = (4 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert self_bleu([list("abcde"), list("abcdxy")]) == pytest.approx((first + second) / 2)


def test_a_word_counts_as_often_as_one_other_story_has_it() -> None:
    # "a a a a": two of its words, one of its pairs; no triple, no 4-gram (0.1 each); the others have 2 and 1
    told = [list("aaaa"), list("aabc"), list("axyz")]
    first = (2 / 4 * 1 / 3 * 0.1 / 2 * 0.1 / 1) ** 0.25
    second = (2 / 4 * 1 / 3 * 0.1 / 2 * 0.1 / 1) ** 0.25  # a twice in the first; aa there; aab nowhere
    third = (1 / 4 * 0.1 / 3 * 0.1 / 2 * 0.1 / 1) ** 0.25
    assert self_bleu(told) == pytest.approx((first + second + third) / 3)


@given(told=TOLD)
def test_self_bleu_does_not_depend_on_the_order_and_lies_between_0_and_1(told: list[list[str]]) -> None:
    found = self_bleu(told)
    assert found is not None
    assert 0.0 <= found <= 1.0 + 1e-12
    assert self_bleu(told[::-1]) == pytest.approx(found)


def test_self_bleu_agrees_with_nltk() -> None:
    bleu = pytest.importorskip("nltk.translate.bleu_score", reason="nltk comes with the extra eval")
    told = [words(story) for story in generate_stories(20, seed=2)]
    smoothing = bleu.SmoothingFunction().method1
    theirs = [
        bleu.sentence_bleu(told[:index] + told[index + 1 :], each, smoothing_function=smoothing)
        for index, each in enumerate(told)
    ]
    assert self_bleu(told) == pytest.approx(sum(theirs) / len(theirs))


# --- Names ---


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("One day a girl named Lily met Tom. They ran. Then Lily and Tom went home.", 1.0),
        ("One day a girl named Lily met Tom. They ran. Then Anna and Tom went home.", 1 / 2),
        ("One day a girl named Lily sat down. They ran. Then Anna and Tom went home.", 0.0),
        ("Lily sat down on the mat, and she slept. She woke. Then Lily ran as Lily's dog did.", 1.0),
        ("The dog sat. I ran. She saw that I ran.", None),  # I is no name, She begins a sentence
        ('He sat down with the dog. "Good," she said. "Sit."', None),  # what begins speech is no name
        ("We met the Cat there. Then the cat and the Cat sat.", None),  # also in lower case
        ("We met Anna there. It was Anna\u2019s cat.", 1.0),
        ("He saw \u201cGood\u201d. Then he said: \u201cSit.\u201d", None),
        ("", None),
    ],
)
def test_names_of_the_second_half_should_stand_in_the_first(text: str, share: float | None) -> None:
    assert name_consistency(text) == share


OTHER_NAMES = {name: f"{name[:2]}ster" for name in (*BOYS, *GIRLS, *MALE_ANIMALS, *FEMALE_ANIMALS)}
NAMES = re.compile("|".join(OTHER_NAMES))


def test_a_renamed_hero_is_noticed() -> None:
    stories = list(generate_stories(200, seed=4))
    true = story_quality([Story(story, True) for story in stories])
    halves = [(story[: len(story) // 2], story[len(story) // 2 :]) for story in stories]
    renamed = [first + NAMES.sub(lambda found: OTHER_NAMES[found[0]], second) for first, second in halves]
    mixed = story_quality([Story(story, True) for story in renamed])
    assert true.name_consistency is not None
    assert mixed.name_consistency is not None
    assert true.name_consistency > 0.85
    assert mixed.name_consistency < 0.3


# --- All together ---


def test_all_measures_of_a_set_of_stories() -> None:
    found = story_quality([Story("The cat sat. The cat sat.", True), Story("A dog ran", True), Story("", False)])
    assert found == StoryQuality(
        stories=3,
        mean_words=3.0,
        distinct_1=6 / 9,
        distinct_2=5 / 7,  # the-cat cat-sat sat-the the-cat cat-sat a-dog dog-ran
        distinct_3=4 / 5,  # the-cat-sat cat-sat-the sat-the-cat the-cat-sat a-dog-ran
        repeated_4grams=0.0,
        ends_properly=1 / 3,
        self_bleu=0.0,
        name_consistency=None,
    )


@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_every_share_is_a_share_for_any_text(texts: list[str]) -> None:
    found = story_quality([Story(text, ended=True) for text in texts])
    shares = (found.distinct_1, found.distinct_3, found.repeated_4grams, found.ends_properly, found.name_consistency)
    assert all(share is None or 0.0 <= share <= 1.0 for share in shares)
