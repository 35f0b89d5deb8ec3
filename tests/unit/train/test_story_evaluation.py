from __future__ import annotations

from pathlib import Path

import pytest

from framework.data.corpus import local_corpus
from framework.errors import UserError
from framework.metrics.story_quality import Story, story_quality
from framework.model.generate import Sampling
from framework.train import story_evaluation
from framework.train.story_evaluation import StoryRequest, evaluate_stories, reference_stories, tell_stories
from framework.train.trained import Trained, generate_text


def test_a_story_is_what_generate_tells_with_its_seed(untrained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story_evaluation, "STORIES_AT_ONCE", 2)
    request = StoryRequest(7, ("Once", "Lily and Tom"), temperature=1.0, top_p=0.95, max_tokens=12, seed=5)
    alone = [
        "".join(generate_text(untrained, request.prompts[number % 2], Sampling(1.0, None, 0.95, 12, seed=5 + number)))
        for number in range(7)
    ]
    assert [story.text for story in tell_stories(untrained, request)] == alone
    assert len(set(alone)) == 7


def test_a_story_may_fill_the_context(untrained: Trained) -> None:
    [story] = tell_stories(untrained, StoryRequest(1, ("Once",), temperature=0.0))
    prompt = untrained.tokenizer.encode("Once")
    longest = untrained.config.model.context_length - len(prompt)
    expected = "".join(generate_text(untrained, "Once", Sampling(0.0, max_tokens=longest)))
    assert story == Story(expected, ended=False)


def test_a_prompt_that_leaves_no_room_is_refused(untrained: Trained) -> None:
    with pytest.raises(UserError, match="the model reads 63 at most"):
        tell_stories(untrained, StoryRequest(1, ("word " * 100,)))


def test_the_report_says_what_was_asked_and_measures_real_stories_beside(untrained: Trained, tiny_shards: Path) -> None:
    corpus = local_corpus(tiny_shards)
    request = StoryRequest(3, max_tokens=10, seed=2)
    report = evaluate_stories(untrained, request, corpus)
    told, real = tell_stories(untrained, request), reference_stories(untrained, corpus, 3)
    asked = {"prompts": ("",), "temperature": 0.8, "top_p": None, "max_tokens": 10, "seed": 2}
    assert report == {**asked, **vars(story_quality(told)), "reference": vars(story_quality(real))}
    assert report["stories"] == report["reference"]["stories"] == 3
    assert report["reference"]["ends_properly"] == 1.0
    assert evaluate_stories(untrained, request, None) == {**report, "reference": None}


def test_real_stories_are_the_validation_documents(untrained: Trained, tiny_shards: Path) -> None:
    corpus = local_corpus(tiny_shards)
    every = reference_stories(untrained, corpus, 10_000)
    assert len(every) == sum(shard.entry.documents for shard in corpus.split("validation"))
    assert sum(len(story.text.encode()) for story in every) == corpus.text_bytes("validation")
    assert reference_stories(untrained, corpus, 2) == every[:2]
