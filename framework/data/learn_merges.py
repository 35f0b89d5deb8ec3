"""A process that learns a byte-level BPE with gigatoken, which prints what it is doing: `fast_learning` starts it.

    python -m framework.data.learn_merges VOCAB_SIZE END_OF_TEXT SAMPLE_BYTES

Standard input has the documents, UTF-8, with 0xFF between them. It learns twice: from the first SAMPLE_BYTES, and from all.
Standard output gets JSON, a list of the two, bytes as Latin-1: ``merges`` in their order, and ``words``, the different
words of the text, if the merges may make one token of each of them.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

SEPARATOR = b"\xff"
"""A byte that no UTF-8 has."""


def main() -> None:
    """Reads, learns, writes."""
    vocab_size, end_of_text, sample_bytes = sys.argv[1:]
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as result:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        text = sys.stdin.buffer.read()
        learned = [_learn(part, int(vocab_size), end_of_text) for part in (text[: int(sample_bytes)], text)]
        json.dump(learned, result)


def _learn(text: bytes, vocab_size: int, end_of_text: str) -> dict[str, Any]:
    from gigatoken import train_bpe
    from gigatoken.gigatoken_rs import pretokenized_counts

    vocabulary, merges = train_bpe(text, vocab_size, [end_of_text], separator=SEPARATOR)
    words = {word for word, _ in pretokenized_counts(text, SEPARATOR)}
    if not words <= set(vocabulary.values()):
        words = set()
    return {
        "merges": [[left.decode("latin-1"), right.decode("latin-1")] for left, right in merges],
        "words": sorted(word.decode("latin-1") for word in words),
    }


if __name__ == "__main__":
    main()
