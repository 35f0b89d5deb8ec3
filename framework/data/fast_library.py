"""gigatoken: when it may stand in for Hugging Face's tokenizers, and how that is said when it may not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from framework.data.character_sorts import CharacterSorts, probe_vocabulary

if TYPE_CHECKING:
    import gigatoken

_VARIABLE = "ZEROSTREAM_GIGATOKEN"


class UnfitError(Exception):
    """Why gigatoken cannot be used, as the end of a sentence: the standard library does the work then."""


@contextmanager
def unfit_if_it_fails() -> Iterator[None]:
    """Turns whatever gigatoken may raise into an ``UnfitError``: another version has other names, a panic of its Rust code is no
    ``Exception``, a library that is missing is an ``OSError``."""
    try:
        yield
    except (UnfitError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise UnfitError(f"gigatoken fails ({type(error).__name__}: {error})") from error


def is_wanted() -> bool:
    """Whether gigatoken is installed, and ``ZEROSTREAM_GIGATOKEN`` does not say 0."""
    return os.environ.get(_VARIABLE) != "0" and find_spec("gigatoken") is not None


def load_fast(tokenizer_json: str) -> gigatoken.Tokenizer:
    """gigatoken with the vocabulary of a ``tokenizer.json``.

    Raises:
        UnfitError: it is not wanted or not installed, or refuses the vocabulary.
    """
    if os.environ.get(_VARIABLE) == "0":
        raise UnfitError(f"{_VARIABLE} is 0")
    if find_spec("gigatoken") is None:
        raise UnfitError("gigatoken, which is much faster, is not installed (pip install 'zerostream[fast]')")
    with unfit_if_it_fails():
        import gigatoken

        return gigatoken.Tokenizer.from_json(tokenizer_json)


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
