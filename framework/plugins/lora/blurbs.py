"""The embedded book blurbs: made-up descriptions of books that do not exist, each with a minimum age.

They are synthetic: a program writes them, nothing is downloaded or copied, and the ages come from the rule below, not from
a publisher. A score on them shows that fine-tuning works; it says nothing about real books.

How a blurb is made: draw where the book stands between board books and novels, a position from 0 to 4. Every sentence and
every slot takes its words from the shelf at that position, give or take ``_WORD_SPREAD``, so that words overlap between
neighbours. The age written on it is the position's age in years, give or take ``_AGE_SPREAD_YEARS``, because publishers disagree
about books near a border. Equal seeds give equal blurbs on every machine, and a longer run begins with the shorter one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from framework.data.embedded.grammar import chance, choose_phrasing, pick
from framework.data.embedded.vocabulary import BOYS, FEMALE_ANIMALS, GIRLS, MALE_ANIMALS, Character
from framework.plugins.lora.blurb_phrases import SHELVES, Shelf

MAX_BLURBS = 1_000_000
"""Most blurbs one call yields: far below what the phrasings allow, so that repeats stay rare."""

_WORD_SPREAD = 0.9
_AGE_SPREAD_YEARS = 1.0
_AGES_OF_SHELVES = (0.0, 3.0, 6.0, 9.0, 14.0)
"""In years: where each shelf begins, and where the last one ends."""


@dataclass(frozen=True, slots=True)
class Blurb:
    """A made-up book's description, and its age as a publisher would write it (``Age 3-5``, ``9+``)."""

    text: str
    age: str


def generate_blurbs(count: int, *, seed: int = 0) -> Iterator[Blurb]:
    """Yields ``count`` blurbs with distinct texts; the i-th depends on ``seed`` and i alone.

    Raises:
        ValueError: at the call, when ``count`` is negative or above ``MAX_BLURBS``.
    """
    if not 0 <= count <= MAX_BLURBS:
        raise ValueError(f"count must be between 0 and {MAX_BLURBS} distinct blurbs, got {count}")
    return _distinct_blurbs(count, seed)


def _distinct_blurbs(count: int, seed: int) -> Iterator[Blurb]:
    rng = random.Random(f"blurbs {seed}")  # a text seed is hashed with SHA-512: the same on every platform
    seen: set[str] = set()  # only ever asked for membership, so its order does not matter
    while len(seen) < count:
        position = rng.random() * len(SHELVES)
        blurb = Blurb(_write_text(rng, position), _write_age(rng, _years(position) + _spread(rng, _AGE_SPREAD_YEARS)))
        if blurb.text not in seen:
            seen.add(blurb.text)
            yield blurb


def _write_text(rng: random.Random, position: float) -> str:
    def shelf() -> Shelf:
        return SHELVES[min(max(int(position + _spread(rng, _WORD_SPREAD)), 0), len(SHELVES) - 1)]

    beats = [pick(rng, shelf().hook), pick(rng, shelf().story)]
    beats += [pick(rng, shelf().story)] if chance(rng, 0.3) else []
    beats += [pick(rng, shelf().turn)] if chance(rng, 0.8) else []
    beats += [pick(rng, shelf().pitch)] if chance(rng, 0.6) else []
    hero = _draw_character(rng, pick(rng, shelf().kinds))
    friend = _draw_character(rng, hero.kind)
    while friend.name == hero.name:
        friend = _draw_character(rng, hero.kind)
    sentences = [
        choose_phrasing(rng, beat).format(
            hero=hero,
            friend=friend,
            thing=pick(rng, shelf().things),
            place=pick(rng, shelf().places),
            theme=pick(rng, shelf().themes),
        )
        for beat in dict.fromkeys(beats)  # a story beat drawn twice is told once
    ]
    return " ".join(sentences)


def _draw_character(rng: random.Random, kind: str) -> Character:
    female = kind == "girl" or (kind != "boy" and chance(rng, 0.5))
    if kind in ("boy", "girl"):
        names = GIRLS if female else BOYS
    else:
        names = FEMALE_ANIMALS if female else MALE_ANIMALS
    return Character(pick(rng, names), kind, female)


def _years(position: float) -> float:
    shelf = int(position)
    low, high = _AGES_OF_SHELVES[shelf], _AGES_OF_SHELVES[shelf + 1]
    return low + (position - shelf) * (high - low)


def _spread(rng: random.Random, width: float) -> float:
    """Triangular noise in (-width, width), from ``Random.random`` alone."""
    return (rng.random() - rng.random()) * width


def _write_age(rng: random.Random, years: float) -> str:
    low = max(int(years), 0)
    if low == 0 and chance(rng, 0.15):
        return "6 months+"
    high = low + 2 + int(rng.random() * 3)
    return pick(
        rng, (f"Age {low}-{high}", f"Age {low}-{high}", f"Age {low}+", f"Age {low}+", f"{low}+", f"Ages {low} and up")
    )
