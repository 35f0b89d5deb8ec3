"""Whether two tokenizer libraries sort the characters of a text alike: as letters, numbers, white space, or none of these.

GPT-2's pattern asks no more of a character beyond ASCII than this, so with the sorts of its characters alike a text is split into
words alike. Libraries follow Unicode at their own pace: one that knows a newer script than the other sees letters there.

To see the sort from outside, a text is encoded with a vocabulary made for it: ``a``, ``1`` and ``!`` merge with whatever
byte follows, and nothing else merges. A character that is a letter merges with the ``a`` before it and not with the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Encode = Callable[[Sequence[str]], Sequence[Sequence[int]]]
"""Texts to the token ids of each."""

_CODE_POINTS = 0x110000
_UNSEEN, _SAME, _OTHER = range(3)


class CharacterSorts:
    """Compares two libraries on each character, once, when it is first seen."""

    def __init__(self, one: Encode, other: Encode) -> None:
        """The two encode with ``probe_vocabulary``; all of ASCII is compared at once.

        ``ascii_agrees`` then says what came out.
        """
        self._one, self._other = one, other
        self._seen = np.full(_CODE_POINTS, _UNSEEN, dtype=np.uint8)
        self._compare(np.arange(128))
        self.ascii_agrees = not np.any(self._seen[:128] == _OTHER)

    def agree_on(self, text: str) -> bool:
        """Whether both sort every character of ``text`` alike."""
        if text.isascii():
            return self.ascii_agrees
        codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        seen = self._seen[codes]
        if np.any(seen == _UNSEEN):
            self._compare(np.unique(codes[seen == _UNSEEN]))
            seen = self._seen[codes]
        return not np.any(seen == _OTHER)

    def _compare(self, codes: npt.NDArray[Any]) -> None:
        texts = [f"a{character}1{character}!{character}" for character in map(chr, codes.tolist())]
        pairs = zip(self._one(texts), self._other(texts), strict=True)
        self._seen[codes] = [_SAME if list(one) == list(other) else _OTHER for one, other in pairs]


def probe_vocabulary() -> str:
    """The ``tokenizer.json`` that shows a character's sort, of GPT-2's form."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(before, byte) for before in "a1!" for byte in alphabet]
    tokens = [*alphabet, *(before + byte for before, byte in merges)]
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return json.dumps(json.loads(backend.to_str()))
