"""The words the embedded stories are made of: characters, things, animals and places.

Everything here is data plus the few properties a phrase needs to agree with it (pronouns, articles,
prepositions). A pool lists concrete things ("red ball", not "ball" and "red" apart), so a thing drawn once
keeps its look for the whole story.
"""

from __future__ import annotations

from dataclasses import dataclass

VOWELS = "aeiou"


def with_article(words: str) -> str:
    """Put "a" or "an" before `words`; the pools hold no word whose spelling misleads ("hour", "unicorn")."""
    return f"an {words}" if words[0] in VOWELS else f"a {words}"


@dataclass(frozen=True, slots=True)
class Character:
    """Someone in a story. `role` says what they are to the protagonist ("friend", "sister", "mom")."""

    name: str
    kind: str
    female: bool
    role: str = ""

    def __str__(self) -> str:
        """The name alone."""
        return self.name

    @property
    def he(self) -> str:
        """Subject pronoun."""
        return "she" if self.female else "he"

    @property
    def him(self) -> str:
        """Object pronoun."""
        return "her" if self.female else "him"

    @property
    def his(self) -> str:
        """Possessive pronoun."""
        return "her" if self.female else "his"

    @property
    def himself(self) -> str:
        """Reflexive pronoun."""
        return "herself" if self.female else "himself"

    @property
    def He(self) -> str:  # noqa: N802  (the capital is the meaning)
        """Subject pronoun that begins a sentence."""
        return self.he.capitalize()

    @property
    def His(self) -> str:  # noqa: N802
        """Possessive pronoun that begins a sentence."""
        return self.his.capitalize()

    @property
    def call(self) -> str:
        """How a grown-up is called when spoken to: "Mom"."""
        return self.name.capitalize()

    @property
    def is_child(self) -> bool:
        """True for boys and girls, False for animals and grown-ups."""
        return self.kind in ("boy", "girl")

    @property
    def kind_a(self) -> str:
        """What they are, with its article: "an owl"."""
        return with_article(self.kind)

    @property
    def titled(self) -> str:
        """The name, with the kind where it cannot be guessed: "Tom", "Pip the mouse"."""
        return self.name if self.is_child else f"{self.name} the {self.kind}"

    @property
    def intro(self) -> str:
        """First mention after "his" or "her": "friend Tom", "sister Mia", "friend Pip the mouse"."""
        return f"{self.role} {self.titled}"


