"""One tokenizer: a process of ``benchmarks.peers``.

    python -m benchmarks.sides.tokenizing SIDE FOLDER GATE WARMUP STEPS

``FOLDER/tokenizer`` holds GPT-2's vocabulary and merges, ``FOLDER/documents.json`` a list of texts. A step encodes all of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.turn_gate import TurnGate

Encode = Callable[[Sequence[str]], int]
_LONG = 10**7


def zerostream(folder: Path) -> Encode:
    """What ``zerostream prepare`` calls."""
    from framework.config import build_config
    from framework.data.fast_encoding import DocumentEncoder
    from framework.data.tokenizer import build_tokenizer

    values = {"tokenizer": {"kind": "pretrained", "path": str(folder / "tokenizer")}}
    tokenizer = build_tokenizer(build_config(values, origin="benchmark"), documents=())
    encoder = DocumentEncoder(tokenizer)
    return lambda texts: len(encoder.encode_with_ends(texts)[0]) - len(texts)


def transformers_fast(folder: Path) -> Encode:
    """Hugging Face's fast tokenizer, a batch at a time."""
    from transformers import GPT2TokenizerFast  # type: ignore[attr-defined]

    tokenizer = GPT2TokenizerFast.from_pretrained(folder / "tokenizer")
    return lambda texts: sum(len(ids) for ids in tokenizer(list(texts))["input_ids"])


def tokenizers(folder: Path) -> Encode:
    """The library below it, with its fast path that skips offsets."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer: Any = ByteLevelBPETokenizer(str(folder / "tokenizer/vocab.json"), str(folder / "tokenizer/merges.txt"))
    return lambda texts: sum(len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts)))


def tiktoken(folder: Path) -> Encode:
    """OpenAI's, with the same merges, a batch on all threads."""
    import tiktoken

    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
    ranks = _ranks(folder / "tokenizer/merges.txt")
    encoding = tiktoken.Encoding("local", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda texts: sum(len(ids) for ids in encoding.encode_ordinary_batch(list(texts)))


def _ranks(merges: Path) -> dict[bytes, int]:
    """Single bytes, then every merge in its order; GPT-2's files write a byte as a printable character."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    ranks = {bytes([byte]): rank for rank, byte in enumerate([*printable, *others])}
    for line in merges.read_text(encoding="utf-8").splitlines()[1:]:
        if line:
            ranks[bytes(byte_of[character] for character in line if character != " ")] = len(ranks)
    return ranks


SIDES: dict[str, Callable[[Path], Encode]] = {
    side.__name__: side for side in (zerostream, transformers_fast, tokenizers, tiktoken)
}


def main() -> None:
    """Loads the tokenizer and takes turns."""
    side, folder, gate_folder, warmup, steps = sys.argv[1:]
    gate = TurnGate(Path(gate_folder), int(warmup), int(steps))
    texts = json.loads(Path(folder, "documents.json").read_text(encoding="utf-8"))
    encode = SIDES[side](Path(folder))
    counted = 0
    gate.begin_turn()
    for step in range(1, _LONG):
        counted += encode(texts)
        if gate.ends_turn(step):
            gate.end_turn({"tokens": counted, "bytes": int(steps) * sum(len(text.encode()) for text in texts)})
            counted = 0
            gate.begin_turn()


if __name__ == "__main__":
    main()
