"""What a run reads: one set of shards or a mixture of several, on a disk or behind a URL, as one thing.

Every set is a part of a mixture, and a single one its only part: there is one way from the config to the sequences.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from framework.config.schema import DataConfig, MixturePart
from framework.data.manifest import SPLITS, TOKENIZER_FOLDER, ShardEntry, ShardManifest, Split, load_manifest
from framework.data.mixture import whole_shares
from framework.data.remote import RemoteFolder, RemoteShards, open_cache
from framework.data.shards import ShardContent, Tokens, read_shard
from framework.errors import ConfigError, ShardError

OnBadShard = Literal["error", "skip"]


class ShardSource(Protocol):
    """Where the shards of one set are read from."""

    def where(self, entry: ShardEntry) -> str:
        """The shard's path or URL, for messages."""

    def read(self, entry: ShardEntry) -> ShardContent:
        """The shard's content, verified.

        Raises:
            ShardError: the shard is missing, or not the one that the manifest describes.
            StorageError: it cannot be known now, because the remote does not answer.
        """


@dataclass(frozen=True)
class LocalShards:
    """Shards in a folder."""

    folder: Path

    def where(self, entry: ShardEntry) -> str:
        """The shard's path."""
        return str(self.folder / entry.name)

    def read(self, entry: ShardEntry) -> ShardContent:
        """The shard's content, verified; raises ``ShardError`` as ``read_shard``."""
        return read_shard(self.folder / entry.name, entry)


@dataclass(frozen=True)
class Shard:
    """One shard, and what reads it."""

    source: ShardSource
    entry: ShardEntry


@dataclass(frozen=True)
class Part:
    """One set of shards. ``share`` says how often it is read in one round of the mixture."""

    folder: Path
    manifest: ShardManifest
    source: ShardSource
    share: int = 1

    def shards(self, split: Split) -> tuple[Shard, ...]:
        """The shards of one split, in the manifest's order."""
        return tuple(Shard(self.source, entry) for entry in self.manifest.split(split))


@dataclass(frozen=True)
class Corpus:
    """The parts of a run's text; all have one tokenizer. ``on_bad_shard`` is ``data.on_bad_shard``."""

    parts: tuple[Part, ...]
    on_bad_shard: OnBadShard = "error"

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer is that wrote the shards."""
        return self.parts[0].folder / TOKENIZER_FOLDER

    @property
    def tokenizer_fingerprint(self) -> str:
        return self.parts[0].manifest.tokenizer_fingerprint

    @property
    def vocab_size(self) -> int:
        return self.parts[0].manifest.vocab_size

    @property
    def end_of_text_id(self) -> int:
        return self.parts[0].manifest.end_of_text_id

    @property
    def name(self) -> str:
        """The folders, for messages."""
        return ", ".join(str(part.folder) for part in self.parts)

    def split(self, split: Split) -> tuple[Shard, ...]:
        """The shards of one split, part after part."""
        return tuple(shard for part in self.parts for shard in part.shards(split))

    def documents(self, split: Split) -> Iterator[Tokens]:
        """The tokens of each document of one split, end-of-text last, shard after shard in the manifest's order.

        Raises:
            ShardError, StorageError: as ``ShardSource.read``.
        """
        for shard in self.split(split):
            yield from shard.source.read(shard.entry).documents()

    def tokens(self, split: Split) -> int:
        return sum(part.manifest.tokens(split) for part in self.parts)

    def text_bytes(self, split: Split) -> int:
        return sum(part.manifest.text_bytes(split) for part in self.parts)

    def bytes_per_token(self, split: Split) -> float:
        """Bytes of UTF-8 text per token of a split, end-of-text counted as a token without text."""
        return self.text_bytes(split) / self.tokens(split)

    @property
    def data_fingerprint(self) -> str:
        """SHA-256, in hex, of what the order of sequences depends on: each part's shards and share."""
        if len(self.parts) == 1:
            return self.parts[0].manifest.data_fingerprint
        content = [f"{part.share}:{part.manifest.data_fingerprint}" for part in self.parts]
        return hashlib.sha256("\n".join(content).encode()).hexdigest()


