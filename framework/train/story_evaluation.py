"""Has a trained model tell stories, and takes as many real ones to compare them with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from framework.data.corpus import Corpus
from framework.metrics.story_quality import Story, story_quality
from framework.model.generate import Sampling, generate_batch
from framework.train.trained import Trained, encode_prompt

STORIES_AT_ONCE = 32
"""Computed together; each needs memory for its keys and values."""


@dataclass(frozen=True)
class StoryRequest:
    """Which stories to tell. Story ``i`` continues ``prompts[i % len(prompts)]`` with seed ``seed + i``.

    ``max_tokens`` None is what the model's context holds beside the prompt.
    """

    count: int
    prompts: tuple[str, ...] = ("",)
    temperature: float = 0.8
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int = 0

    def sampling(self, room: int) -> Sampling:
        """How to sample where ``room`` tokens are left; raises ``UserError`` as ``Sampling`` does."""
        return Sampling(self.temperature, None, self.top_p, room if self.max_tokens is None else self.max_tokens)


def evaluate_stories(trained: Trained, request: StoryRequest, reference: Corpus | None) -> dict[str, Any]:
    """The request, the measures of what the model tells (without the prompts), and those of real stories as ``reference``.

    Args:
        trained: who tells.
        request: how many, and how.
        reference: a corpus of the model's tokenizer; the first documents of its validation split are the real stories,
            as many as were told or as there are.

    Raises:
        UserError: a prompt leaves the model no room.
        ShardError, StorageError: the reference cannot be read.
    """
    real = reference_stories(trained, reference, request.count) if reference is not None else []
    asked = {
        key: value for key, value in asdict(request).items() if key != "count"
    }  # the measures count for themselves
    return {
        **asked,
        **asdict(story_quality(tell_stories(trained, request))),
        "reference": asdict(story_quality(real)) if real else None,
    }


def tell_stories(trained: Trained, request: StoryRequest) -> list[Story]:
    """``request.count`` stories, without their prompts, in the order of their seeds.

    Raises:
        UserError: a prompt leaves the model no room.
    """
    prompts = [encode_prompt(trained, prompt) for prompt in request.prompts]
    stories: dict[int, Story] = {}
    for first, prompt in enumerate(prompts):
        numbers = range(first, request.count, len(prompts))
        for start in range(0, len(numbers), STORIES_AT_ONCE):
            together = numbers[start : start + STORIES_AT_ONCE]
            stories |= zip(together, _continue(trained, prompt, request, together), strict=True)
    return [stories[number] for number in range(request.count)]


def _continue(trained: Trained, prompt: list[int], request: StoryRequest, numbers: Sequence[int]) -> list[Story]:
    context_length, end_of_text_id = trained.config.model.context_length, trained.tokenizer.end_of_text_id
    continuations = generate_batch(
        trained.language_model,
        prompt,
        request.sampling(room=context_length - len(prompt)),
        [request.seed + number for number in numbers],
        context_length=context_length,
        end_of_text_id=end_of_text_id,
    )
    return [Story(trained.tokenizer.decode(tokens), tokens[-1] == end_of_text_id) for tokens in continuations]


def reference_stories(trained: Trained, corpus: Corpus, count: int) -> list[Story]:
    """The first ``count`` documents of the validation split, or all.

    Raises:
        ShardError, StorageError: as ``Corpus.documents``.
    """
    documents = itertools.islice(corpus.documents("validation"), count)
    return [Story(trained.tokenizer.decode(tokens.tolist()), ended=True) for tokens in documents]
