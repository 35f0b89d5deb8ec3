"""What makes an interrupted ``prepare`` go on: its settings, and one line for each shard that is finished.

``prepare.journal.jsonl`` begins with a header (settings and tokenizer) and gains a line, synced, after each shard has
been renamed into place. A shard without its line is not believed and written again. The journal stays beside the
manifest: when other settings are tried on the folder, it can say which differ.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from framework.config.schema import Config
from framework.data.manifest import FORMAT_VERSION, MANIFEST_NAME, TOKENIZER_FOLDER, ShardEntry, Split
from framework.data.shards import BLOCK_TOKENS
from framework.data.sources import (
    EMBEDDED_DOCUMENTS,
    EMBEDDED_SEED,
    FILE_SOURCES,
    has_validation_source,
    source_files,
)
from framework.data.tokenizer import DEFAULT_VOCAB_SIZE, TRAINING_TEXT_BYTES, Tokenizer
from framework.durable import size_of, storage_errors, write_durably
from framework.errors import ShardError

JOURNAL_NAME = "prepare.journal.jsonl"

Settings = dict[str, Any]


@dataclass(frozen=True)
class FinishedShard:
    """A shard in place, and the digest of its documents' texts: the text that must stand there when it goes on."""

    entry: ShardEntry
    text_digest: str


def shard_settings(config: Config, pretrained: Tokenizer | None) -> Settings:
    """What in the config decides about the shards' bytes, by its key; files by name and size, not by place.

    Raises:
        SourceError: a file source's files are missing.
    """
    data = config.data
    settings: Settings = {"format_version": FORMAT_VERSION, "block_tokens": BLOCK_TOKENS, "data.source": data.source}
    settings["data.documents"] = data.documents
    settings |= _text_settings(config)
    settings["data.shard_tokens"] = data.shard_tokens
    if not has_validation_source(config):
        settings["data.validation_fraction"] = data.validation_fraction
    settings["tokenizer.kind"] = config.tokenizer.kind
    if pretrained is not None:
        settings["tokenizer.path (content)"] = pretrained.fingerprint
    else:
        settings["tokenizer.vocab_size"] = config.tokenizer.vocab_size or DEFAULT_VOCAB_SIZE
        settings["tokenizer_training_bytes"] = TRAINING_TEXT_BYTES
    return settings


