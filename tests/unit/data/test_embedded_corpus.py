"""The embedded corpus: deterministic, distinct, and clean English on every plan."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from itertools import islice

import pytest

from framework.data.embedded import MAX_STORIES, PLOTS, Story, build_story, generate_stories

STORIES_PER_PLOT = 150
DIALOGUE = re.compile(r'"[^"]*"')


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return list(generate_stories(20_000, seed=0))


@pytest.fixture(scope="module")
def built() -> list[Story]:
    rng = random.Random("every plan")
    return [build_story(rng, plan) for plan in PLOTS for _ in range(STORIES_PER_PLOT)]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())


def test_same_seed_same_stories() -> None:
    assert list(generate_stories(200, seed=3)) == list(generate_stories(200, seed=3))


def test_a_longer_run_begins_with_the_shorter_one(corpus: list[str]) -> None:
    assert list(generate_stories(100, seed=0)) == corpus[:100]


def test_same_stories_in_another_process() -> None:
    # A different hash seed would show up any reliance on hash() or on the order of a set.
    script = (
        "import hashlib; from framework.data.embedded import generate_stories;"
        "print(hashlib.sha256(chr(10).join(generate_stories(300, seed=5)).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def test_seeds_differ() -> None:
    assert not set(generate_stories(200, seed=1)) & set(generate_stories(200, seed=2))
    assert list(generate_stories(5, seed=1)) != list(generate_stories(5, seed=-1))


def test_twenty_thousand_distinct(corpus: list[str]) -> None:
    assert len(corpus) == len(set(corpus)) == 20_000


@pytest.mark.parametrize("count", [-1, MAX_STORIES + 1])
def test_impossible_counts_are_refused_at_the_call(count: int) -> None:
    with pytest.raises(ValueError, match="count must be between"):
        generate_stories(count)


def test_zero_stories_and_lazy_large_runs() -> None:
    assert list(generate_stories(0)) == []
    assert len(list(islice(generate_stories(MAX_STORIES), 3))) == 3


def test_vocabulary_is_small(corpus: list[str]) -> None:
    vocabulary = {word.removesuffix("'s") for story in corpus for word in words(story)}
    assert 500 <= len(vocabulary) <= 1500


def test_lengths(corpus: list[str]) -> None:
    lengths = [len(story.split()) for story in corpus]
    assert min(lengths) >= 60
    assert max(lengths) <= 200


def test_openings_readers_will_try(corpus: list[str]) -> None:
    assert sum(story.startswith("Once upon a time") for story in corpus) > 2_000
    assert sum(story.startswith("On a rainy day, ") for story in corpus) > 400
    assert sum(story.startswith("One day, Tom ") for story in corpus) > 10
    assert sum(story.startswith("Lily wanted ") for story in corpus) > 30
    assert any(re.match(r"On a rainy day, Tom was playing in the garden\b", story) for story in corpus)


def test_every_plot_appears() -> None:
    rng = random.Random("plots")
    assert len(PLOTS) >= 16
    assert len({plan.name for plan in PLOTS}) == len(PLOTS)
    assert {build_story(rng).plot for _ in range(2_000)} == {plan.name for plan in PLOTS}


def test_no_slot_or_choice_is_left(built: list[Story]) -> None:
    for story in built:
        assert not set("{}[]|") & set(story.text), story.text


def test_plain_characters(built: list[Story]) -> None:
    for story in built:
        assert re.fullmatch(r"[A-Za-z ,.!?'\"\n]+", story.text), story.text


def test_quotes_are_balanced(built: list[Story]) -> None:
    for story in built:
        for paragraph in story.text.split("\n\n"):
            assert paragraph.count('"') % 2 == 0, story.text
            for speech in DIALOGUE.findall(paragraph):
                assert re.fullmatch(r'"[A-Z].*[,.!?]"', speech), (speech, story.text)


def test_articles_agree(built: list[Story]) -> None:
    for story in built:
        assert not re.search(r"\b[Aa] [aeiou]", story.text), story.text
        assert not re.search(r"\b[Aa]n [^aeiou]", story.text), story.text


def test_punctuation_and_capitals(built: list[Story]) -> None:
    for story in built:
        text = story.text
        assert not re.search(r" [,.!?]|  |,,|[!?],|,[!?.]|\n\n\n| \n|\n ", text), text
        assert not re.search(r"(?<!\.)\.\.(?!\.)", text), text
        assert text[0].isupper(), text
        assert text.rstrip('"')[-1] in ".!?", text
        narration = DIALOGUE.sub('"', text)  # a tag after speech ('" she said') goes on with a small letter
        assert not re.search(r"[.!?]\s+[a-z]", narration), text
        assert not re.search(r"[.!?] [a-z]", " ".join(DIALOGUE.findall(text))), text


def test_no_word_is_doubled(built: list[Story]) -> None:
    for story in built:
        doubled = re.search(r"\b(the|a|an|to|and|his|her|was|of|in|it|he|she) \1\b", story.text)
        assert doubled is None, story.text


def test_the_protagonist_stays(built: list[Story]) -> None:
    for story in built:
        assert story.hero.name in " ".join(story.text.split()[:14]), story.text
        assert story.hero.name in story.text[len(story.text) * 2 // 3 :], story.text


def test_nobody_else_is_named(built: list[Story]) -> None:
    # Capitalized words inside a sentence are the names of the cast (or how its grown-ups are called).
    everyone = {story.hero.name for story in built} | {who.name for story in built for who in story.characters}
    for story in built:
        cast = {who.name for who in story.characters}
        assert not (set(re.findall(r"\b[A-Z][a-z]+\b", story.text)) & everyone) - cast, story.text


def test_pronouns_fit_the_characters(built: list[Story]) -> None:
    for story in built:
        narration = words(DIALOGUE.sub(" ", story.text))
        if all(who.female for who in story.characters):
            assert not {"he", "his", "him", "himself"} & set(narration), story.text
        if not any(who.female for who in story.characters):
            assert not {"she", "her", "hers", "herself"} & set(narration), story.text
