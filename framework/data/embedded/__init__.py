"""The embedded corpus: small made-up stories, for pretraining where there is no internet.

The stories are synthetic: a program writes them, nothing is downloaded or copied. They follow the spirit of
TinyStories (the words of a three or four year old, one small problem, a happy end), so a model of a million
parameters can learn from them to write whole, grammatical stories that stay on their characters.

How a story is made, from the largest choice to the smallest:

1. Plan (`plots_*.py`): lost toy, sharing, afraid of the dark, learning to swim ... It fixes what happens and
   why, in five parts: opening, problem, attempts, solution, ending.
2. Cast and props (`vocabulary.py`), drawn once: a protagonist, perhaps a friend and a grown-up, a thing with
   its color, a place with its hiding spots. They stay the same to the last line.
3. Beats and phrasing (`grammar.py`): each part is a row of beats, and one of each beat's phrasings is drawn.
4. Slots: inside a phrasing, inline choices vary the words, and slots take the cast and props, with pronouns
   and articles that agree. The two characters are of different gender, and mostly a name stands where a pronoun
   would do, so that who is meant can be told from few words (docs/experiments.md).

For example, the beat `{hero} looked {spot}. There was {animal.a}! It was [alone and thin|all alone].` becomes
"Lily looked under the slide. There was a gray kitten! It was all alone."

Equal seeds give equal stories on every machine, and a longer run begins with the shorter one.
"""

from framework.data.embedded.stories import MAX_STORIES, PLOTS, Story, build_story, generate_stories

__all__ = ["MAX_STORIES", "PLOTS", "Story", "build_story", "generate_stories"]