@dataclass(frozen=True, slots=True)
class Thing:
    """An object, a food or an unnamed animal; unused properties stay empty."""

    noun: str
    look: str
    part: str = ""  # what can come off it
    using: str = ""  # playing with it: "flying", "throwing"
    moves: str = ""  # how it gets away
    food: str = ""  # what the animal eats
    sound: str = ""  # what the animal says

    def __str__(self) -> str:
        """The look and the noun: "red ball"."""
        return f"{self.look} {self.noun}"

    @property
    def a(self) -> str:
        """The thing with its article: "an orange kite"."""
        return with_article(str(self))

    @property
    def a_noun(self) -> str:
        """The bare noun with its article: "a kite"."""
        return with_article(self.noun)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a story happens, and the spots in it where something small can be."""

    name: str
    preposition: str
    spots: tuple[str, ...]

    def __str__(self) -> str:
        """The place with its article: "the garden"."""
        return f"the {self.name}"

    @property
    def at(self) -> str:
        """Being there: "in the garden"."""
        return f"{self.preposition} the {self.name}"


def names(listed: str) -> tuple[str, ...]:
    """The names in a space-separated list."""
    return tuple(listed.split())


def things(noun: str, looks: str, **properties: str) -> tuple[Thing, ...]:
    """One `Thing` for each look in the space-separated `looks`."""
    return tuple(Thing(noun, look, **properties) for look in looks.split())


# Few names, so that a small model has met each often enough to keep them apart after minutes of training (docs/experiments.md).
BOYS = names("Tom Ben")
GIRLS = names("Lily Mia")
MALE_ANIMALS = names("Pip Milo")
FEMALE_ANIMALS = names("Daisy Bella")

FEMALE_KIND = {"boy": "girl", "man": "woman"}  # animals are called the same either way
CHILDREN = ("boy",)
FOREST_ANIMALS = (
    "rabbit",
    "mouse",
    "squirrel",
    "fox",
    "bear",
    "hedgehog",
    "frog",
    "turtle",
    "deer",
    "badger",
)
SMALL_FOREST_ANIMALS = ("rabbit", "mouse", "squirrel", "hedgehog", "frog")

PARENTS = (("mom", True), ("dad", False))
GROWN_UPS = (*PARENTS, ("grandma", True), ("grandpa", False))

SMALL_TOYS = (
    *things("ball", "red blue yellow green"),
    *things("toy car", "red blue green little"),
    *things("teddy bear", "brown soft little"),
    *things("doll", "pretty little new"),
    *things("toy boat", "blue white little"),
    *things("toy dinosaur", "green orange little"),
    *things("toy horse", "white brown"),
    *things("toy bunny", "white soft little"),
    *things("toy duck", "yellow little"),
)
BREAKABLE_TOYS = (
    *things("toy truck", "red blue yellow big", part="wheel"),
    *things("toy train", "blue green red", part="wheel"),
    *things("toy car", "red blue green new", part="wheel"),
    *things("toy plane", "white red blue", part="wing"),
    *things("toy robot", "blue big green", part="arm"),
    *things("doll", "pretty new little", part="arm"),
    *things("toy horse", "brown white", part="leg"),
)
SHARED_TOYS = (
    *things("ball", "red blue yellow big"),
    *things("toy truck", "yellow red big"),
    *things("bucket", "red blue green"),
    *things("shovel", "red blue yellow"),
    *things("toy boat", "white blue"),
    *things("toy plane", "white red"),
    *things("toy train", "blue green"),
)
FLYING_TOYS = (
    *things("kite", "red blue yellow orange green", using="flying", moves="flew up and up"),
    *things("ball", "red blue yellow green", using="throwing", moves="went up very high"),
    *things("toy plane", "white red blue", using="throwing", moves="flew up very high"),
    *things("paper plane", "white yellow", using="throwing", moves="flew up very high"),
)
LOST_ANIMALS = (
    *things("kitten", "gray white little black", food="milk", sound="Meow"),
    *things("puppy", "brown white little black", food="meat", sound="Woof"),
    *things("duckling", "yellow little", food="bread", sound="Quack"),
    *things("chick", "yellow little", food="corn", sound="Peep"),
    *things("bunny", "white gray little brown", food="carrots", sound="Squeak"),
)
BOATS = (*things("boat", "little white blue red"), *things("paper boat", "white yellow"))
BIRDS = things("bird", "blue brown little yellow red gray")
PETS = things("dog", "big brown white black spotted")
RIDES = (*things("bike", "red blue green new yellow"), *things("scooter", "red blue green new"))
DRUMS = (*things("drum", "red blue big new"), *things("horn", "shiny yellow new"))
NEW_FOODS = (
    *things("salad", "green fresh"),
    *things("fish", "white hot"),
    *things("fruit", "yellow orange"),
    *things("pumpkin", "orange hot"),
    *things("rice", "yellow hot"),
    *things("corn", "yellow hot"),
)
CAKES = (
    *things("cake", "big chocolate apple lemon"),
    *things("pie", "apple big cherry berry"),
)
SEEDS = (
    *things("sunflower", "yellow tall"),
    *things("flower", "red pink purple blue"),
    *things("tomato plant", "green tall"),
    *things("bean plant", "green tall"),
)
HATS = (*things("hat", "red blue black old green"), *things("cap", "red blue orange"))
UMBRELLAS = things("umbrella", "red yellow blue green big")
SCARY_SHAPES = (
    *things("coat", "long old big"),
    *things("chair", "old big"),
    *things("teddy bear", "big brown"),
    *things("hat", "tall black"),
)
SPILLS = (
    *things("milk", "cold white"),
    *things("juice", "red orange purple"),
    *things("paint", "blue red green"),
)
CRAFTS = (
    *things("picture", "pretty big"),
    *things("card", "pretty big yellow"),
    *things("drawing", "funny pretty"),
)
BLANKETS = things("blanket", "blue soft red yellow warm")
FOREST_FOODS = (
    *things("berries", "red sweet blue"),
    *things("nuts", "brown big"),
    *things("apples", "red sweet green"),
    *things("mushrooms", "brown big"),
)

GARDEN = Place("garden", "in", ("under the bench", "behind the flowers", "by the gate", "in the tall grass"))
PARK = Place("park", "at", ("under the slide", "behind a big tree", "by the swings", "next to the pond"))
YARD = Place("yard", "in", ("by the fence", "behind the shed", "under a bush", "near the back door"))
BEACH = Place("beach", "at", ("under a towel", "behind a big rock", "in the sand", "near the water"))
PLAYGROUND = Place("playground", "at", ("under the slide", "by the swings", "behind the bench", "in the sand box"))
FARM = Place("farm", "at", ("in the hay", "behind the barn", "by the pig pen", "under the old cart"))
FIELD = Place("field", "in", ("in the tall grass", "behind a rock", "under a bush", "by the fence"))

OUTDOORS = (GARDEN, PARK, YARD, BEACH, PLAYGROUND, FARM, FIELD)
PLAY_PLACES = (GARDEN, PARK, YARD, PLAYGROUND)
TREE_PLACES = (GARDEN, PARK, YARD, FIELD)
STRAY_PLACES = (PARK, FIELD, PLAYGROUND)

MARKET = Place("market", "at", ("by the apples", "near the bread", "next to the flowers"))
ZOO = Place("zoo", "at", ("by the lions", "near the monkeys", "next to the elephants"))
TOY_STORE = Place("toy store", "in", ("by the dolls", "near the trains", "next to the teddy bears"))
FAIR = Place("fair", "at", ("by the balloons", "near the horses", "next to the big wheel"))
CROWDED_PLACES = (MARKET, ZOO, TOY_STORE, FAIR)

FOREST = Place("forest", "in", ("under a log", "behind an oak tree", "by the stream", "in the leaves"))
MEADOW = Place("meadow", "in", ("in the tall grass", "behind a rock", "by the flowers", "under a bush"))
HILL = Place("hill", "on", ("in the tall grass", "behind a rock", "under a tree"))
PICNIC_PLACES = (PARK, FIELD, HILL)
WILD_PLACES = (FOREST, MEADOW, HILL)

WHEN: dict[str, tuple[str, ...]] = {
    "any": ("One day", "One day", "One morning", "One afternoon", "One Saturday"),
    "sun": (
        "One day",
        "One day",
        "One sunny day",
        "One sunny morning",
        "One warm afternoon",
        "On a sunny day",
    ),
    "indoor": (
        "One day",
        "One day",
        "On a rainy day",
        "On a rainy day",
        "One rainy afternoon",
        "One morning",
    ),
    "rain": (
        "On a rainy day",
        "On a rainy day",
        "On a rainy day",
        "One rainy day",
        "One rainy morning",
        "One gray and rainy day",
    ),
    "snow": ("One snowy day", "On a snowy day", "One cold morning", "On a cold winter day"),
    "night": ("One night", "One dark night", "One evening", "Late one night"),
}
