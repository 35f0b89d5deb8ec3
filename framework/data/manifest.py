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
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from framework.durable import write_durably
from framework.errors import ShardError

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
TOKENIZER_FOLDER = "tokenizer"

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.tar")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
        ShardError: there is none, it is damaged or names what no shard is, or another format version wrote it.
    """
    path = shards_dir / MANIFEST_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ShardError(
            f"data.shards_dir {shards_dir} holds no {MANIFEST_NAME}", fix="run `zerostream prepare CONFIG` first"
        ) from None
    except OSError as error:
        raise ShardError(f"{path} cannot be read: {error}", fix="remove data.shards_dir and prepare again") from None
    return parse_manifest(content, str(path))


def parse_manifest(content: bytes, origin: str) -> ShardManifest:
    """The manifest in ``content``; ``origin`` is where it came from, for messages. It may be anybody's: nothing is believed.

    Raises:
        ShardError: as ``load_manifest``.
    """
    try:
        values = json.loads(content)
        shards = tuple(ShardEntry(**shard) for shard in values.pop("shards"))
        manifest = ShardManifest(shards=shards, **values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ShardError(f"{origin} cannot be read: {error}", fix="remove data.shards_dir and prepare again") from None
    if manifest.format_version != FORMAT_VERSION:
        raise ShardError(
            f"{origin} has format version {manifest.format_version}, this zerostream reads {FORMAT_VERSION}",
            fix="prepare the shards again with this version",
        )
    odd = next(_odd_values(manifest), None)
    if odd is not None:
        raise ShardError(f"{origin} is no manifest of shards: {odd}", fix="use shards that `zerostream prepare` wrote")
    return manifest


def _odd_values(manifest: ShardManifest) -> Iterator[str]:
    """What a manifest of ours never says. A shard's name becomes a path, and its sizes bound what is read and decoded.

    JSON fills the fields with whatever it holds: no type of theirs is believed here.
    """
    name: Any
    sha256: Any
    if manifest.token_dtype not in ("uint16", "uint32"):
        yield f"token_dtype is {manifest.token_dtype!r}"
    for key in ("tokenizer_fingerprint", "source_fingerprint", "settings_fingerprint"):
        if not isinstance(getattr(manifest, key), str):
            yield f"{key} is {getattr(manifest, key)!r}"
    for key in ("vocab_size", "end_of_text_id"):
        if not _is_count(getattr(manifest, key)):
            yield f"{key} is {getattr(manifest, key)!r}"
    names = set()
    for shard in manifest.shards:
        name, sha256 = shard.name, shard.sha256
        if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
            yield f"shard name {name!r} is no plain file name that ends with .tar"
        if name in names:
            yield f"shard {name} stands there twice"
        names.add(name)
        if shard.split not in SPLITS:
            yield f"shard {shard.name} is of split {shard.split!r}"
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            yield f"shard {name} has SHA-256 {sha256!r}"
        for key in ("size_bytes", "documents", "tokens", "text_bytes"):
            if not _is_count(getattr(shard, key)):
                yield f"shard {shard.name} has {key} {getattr(shard, key)!r}"


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0  # True is an int to isinstance
