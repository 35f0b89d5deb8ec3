"""What can be said of stories without a judge: how varied they are, whether they repeat themselves, and how they end.

Pure functions of text. ``words`` is the one way in which text is cut: letters and digits, apostrophes and hyphens inside;
punctuation and case do not count. None of these numbers says that a story is good, and none means much by itself:
compare with the same measures of real stories, over equally many.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

# \u2018 \u2019 are single quotes (\u2019 is also the apostrophe), \u201c \u201d double ones, \u2013 \u2014 dashes.
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_STARTS_SENTENCE = re.compile(r"(?:^|[.!?…:\n\"\u201c\u201d\u2018\u2013\u2014-])[\s\"\u201c\u201d'\u2018(]*$")
_PROPER_END = re.compile(r"[.!?…][\"\u201d'\u2019)\]]*\s*$")
_I = re.compile(r"I(['\u2019]\w+)?")
_POSSESSIVE = re.compile(r"['\u2019]s?$")
_REPEATED_N = 4
_BLEU_N = 4
_BLEU_EPSILON = 0.1
"""Counts of 0 become this: Chen & Cherry 2014 (W14-3346), smoothing 1."""

Ngram = tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """What was told; ``ended`` says that end-of-text was reached, not the longest length."""

    text: str
    ended: bool


@dataclass(frozen=True)
class StoryQuality:
    """Measures of a set of stories. None where nothing in the set can be measured."""

    stories: int
    mean_words: float
    distinct_1: float | None
    """Share of words that are distinct, over all stories together (Li et al. 2016, arXiv:1510.03055). As ``distinct_2`` and
    ``distinct_3``, it falls with the amount of text: compare over equally much."""
    distinct_2: float | None
    distinct_3: float | None
    repeated_4grams: float | None
    """``repetition``, the mean over stories of at least 4 words."""
    ends_properly: float
    """Share of stories that reach end-of-text, and there the end of a sentence."""
    self_bleu: float | None
    """``self_bleu``: 1 if all stories are the same."""
    name_consistency: float | None
    """``name_consistency``, the mean over stories that have a name in their second half."""


def story_quality(stories: Sequence[Story]) -> StoryQuality:
    """All measures of at least one story."""
    told = [words(story.text) for story in stories]
    return StoryQuality(
        stories=len(stories),
        mean_words=sum(map(len, told)) / len(told),
        distinct_1=distinct(told, 1),
        distinct_2=distinct(told, 2),
        distinct_3=distinct(told, 3),
        repeated_4grams=_mean(map(repetition, told)),
        ends_properly=sum(ends_properly(story) for story in stories) / len(stories),
        self_bleu=self_bleu(told),
        name_consistency=_mean(name_consistency(story.text) for story in stories),
    )


def words(text: str) -> list[str]:
    """The words of ``text``, in lower case."""
    return _WORD.findall(text.lower())


def distinct(told: Iterable[Sequence[str]], n: int) -> float | None:
    """Distinct n-grams of all texts together, divided by their number (Li et al. 2016, arXiv:1510.03055)."""
    found = [ngram for each in told for ngram in _ngrams(each, n)]
    return len(set(found)) / len(found) if found else None


def repetition(told: Sequence[str], n: int = _REPEATED_N) -> float | None:
    """Share of a text's n-grams that stood in it before: seq-rep-n of Welleck et al. 2020 (arXiv:1908.04319)."""
    found = list(_ngrams(told, n))
    return 1.0 - len(set(found)) / len(found) if found else None


def ends_properly(story: Story) -> bool:
    """Whether end-of-text was reached, and the last sentence ends: with . ! ? or …, quotes and brackets may follow."""
    return story.ended and _PROPER_END.search(story.text) is not None


def self_bleu(told: Sequence[Sequence[str]]) -> float | None:
    """Mean BLEU-4 of each text with all others as references (Zhu et al. 2018, arXiv:1802.01886).

    BLEU as Papineni et al. 2002 define it (P02-1040), counts of 0 smoothed as in Chen & Cherry 2014 (method 1). One pass over
    all n-grams: of each, the largest count in any text and the largest in any other are enough.
    """
    if len(told) < 2:
        return None
    counts = [[Counter(_ngrams(each, n)) for each in told] for n in range(1, _BLEU_N + 1)]
    highest = [_TwoHighest(of_n) for of_n in counts]
    lengths = Counter(map(len, told))
    return sum(
        _bleu(index, len(each), counts, highest, _closest_other(lengths, len(each))) for index, each in enumerate(told)
    ) / len(told)


class _TwoHighest:
    """Of each n-gram: which text has it most often, how often, and how often the next one has it."""

    def __init__(self, counts: Sequence[Counter[Ngram]]) -> None:
        self._found: dict[Ngram, tuple[int, int, int]] = {}
        for index, of_text in enumerate(counts):
            for ngram, count in of_text.items():
                owner, first, second = self._found.get(ngram, (-1, 0, 0))
                self._found[ngram] = (
                    (index, count, first) if count > first else (owner, first, max(second, count))
                )  # fmt: skip

    def in_others(self, index: int, ngram: Ngram) -> int:
        """The largest count of ``ngram`` in any text but number ``index``."""
        owner, first, second = self._found[ngram]
        return second if owner == index else first


def _closest_other(lengths: Counter[int], length: int) -> int:
    others = (other for other, count in lengths.items() if other != length or count > 1)
    return min(others, key=lambda other: (abs(other - length), other))


def _bleu(
    index: int,
    length: int,
    counts: Sequence[Sequence[Counter[Ngram]]],
    highest: Sequence[_TwoHighest],
    reference_length: int,
) -> float:
    log_precision = 0.0
    for n, of_n in enumerate(counts, start=1):
        clipped = sum(min(count, highest[n - 1].in_others(index, ngram)) for ngram, count in of_n[index].items())
        if n == 1 and clipped == 0:
            return 0.0
        log_precision += math.log((clipped or _BLEU_EPSILON) / max(1, length - n + 1)) / _BLEU_N
    return math.exp(log_precision + min(0.0, 1.0 - reference_length / length))


def name_consistency(text: str) -> float | None:
    """Share of the names in a text's second half that stood in the first half already; None without such a name.

    A name is a word with a capital inside a sentence that never stands there in lower case; ``I`` is none. A
    newcomer in the second half is no mistake, so real stories do not reach 1 either; but a model that changes its heroes'
    names on the way is lower.
    """
    found = [(match[0], match.start()) for match in _WORD.finditer(text)]
    lower = {word for word, _ in found if word[0].islower()}
    names = {
        _without_possessive(word)
        for word, start in found
        if _may_be_name(word) and word.lower() not in lower and not _starts_sentence(text, start)
    }
    told = [_without_possessive(word) for word, _ in found]
    half = len(told) // 2
    before, after = names.intersection(told[:half]), names.intersection(told[half:])
    return len(after & before) / len(after) if after else None


def _may_be_name(word: str) -> bool:
    return word[0].isupper() and not _I.fullmatch(word)


def _starts_sentence(text: str, start: int) -> bool:
    return _STARTS_SENTENCE.search(text[max(0, start - 8) : start]) is not None


def _without_possessive(word: str) -> str:
    return _POSSESSIVE.sub("", word)


def _ngrams(told: Sequence[str], n: int) -> Iterator[Ngram]:
    return zip(*(told[start:] for start in range(n)), strict=False)


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
