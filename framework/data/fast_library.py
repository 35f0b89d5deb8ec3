"""gigatoken: when it may stand in for Hugging Face's tokenizers, and how that is said when it may not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from framework.data.character_sorts import CharacterSorts, probe_vocabulary

if TYPE_CHECKING:
    import gigatoken


class UnfitError(Exception):
    """Why gigatoken cannot be used, as the end of a sentence: the standard library does the work then."""


def is_installed() -> bool:
    """Whether gigatoken can be imported."""
    try:
        import gigatoken  # noqa: F401
    except ImportError:
        return False
    return True


def load_fast(tokenizer_json: str) -> gigatoken.Tokenizer:
    """gigatoken with the vocabulary of a ``tokenizer.json``.

    Raises:
        UnfitError: it is not installed, or refuses the vocabulary.
    """
    if not is_installed():
        raise UnfitError("gigatoken, which is much faster, is not installed (pip install 'zerostream[fast]')")
    import gigatoken

    try:
        return gigatoken.Tokenizer.from_json(tokenizer_json)
    except Exception as error:  # whatever it raises, there is another way
        raise UnfitError(f"gigatoken cannot load this tokenizer: {error}") from error


def compared_sorts() -> CharacterSorts:
    """Which texts gigatoken and `tokenizers` split into words alike.

    Raises:
        UnfitError: gigatoken is not installed, or sees ASCII in another way.
    """
    import tokenizers

    vocabulary = probe_vocabulary()
    fast, standard = load_fast(vocabulary), tokenizers.Tokenizer.from_str(vocabulary)
    sorts = CharacterSorts(
        lambda texts: [fast.encode(text).tolist() for text in texts],
        lambda texts: [each.ids for each in standard.encode_batch_fast(list(texts), add_special_tokens=False)],
    )
    if not sorts.ascii_agrees:
        raise UnfitError("gigatoken takes a character of ASCII for something else")
    return sorts


def beginnings(texts: Sequence[str], characters: int) -> list[str]:
    """The first texts to compare the two on: so many characters in all at most, the last text cut there."""
    chosen = []
    for text in texts:
        chosen.append(text[:characters])
        characters -= len(text)
        if characters <= 0:
            break
    return chosen


def print_sentence(sentence: str) -> None:
    """To standard error."""
    print(f"zerostream: {sentence}", file=sys.stderr, flush=True)
