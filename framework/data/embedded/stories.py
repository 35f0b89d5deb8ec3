"""Draw a cast and props for a plan, tell its beats, and yield the distinct results."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from framework.data.embedded import (
    plots_courage,
    plots_family,
    plots_forest,
    plots_home,
    plots_outside,
    plots_pets,
    plots_toys,
)
from framework.data.embedded.grammar import Plot, chance, choose_phrasing, pick, tell
from framework.data.embedded.vocabulary import (
    BOYS,
    FEMALE_ANIMALS,
    FEMALE_KIND,
    GIRLS,
    MALE_ANIMALS,
    WHEN,
    Character,
    Place,
    with_article,
)

PLOTS: tuple[Plot, ...] = (
    *plots_toys.PLOTS,
    *plots_outside.PLOTS,
    *plots_home.PLOTS,
    *plots_family.PLOTS,
    *plots_pets.PLOTS,
    *plots_forest.PLOTS,
    *plots_courage.PLOTS,
)

MAX_STORIES = 5_000_000
"""Most stories one call yields: far below what the plans allow, so repeats stay rare up to the last one."""

MAX_WORDS = 150
"""Longest story; longer draws are drawn again. So short, a whole story fits into 192 tokens of a vocabulary of 2,048."""

NAMED_SUBJECTS = 0.75
"""How often a name stands where a pronoun could: every one is practice in calling a character by the same name."""

_SUBJECT_PRONOUN = re.compile(r'\{(hero|friend)\.He\}|(?<=" )\{(hero|friend)\.he\}')
_ONCE = (*("Once upon a time, there was",) * 4, "Once there was", "There was once")
_SELF_CONTAINED_WHEN = ("any", "sun", "indoor")  # the other scenes need their weather or hour said first


@dataclass(frozen=True, slots=True)
class Story:
    """A finished story, with what a check needs to know about how it was made."""

    text: str
    plot: str
    hero: Character
    characters: tuple[Character, ...]


def _draw_character(rng: random.Random, kind: str, female: bool, role: str = "") -> Character:
    if kind in FEMALE_KIND:
        kind = FEMALE_KIND[kind] if female else kind
        names = GIRLS if female else BOYS
    else:
        names = FEMALE_ANIMALS if female else MALE_ANIMALS
    return Character(pick(rng, names), kind, female, role)


def _draw_friend(rng: random.Random, plan: Plot, hero: Character) -> Character:
    female = not hero.female  # "he" and "she" then say who is meant, which is what a small model has to learn
    role = "friend"
    if plan.siblings and hero.is_child and chance(rng, 0.35):
        role = "sister" if female else "brother"
    kind = pick(rng, [kind for kind in plan.friends if hero.is_child or kind != hero.kind])
    return _draw_character(rng, kind, female, role)


def _opening(rng: random.Random, plan: Plot, hero: Character) -> str:
    """Introduce the protagonist and set the scene, in one of the classic ways to begin a story."""
    named = with_article(choose_phrasing(rng, "[little |little |small |young |]") + hero.kind) + f" named {hero}"
    when = pick(rng, WHEN[plan.when])
    style = rng.random()
    if style < 0.36:
        start = pick(rng, _ONCE)
        who = pick(rng, (hero.name, hero.name, hero.he))
        return f"{start} {named}. {tell(rng, plan.trait)} {when}, {tell(rng, plan.scene)}".replace("{who}", who)
    if style < 0.44:
        start = f"{hero} was {with_article(pick(rng, ('little', 'happy', 'kind', 'small')))} {hero.kind}."
        who = pick(rng, (hero.name, hero.he))
        return f"{start} {tell(rng, plan.trait)} {when}, {tell(rng, plan.scene)}".replace("{who}", who)
    who = pick(rng, (hero.titled, hero.titled, named))
    if plan.when not in _SELF_CONTAINED_WHEN or style < 0.70:
        return f"{when}, {tell(rng, plan.scene)}".replace("{who}", who)
    if style < 0.76:
        return f"Once upon a time, {tell(rng, plan.scene)}".replace("{who}", named)
    return tell(rng, plan.scene).replace("{who}", hero.titled)


def _name_subjects(rng: random.Random, pattern: str) -> str:
    """Puts names for most of the pronouns that begin a sentence or say who spoke; never before a friend is introduced."""

    def name(match: re.Match[str]) -> str:
        who = match[1] or match[2]
        met = who == "hero" or re.search(r"\{friend(\.intro)?\}", pattern[: match.start()])
        return f"{{{who}}}" if met and chance(rng, NAMED_SUBJECTS) else match[0]

    return _SUBJECT_PRONOUN.sub(name, pattern)


def build_story(rng: random.Random, plan: Plot | None = None) -> Story:
    """Draw one story, of the given plan or of a random one, of at most `MAX_WORDS` words."""
    plan = plan or pick(rng, PLOTS)
    story = _draw_story(rng, plan)
    while len(story.text.split()) > MAX_WORDS:
        story = _draw_story(rng, plan)
    return story


def _draw_story(rng: random.Random, plan: Plot) -> Story:
    hero = _draw_character(rng, pick(rng, plan.heroes), female=chance(rng, 0.5))
    friend = _draw_friend(rng, plan, hero)
    adult_name, adult_female = pick(rng, [who for who in plan.grown_ups if who[1] != hero.female])
    adult = Character(adult_name, adult_name, adult_female, adult_name)
    slots: dict[str, object] = {"hero": hero, "friend": friend, "adult": adult}
    for slot, pool in plan.props.items():
        prop = pick(rng, pool)
        slots[slot] = prop
        if isinstance(prop, Place):
            slots["spot"] = pick(rng, prop.spots)
            slots["other_spot"] = pick(rng, [spot for spot in prop.spots if spot != slots["spot"]])
    parts = [
        _opening(rng, plan, hero),
        tell(rng, plan.problem),
        tell(rng, plan.attempt),
        tell(rng, plan.solution),
        tell(rng, plan.ending),
    ]
    pattern = _name_subjects(rng, " ".join(parts))
    cast = [hero, *plan.extras]
    cast += [friend] if "{friend" in pattern else []
    cast += [adult] if "{adult" in pattern else []
    return Story(pattern.format_map(slots), plan.name, hero, tuple(cast))


def generate_stories(count: int, *, seed: int = 0) -> Iterator[str]:
    """Yield `count` distinct stories; the i-th depends on `seed` and i alone, whatever `count` is.

    Raises ValueError, at the call, when `count` is negative or above `MAX_STORIES`.
    """
    if not 0 <= count <= MAX_STORIES:
        raise ValueError(f"count must be between 0 and {MAX_STORIES} distinct stories, got {count}")
    return _distinct_stories(count, seed)


def _distinct_stories(count: int, seed: int) -> Iterator[str]:
    rng = random.Random(f"stories {seed}")  # a text seed is hashed with SHA-512: the same on every platform
    seen: set[bytes] = set()  # only ever asked for membership, so its order does not matter
    while len(seen) < count:
        text = build_story(rng).text
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield text