def local_corpus(shards_dir: Path, on_bad_shard: OnBadShard = "error") -> Corpus:
    """The one set of shards in ``shards_dir``.

    Raises:
        ShardError: its manifest is missing or damaged.
    """
    return Corpus((Part(shards_dir, load_manifest(shards_dir), LocalShards(shards_dir)),), on_bad_shard)


def load_corpus(data: DataConfig) -> Corpus:
    """What ``data`` names; the manifest and tokenizer of what is remote are fetched into its ``shards_dir``.

    Raises:
        ConfigError: the weights are not round, a URL is none of a storage, or a folder would be the cache of two remotes.
        ShardError: a manifest is missing or damaged, parts have different tokenizers or nothing to train on, or the cache
            belongs to another remote.
        StorageError: the remote does not answer, or the cache cannot be written.
    """
    assert data.remote is None or not data.mixture  # framework.config.load refuses it
    _refuse_shared_folders(data.parts)
    shares = whole_shares([part.weight for part in data.parts])
    keys = [f"data.mixture.{number}.remote" for number in range(len(data.mixture))] or ["data.remote"]
    parts = tuple(
        Part(part.shards_dir, *_open(part, key, data.cache_bytes), share)
        for part, key, share in zip(data.parts, keys, shares, strict=True)
    )
    _refuse_different_tokens(parts)
    for part in parts:
        if part.manifest.tokens("train") == 0:
            raise ShardError(
                f"the shards in {part.folder} hold no text to train on",
                fix="prepare them with a lower data.validation_fraction, or take them out of the config",
            )
    return Corpus(parts, data.on_bad_shard)


def _open(part: MixturePart, key: str, cache_bytes: int) -> tuple[ShardManifest, ShardSource]:
    """The manifest of one part, and what reads its shards; ``key`` is where the config names its remote."""
    folder = part.shards_dir
    if part.remote is None:
        return load_manifest(folder), LocalShards(folder)
    remote = RemoteFolder(part.remote, key=key)
    open_cache(remote, folder)
    return load_manifest(folder), RemoteShards(remote, folder, cache_bytes)


def _refuse_shared_folders(parts: Sequence[MixturePart]) -> None:
    """A folder that were a cache for one part and something else for another would never verify for both."""
    remotes: dict[Path, str | None] = {}
    for part in parts:
        mine = part.remote and part.remote.rstrip("/")
        if remotes.setdefault(part.shards_dir.resolve(), mine) != mine:
            raise ConfigError(
                f"two parts of data.mixture have the shards_dir {part.shards_dir}, but not the same remote",
                fix="give each remote a shards_dir of its own, as its cache",
            )


def _refuse_different_tokens(parts: Sequence[Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        for key in ("tokenizer_fingerprint", "vocab_size", "end_of_text_id", "token_dtype"):
            mine, theirs = getattr(first.manifest, key), getattr(part.manifest, key)
            if mine != theirs:
                raise ShardError(
                    f"{part.folder} and {first.folder} of data.mixture have different tokens: {key} {theirs!r} and {mine!r}",
                    fix="prepare all parts with one tokenizer: tokenizer.kind=pretrained and the tokenizer/ of the first",
                )


def refuse_odd_shards(corpus: Corpus) -> None:
    """Looks at names and sizes of the shards on disk, where a bad shard is an error.

    Raises:
        ShardError: names the shard that is missing, of another size, or in no manifest.
    """
    if corpus.on_bad_shard == "skip":
        return
    for part in corpus.parts:
        if isinstance(part.source, LocalShards):
            _refuse_odd_folder(part)


def _refuse_odd_folder(part: Part) -> None:
    for entry in part.manifest.shards:
        path = part.folder / entry.name
        size = path.stat().st_size if path.is_file() else None
        if size != entry.size_bytes:
            found = "is missing" if size is None else f"has {size} bytes, its manifest says {entry.size_bytes}"
            raise ShardError(
                f"shard {path} {found}", fix=f"copy it again, or remove {part.folder} and run `zerostream prepare`"
            )
    named = {entry.name for entry in part.manifest.shards}
    for split in SPLITS:
        for path in sorted(part.folder.glob(f"{split}-*.tar")):
            if path.name not in named:
                raise ShardError(
                    f"shard {path} is not in the manifest beside it",
                    fix="move it away, or put back the manifest that names it",
                )
