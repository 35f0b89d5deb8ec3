"""The merges of a byte-level BPE, learned by gigatoken, where they prove to be those of Hugging Face's trainer.

Both take the most frequent pair first, and of equally frequent ones that with the smaller ids, so that the merges are a
function of the words and their counts. The words are the same where every character of the text is sorted alike
(``framework.data.character_sorts``). Beyond that, both learn from the beginning of the text, and what comes out is compared.

gigatoken does not stop when no pair is left, as the trainer does: what it says after that is cut off.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from framework.data import learn_merges as learning
from framework.data.fast_library import UnfitError, beginnings, compared_sorts

SAMPLE_CHARACTERS = 256 * 1024
"""Both learn from so much: the trainer takes a quarter of a second for it."""

Merges = list[tuple[str, str]]
"""Pairs of tokens in their order, bytes written as ``tokenizer.json`` writes them."""
Learn = Callable[[Sequence[str]], Merges]


def learn_merges(texts: Sequence[str], vocab_size: int, end_of_text: str, trainer: Learn) -> Merges:
    """What ``trainer`` would learn from ``texts``: at most ``vocab_size`` tokens, bytes and ``end_of_text`` included.

    Raises:
        UnfitError: gigatoken is not installed, or does not prove to learn the same.
    """
    sorts = compared_sorts()
    if not all(sorts.agree_on(text) for text in texts):
        raise UnfitError("gigatoken sorts a character of this text in another way")
    sample = beginnings(texts, SAMPLE_CHARACTERS)
    from_sample, from_all = _learn(texts, sample, vocab_size, end_of_text)
    if from_sample != trainer(sample):
        raise UnfitError("gigatoken learns something else from the beginning of this text")
    return from_all


def byte_symbols() -> str:
    """The character for each byte, 0 to 255, in a byte-level vocabulary: itself if it can be seen, else one from U+0100 on.

    (Radford et al. 2019, section 2.2, and the code of GPT-2.)
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in visible else next(others)) for byte in range(256))


def _learn(texts: Sequence[str], sample: Sequence[str], vocab_size: int, end_of_text: str) -> list[Merges]:
    """From the sample, which is the beginning of the texts, and from all of them, in a process of its own."""
    sample_bytes = len(_joined(sample))
    command = [sys.executable, "-m", learning.__name__, str(vocab_size), end_of_text, str(sample_bytes)]
    done = subprocess.run(command, input=_joined(texts), capture_output=True, check=False)
    if done.returncode:
        raise UnfitError(f"gigatoken cannot learn from this text: {_last_line(done.stderr)}")
    return [_read(learned) for learned in json.loads(done.stdout)]


def _joined(texts: Sequence[str]) -> bytes:
    return learning.SEPARATOR.join(text.encode() for text in texts)


def _read(learned: dict[str, Any]) -> Merges:
    symbols = str.maketrans(dict(enumerate(byte_symbols())))
    merges = [(left.translate(symbols), right.translate(symbols)) for left, right in learned["merges"]]
    words = [word.translate(symbols) for word in learned["words"]]
    return _until_no_pair_is_left(merges, words) if words else merges


def _until_no_pair_is_left(merges: Merges, words: Sequence[str]) -> Merges:
    """Without those that were listed after every word had become one token."""
    last = {left + right: number for number, (left, right) in reversed(list(enumerate(merges, start=1)))}
    needed = max((last[word] for word in words if len(word) > 1), default=0)
    if not _make_one_token_of_each(merges[:needed], words) or _make_one_token_of_each(merges[: needed - 1], words):
        raise UnfitError("gigatoken does not say where the pairs of this text come to an end")
    return merges[:needed]


def _make_one_token_of_each(merges: Merges, words: Sequence[str]) -> bool:
    from tokenizers.models import BPE

    tokens = dict.fromkeys([*byte_symbols(), *(left + right for left, right in merges)])
    model = BPE({token: index for index, token in enumerate(tokens)}, merges)
    return all(len(model.tokenize(word)) == 1 for word in words)


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it ended without a word"
