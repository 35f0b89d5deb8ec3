"""How a plan becomes text: beats of alternative phrasings, inline choices, slots.

A plan (`Plot`) is written as plain text. One line is one phrasing (a long one goes on, indented, on the next
line), lines without a blank between them are alternatives of the same beat, and a blank line starts the next
beat. Inside a phrasing `[big|small]` is an inline choice (they nest) and `{hero}` or `{toy.a}` is a slot,
filled once the story's cast and props are drawn.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from framework.data.embedded.vocabulary import CHILDREN, GROWN_UPS, Character, Place, Thing

T = TypeVar("T")
Beat = tuple[str, ...]

_INNERMOST_CHOICE = re.compile(r"\[([^\[\]]*)\]")


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """Draw one option, by `Random.random` alone: only it promises the same draws in every Python version."""
    return options[int(rng.random() * len(options))]


def chance(rng: random.Random, probability: float) -> bool:
    """True with the given probability."""
    return rng.random() < probability


def parse_beats(text: str) -> tuple[Beat, ...]:
    """Split a plan's text into beats (blank-line separated) of alternative phrasings (lines)."""
    text = re.sub(r"\n +", " ", text.strip())  # an indented line goes on with the one above it
    blocks = text.split("\n\n")
    return tuple(tuple(block.splitlines()) for block in blocks)


def choose_phrasing(rng: random.Random, text: str) -> str:
    """Resolve the inline choices of a phrasing, innermost first; slots are left in place."""
    while "[" in text:
        text = _INNERMOST_CHOICE.sub(lambda match: pick(rng, match.group(1).split("|")), text)
    return text


def tell(rng: random.Random, beats: Sequence[Beat]) -> str:
    """One phrasing of every beat, in order, as one unfilled paragraph."""
    chosen = choose_phrasing(rng, " ".join(pick(rng, beat) for beat in beats))
    return " ".join(chosen.split())  # an empty inline choice leaves two spaces


@dataclass(frozen=True)
class Plot:
    """The plan of a kind of story, in the order it is told.

    `trait` and `scene` make the opening; every scene phrasing begins with `{who}`, so it can follow
    "One day," or begin the story by itself. `props` names the extra slots and the pools they are drawn from;
    `extras` are the side characters that the text itself fixes, such as a baby sister.
    """

    name: str
    trait: tuple[Beat, ...]
    scene: tuple[Beat, ...]
    problem: tuple[Beat, ...]
    attempt: tuple[Beat, ...]
    solution: tuple[Beat, ...]
    ending: tuple[Beat, ...]
    when: str = "any"
    heroes: tuple[str, ...] = CHILDREN
    friends: tuple[str, ...] = CHILDREN
    siblings: bool = True
    grown_ups: tuple[tuple[str, bool], ...] = GROWN_UPS
    extras: tuple[Character, ...] = ()
    props: Mapping[str, tuple[Thing, ...] | tuple[Place, ...]] = field(default_factory=dict)


def plot(
    name: str,
    *,
    trait: str,
    scene: str,
    problem: str,
    attempt: str,
    solution: str,
    ending: str,
    when: str = "any",
    heroes: tuple[str, ...] = CHILDREN,
    friends: tuple[str, ...] = CHILDREN,
    siblings: bool = True,
    grown_ups: tuple[tuple[str, bool], ...] = GROWN_UPS,
    extras: tuple[Character, ...] = (),
    **props: tuple[Thing, ...] | tuple[Place, ...],
) -> Plot:
    """Make a `Plot` from its written plan."""
    return Plot(
        name=name,
        trait=parse_beats(trait),
        scene=parse_beats(scene),
        problem=parse_beats(problem),
        attempt=parse_beats(attempt),
        solution=parse_beats(solution),
        ending=parse_beats(ending),
        when=when,
        heroes=heroes,
        friends=friends,
        siblings=siblings,
        grown_ups=grown_ups,
        extras=extras,
        props=props,
    )
