"""A text as a corpus in memory: the validation shards that ``prepare`` would write of it, without the files.

What reads shards reads it, so a text is evaluated by the same code, and to the same figures, as its shards would be.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framework.data.corpus import Corpus, Part
from framework.data.manifest import ShardEntry, ShardManifest
from framework.data.shards import ShardContent, shard_name
from framework.data.tokenizer import Tokenizer

DOCUMENTS_AT_ONCE = 256
"""Handed to the tokenizer together: enough for all its threads."""

TokenArray = npt.NDArray[Any]


@dataclass(frozen=True)
class MemoryShards:
    """Shards that were never written; ``contents`` by their name. ``text`` is where they come from, for messages."""

    text: str
    contents: Mapping[str, ShardContent]

    def where(self, entry: ShardEntry) -> str:
        """The text."""
        return self.text

    def read(self, entry: ShardEntry) -> ShardContent:
        """The shard's content."""
        return self.contents[entry.name]


def text_corpus(documents: Iterable[str], tokenizer: Tokenizer, *, name: str, shard_tokens: int) -> Corpus:
    """The documents as the validation split of a corpus, cut into shards as ``prepare`` cuts them.

    Memory: two or four bytes a token.

    Args:
        documents: at least one.
        tokenizer: of the model that will read it.
        name: of the text, for messages.
        shard_tokens: as ``data.shard_tokens``. Each shard's text begins with an end-of-text of its own, and its rows are
            cut from there.

    Raises:
        SourceError: whatever reading ``documents`` raises.
    """
    contents: dict[str, ShardContent] = {}
    entries: list[ShardEntry] = []
    for tokens, text_bytes in _shards(_encode(documents, tokenizer), shard_tokens):
        shard = shard_name("validation", len(entries))
        ends = np.cumsum([len(each) for each in tokens])
        contents[shard] = ShardContent(np.concatenate(tokens), np.concatenate(([0], ends[:-1])), ends)
        entries.append(
            ShardEntry(
                name=shard,
                split="validation",
                size_bytes=0,
                sha256="",
                documents=len(tokens),
                tokens=int(ends[-1]),
                text_bytes=text_bytes,
            )
        )
    manifest = ShardManifest(
        tokenizer_fingerprint=tokenizer.fingerprint,
        source_fingerprint="",
        settings_fingerprint="",
        vocab_size=tokenizer.vocab_size,
        token_dtype=tokenizer.token_dtype,
        end_of_text_id=tokenizer.end_of_text_id,
        shards=tuple(entries),
    )
    return Corpus((Part(Path(name), manifest, MemoryShards(name, contents)),))


def _encode(documents: Iterable[str], tokenizer: Tokenizer) -> Iterator[tuple[TokenArray, int]]:
    """Each document's tokens, and its bytes of UTF-8."""
    remaining = iter(documents)
    while texts := list(itertools.islice(remaining, DOCUMENTS_AT_ONCE)):
        tokens, lengths = tokenizer.encode_with_ends(texts)
        start = 0
        for text, length in zip(texts, lengths, strict=True):
            yield tokens[start : start + length], len(text.encode())
            start += length


def _shards(documents: Iterable[tuple[TokenArray, int]], shard_tokens: int) -> Iterator[tuple[list[TokenArray], int]]:
    """The documents of each shard, and their bytes; a shard is closed when it holds ``shard_tokens``."""
    shard: list[TokenArray] = []
    tokens = text_bytes = 0
    for document, document_bytes in documents:
        shard.append(document)
        tokens += len(document)
        text_bytes += document_bytes
        if tokens >= shard_tokens:
            yield shard, text_bytes
            shard, tokens, text_bytes = [], 0, 0
    if shard:
        yield shard, text_bytes