def settings_fingerprint(settings: Settings) -> str:
    """SHA-256 of the settings, in hex."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _text_settings(config: Config) -> Settings:
    data = config.data
    if data.source == "embedded":
        return {"data.documents": data.documents or EMBEDDED_DOCUMENTS, "embedded stories": _embedded_edition()}
    settings: Settings = {"data.text_field": data.text_field}
    if data.source == "hub":
        keys = ("path", "hub_config", "hub_split", "hub_validation_split")
        return settings | {f"data.{key}": getattr(data, key) for key in keys}
    if data.source not in FILE_SOURCES:  # a plugin's: only it knows what stands behind these names
        return settings | {"data.path": data.path, "data.validation_path": data.validation_path}
    splits: tuple[tuple[Split, str], ...] = (("train", "data.path"), ("validation", "data.validation_path"))
    for split, key in splits:
        settings[f"{key} (files)"] = [[file.name, file.stat().st_size] for file in source_files(config, split)]
    return settings | {"data.separator": data.separator, "data.encoding": data.encoding}


def _embedded_edition() -> str:
    """Another version of zerostream may tell other stories; the first hundred show it."""
    from framework.data.embedded import generate_stories

    return hashlib.sha256("\n".join(generate_stories(100, seed=EMBEDDED_SEED)).encode()).hexdigest()


class Journal:
    """The journal of one shards folder."""

    def __init__(
        self, path: Path, settings: Settings, tokenizer_fingerprint: str, finished: Sequence[FinishedShard]
    ) -> None:
        self._path = path
        self.settings = settings
        self.tokenizer_fingerprint = tokenizer_fingerprint
        self.finished = list(finished)

    @classmethod
    def load(cls, shards_dir: Path) -> Journal | None:
        """Reads the journal up to the first line that was torn; None if there is none.

        Raises:
            ShardError: the file is there, but no journal.
        """
        path = shards_dir / JOURNAL_NAME
        try:
            header, *lines = path.read_text(encoding="utf-8").split("\n")
            values = json.loads(header)
            return cls(path, values["settings"], values["tokenizer_fingerprint"], _parse_finished(lines))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ShardError(
                f"{path} cannot be read: {error}", fix=f"remove {shards_dir} or choose another data.shards_dir"
            ) from None

    @classmethod
    def start(cls, shards_dir: Path, settings: Settings, tokenizer_fingerprint: str) -> Journal:
        """Writes a journal without shards.

        Raises:
            StorageError: the file system refuses.
        """
        journal = cls(shards_dir / JOURNAL_NAME, settings, tokenizer_fingerprint, [])
        journal._rewrite()
        return journal

    def keep_whole_shards(self) -> None:
        """Forgets the first shard that is missing or of another size, and all after it, as well as a torn last line.

        Raises:
            StorageError: the file system refuses.
        """
        whole = 0
        for shard in self.finished:
            if size_of(self._path.parent / shard.entry.name) != shard.entry.size_bytes:
                break
            whole += 1
        del self.finished[whole:]
        self._rewrite()

    def append(self, shard: FinishedShard) -> None:
        """Adds a shard that is in place, synced.

        Raises:
            StorageError: the file system refuses.
        """
        with storage_errors(self._path), self._path.open("ab") as file:
            file.write(_as_line(_shard_values(shard)))
            file.flush()
            os.fsync(file.fileno())
        self.finished.append(shard)

    def _rewrite(self) -> None:
        header = {"settings": self.settings, "tokenizer_fingerprint": self.tokenizer_fingerprint}
        lines = [_as_line(header), *(_as_line(_shard_values(shard)) for shard in self.finished)]
        write_durably(self._path, b"".join(lines))


def refuse_other_settings(settings: Settings, shards_dir: Path, stored: Settings | None) -> None:
    """Refuses a folder that other settings have written; ``stored`` is None if the folder does not say which.

    Raises:
        ShardError: names every setting that differs, with both values.
    """
    if stored is not None:
        normal = json.loads(json.dumps(settings))
        changed = [key for key in sorted(normal.keys() | stored.keys()) if normal.get(key) != stored.get(key)]
        if not changed:
            return
        differences = ": " + ", ".join(f"{key} {normal.get(key)!r} (there: {stored.get(key)!r})" for key in changed)
    else:
        differences = ""
    raise ShardError(
        f"data.shards_dir {shards_dir} was prepared with other settings{differences}",
        fix="choose another data.shards_dir, or remove that folder",
    )


def refuse_foreign_files(shards_dir: Path) -> None:
    """Refuses a folder in which shards or a tokenizer stand without a journal: they are somebody else's.

    Raises:
        ShardError: names the first.
    """
    for name in (MANIFEST_NAME, TOKENIZER_FOLDER, "train-*.tar", "validation-*.tar"):
        for found in sorted(shards_dir.glob(name)):
            raise ShardError(
                f"data.shards_dir {shards_dir} holds {found.name}, which no journal accounts for",
                fix="choose another data.shards_dir, or remove that folder",
            )


def _parse_finished(lines: Sequence[str]) -> list[FinishedShard]:
    finished = []
    for line in lines[:-1]:  # a line ends with a line feed; what follows the last one is empty, or was torn by a kill
        try:
            values = json.loads(line)
            finished.append(FinishedShard(ShardEntry(**values["shard"]), values["text_digest"]))
        except (ValueError, KeyError, TypeError):
            break
    return finished


def _shard_values(shard: FinishedShard) -> dict[str, Any]:
    return {"shard": asdict(shard.entry), "text_digest": shard.text_digest}


def _as_line(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False) + "\n").encode()
