"""The token ids of ``Tokenizer``, from gigatoken, where it is installed and proves to give the same ones.

gigatoken finds words with SIMD instructions and remembers the ids of those that it has met, which is some fifty times as
fast. It is believed only as far as it was compared with `tokenizers`:

* The tokenizer must be of GPT-2's form: a byte-level BPE behind GPT-2's pattern of words, and nothing else.
* Every character is compared before the first document that has it is encoded (``framework.data.character_sorts``).
  Documents with a character that the two libraries sort differently are left to `tokenizers`.
* Some texts with corners are compared at the start, 64 KiB of documents before the first batch, and a piece of a document
  of each batch after it.

Whatever is found before the first batch means that `tokenizers` does all, and so does a failure of gigatoken from then on. A
difference that is found later is an error, for what was written by then may be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from framework.data.fast_library import (
    UnfitError,
    beginnings,
    compared_sorts,
    load_fast,
    print_sentence,
    unfit_if_it_fails,
)
from framework.data.tokenizer import Tokenizer
from framework.errors import TokenizerError

if TYPE_CHECKING:
    import gigatoken

FIRST_SAMPLE_CHARACTERS = 64 * 1024
SAMPLE_CHARACTERS = 1024
"""Of one document a batch, which has 1 MB: `tokenizers` takes some 0.5 ms for so much, gigatoken 5 ms for the batch."""

_ODD_TEXTS = (
    "it's we'll I'd you've 'tis 's's 'S 'LL ''' they're'm I'M '",
    "  two  spaces   three \t\ttabs\n\n\nlines \r\n \n x \x0b\x0c y\u00a0\u00a0z \u3000 ",
    "1 22 333 1,000.50 3rd x1y2 \u0663\u0664 \u00bd\u00b2 \u216b 1st2nd",
    "<|endoftext|> inside<|endoftext|><|endof|>",
    "a\u0308 e\u0301\u0301 \u200d\u200b \U0001f43b\u200d\u2744\ufe0f \U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "\u5154\u5b50\u8dd1\u5f97\u5f88\u5feb\u3002 \ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22",
    "\u0905\u0928\u0941\u091a \u0639\u0631\u0628\u064a",
    "\x00\x01\x1f \x7f\x80\x85\u2028\u2029\ufeff\ufffd",
    "".join(chr(code) * 2 + " " for code in range(128)),
    "ab" * 700 + " " * 700 + "\n" * 300 + "!" * 300 + "7" * 300,
    "",
)

Ids = npt.NDArray[np.uint32]


class DocumentEncoder:
    """Encodes batches of documents as ``Tokenizer.encode_with_ends`` does, the fast way where there is one."""

    def __init__(self, tokenizer: Tokenizer, say: Callable[[str], None] | None = None) -> None:
        """``say`` is told, in a sentence, why the fast way is not taken; it goes to standard error by default."""
        self._tokenizer = tokenizer
        self._say = say or print_sentence
        self._fast: _FastTokenizer | None = None
        self._has_begun = False

    def encode_with_ends(self, texts: Sequence[str]) -> tuple[npt.NDArray[Any], list[int]]:
        """The documents as a shard holds them: back to back, end-of-text after each.

        Returns:
            [tokens] of ``token_dtype``, and how many of them each document has, its end-of-text included.

        Raises:
            TokenizerError: after the first batch, gigatoken gave other ids than `tokenizers`.
        """
        if not self._has_begun:
            self._begin(texts)
        if self._fast is None:
            return self._tokenizer.encode_with_ends(texts)
        try:
            with unfit_if_it_fails():
                encoded = self._fast.encode_documents(texts)
                sample = texts[len(texts) // 2][:SAMPLE_CHARACTERS] if texts else ""
                agrees = self._fast.agrees_on([sample])
        except UnfitError as reason:
            self._go_on_slowly(reason)
            return self._tokenizer.encode_with_ends(texts)
        if not agrees:
            raise TokenizerError(
                f"gigatoken gives other token ids than Hugging Face's tokenizers for a document with {sample[:60]!r}",
                fix="set ZEROSTREAM_GIGATOKEN=0, remove data.shards_dir, and prepare again",
            )
        return self._joined(encoded)

    def _begin(self, texts: Sequence[str]) -> None:
        self._has_begun = True
        try:
            with unfit_if_it_fails():
                fast = _FastTokenizer(self._tokenizer)
                if not fast.agrees_on(beginnings(texts, FIRST_SAMPLE_CHARACTERS)):
                    raise UnfitError("gigatoken gives other token ids for this text")
        except UnfitError as reason:
            self._go_on_slowly(reason)
        else:
            self._fast = fast

    def _go_on_slowly(self, reason: UnfitError) -> None:
        self._fast = None
        self._say(f"tokenizing with Hugging Face's tokenizers: {reason}")

    def _joined(self, encoded: Sequence[Ids]) -> tuple[npt.NDArray[Any], list[int]]:
        end = np.array([self._tokenizer.end_of_text_id], dtype=np.uint32)
        lengths = [len(ids) + 1 for ids in encoded]
        pieces = [piece for ids in encoded for piece in (ids, end)]
        dtype = self._tokenizer.token_dtype
        tokens = np.concatenate(pieces).astype(dtype, copy=False) if pieces else np.zeros(0, dtype)
        return tokens, lengths


class _FastTokenizer:
    """gigatoken with the vocabulary of a ``Tokenizer``, beside it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Loads it and compares the two on texts with corners.

        Raises:
            UnfitError: it is not installed, cannot load this tokenizer, or differs.
        """
        self._tokenizer = tokenizer
        self._gigatoken = _load(tokenizer)
        self._sorts = compared_sorts()
        if not self.agrees_on(_ODD_TEXTS):
            raise UnfitError("gigatoken gives other token ids for a text made to try it")

    def agrees_on(self, texts: Sequence[str]) -> bool:
        """Whether both give the same ids for each."""
        expected = self._tokenizer.encode_documents(texts)
        return all(ids.tolist() == each for ids, each in zip(self.encode_documents(texts), expected, strict=True))

    def encode_documents(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of each text, [tokens] uint32; end-of-text is not added."""
        encode, agree_on = self._gigatoken.backend.encode, self._sorts.agree_on
        return [encode(text) if text.isascii() or agree_on(text) else self._encode_slowly(text) for text in texts]

    def _encode_slowly(self, text: str) -> Ids:
        return np.array(self._tokenizer.encode(text), dtype=np.uint32)


def _load(tokenizer: Tokenizer) -> gigatoken.Tokenizer:
    if not _has_gpt2_form(json.loads(tokenizer.to_json())):
        raise UnfitError("gigatoken is used for tokenizers of GPT-2's form only, and this one has another")
    return load_fast(tokenizer.to_json(with_added_tokens=False))  # which never match inside text


def _has_gpt2_form(values: dict[str, Any]) -> bool:
    """Whether a ``tokenizer.json`` is a byte-level BPE that splits words by GPT-2's pattern, and does nothing else."""
    from tokenizers.pre_tokenizers import ByteLevel

    model, splits = values["model"], values["pre_tokenizer"] or {}
    plain = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
    return (
        model["type"] == "BPE"
        and not any(model.get(key) for key in plain)
        and set(ByteLevel.alphabet()) <= model["vocab"].keys()
        and values["normalizer"] is None
        and (splits.get("type"), splits.get("add_prefix_space"), splits.get("use_regex")) == ("ByteLevel", False, True)
        and all(token["special"] for token in values["added_tokens"])
    )
