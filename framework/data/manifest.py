"""The shards' manifest: what was written, from which text, with which tokenizer.

A shards folder holds::

    manifest.json                 this file; written last, so that its presence means the shards are complete
    tokenizer/tokenizer.json      the tokenizer that wrote them
    train-000000.tar ...          shards, one plain tar each
    validation-000000.tar ...

A shard's members come in pairs, one pair a block of documents (webdataset's key is the block's number)::

    000000.tokens.npy    [tokens] uint16 or uint32: the documents' tokens back to back, each document's last
                         token being end-of-text
    000000.offsets.npy   [documents + 1] uint32: document i is tokens[offsets[i]:offsets[i + 1]]
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from framework.durable import write_durably
from framework.errors import ShardError

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
TOKENIZER_FOLDER = "tokenizer"

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")


@dataclass(frozen=True)
class ShardEntry:
    """One shard. ``tokens`` counts each document's end-of-text; ``text_bytes`` is UTF-8 text without it."""

    name: str
    split: Split
    size_bytes: int
    sha256: str
    documents: int
    tokens: int
    text_bytes: int


@dataclass(frozen=True)
class ShardManifest:
    """All shards of one prepared corpus, in the order in which they were written."""

    tokenizer_fingerprint: str
    source_fingerprint: str
    settings_fingerprint: str
    vocab_size: int
    token_dtype: Literal["uint16", "uint32"]
    end_of_text_id: int
    shards: tuple[ShardEntry, ...]
    format_version: int = FORMAT_VERSION

    def split(self, split: Split) -> tuple[ShardEntry, ...]:
        """The shards of one split."""
        return tuple(shard for shard in self.shards if shard.split == split)

    def tokens(self, split: Split) -> int:
        return sum(shard.tokens for shard in self.split(split))

    def text_bytes(self, split: Split) -> int:
        return sum(shard.text_bytes for shard in self.split(split))

    def bytes_per_token(self, split: Split) -> float:
        """Bytes of UTF-8 text per token of a split, end-of-text counted as a token without text."""
        return self.text_bytes(split) / self.tokens(split)

    @property
    def data_fingerprint(self) -> str:
        """SHA-256, in hex, over tokenizer and every shard's name and hash: what the order of sequences depends on."""
        content = [self.tokenizer_fingerprint, *(f"{shard.name}:{shard.sha256}" for shard in self.shards)]
        return hashlib.sha256("\n".join(content).encode()).hexdigest()

    def save(self, shards_dir: Path) -> None:
        """Writes ``manifest.json``, whole or not at all.

        Raises:
            StorageError: the file system refuses.
        """
        write_durably(shards_dir / MANIFEST_NAME, json.dumps(asdict(self), indent=1).encode())


def load_manifest(shards_dir: Path) -> ShardManifest:
    """Reads ``manifest.json`` of a shards folder.

    Raises:
        ShardError: there is none, it is damaged, or another format version wrote it.
    """
    path = shards_dir / MANIFEST_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        shards = tuple(ShardEntry(**shard) for shard in values.pop("shards"))
        manifest = ShardManifest(shards=shards, **values)
    except FileNotFoundError:
        raise ShardError(
            f"data.shards_dir {shards_dir} holds no {MANIFEST_NAME}", fix="run `zerostream prepare CONFIG` first"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ShardError(f"{path} cannot be read: {error}", fix="remove data.shards_dir and prepare again") from None
    if manifest.format_version != FORMAT_VERSION:
        raise ShardError(
            f"{path} has format version {manifest.format_version}, this zerostream reads {FORMAT_VERSION}",
            fix="prepare the shards again with this version",
        )
    return manifest
