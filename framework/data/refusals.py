"""What ``prepare`` refuses before anything is written, and what it finds already done."""

from __future__ import annotations

from pathlib import Path

from framework.config.schema import Config
from framework.data.corpus_writer import changed_text
from framework.data.documents import SourceFingerprint, read_documents
from framework.data.journal import (
    Journal,
    Settings,
    refuse_foreign_files,
    refuse_other_settings,
    settings_fingerprint,
)
from framework.data.manifest import MANIFEST_NAME, SPLITS, ShardManifest, Split, load_manifest
from framework.data.sources import ReadMeter, has_validation_source, open_documents, source_files
from framework.durable import free_bytes, size_of, storage_errors
from framework.errors import ShardError, SourceError, StorageError

SHARD_BYTES_PER_TEXT_BYTE = 0.7
"""Rough need of disk space with 16-bit tokens: 3 to 4 bytes of text become one token, with a margin."""


def finished_manifest(config: Config, folder: Path, settings: Settings) -> ShardManifest | None:
    """The manifest of a folder that these settings and this text have finished; None if it is not finished.

    Raises:
        ShardError: the folder belongs to other settings or another text, or is damaged.
    """
    if not (folder / MANIFEST_NAME).exists():
        return None
    manifest = load_manifest(folder)
    if manifest.settings_fingerprint != settings_fingerprint(settings):
        journal = Journal.load(folder)
        if journal is not None:
            refuse_other_settings(settings, folder, journal.settings)
        refuse_other_settings(settings, folder, None)
    for entry in manifest.shards:
        if size_of(folder / entry.name) != entry.size_bytes:
            raise ShardError(
                f"shard {folder / entry.name} is missing or not of its manifest's size",
                fix=f"copy it again from where it was prepared, or remove {folder} and prepare again",
            )
    _refuse_changed_text(config, folder, manifest)
    return manifest


def _refuse_changed_text(config: Config, folder: Path, manifest: ShardManifest) -> None:
    """Names and sizes are as they were; files that are newer than the manifest are compared by content."""
    if not newer_files(config, (folder / MANIFEST_NAME).stat().st_mtime):
        return
    if fingerprint_of_text(config) != manifest.source_fingerprint:
        raise changed_text(f"{folder / MANIFEST_NAME} was written", folder)


def newer_files(config: Config, written: float) -> list[Path]:
    """The files of a file source that were changed after ``written``, in seconds as ``st_mtime``."""
    files = [file for split in SPLITS for file in source_files(config, split)]
    return [file for file in files if file.stat().st_mtime > written]


def fingerprint_of_text(config: Config) -> str:
    """Source fingerprint of the text as it stands now; reads all of it."""
    fingerprint = SourceFingerprint()
    for document in read_documents(config, ReadMeter()):
        fingerprint.add(document)
    return fingerprint.hexdigest()


def refuse_odd_folder(folder: Path, settings: Settings) -> None:
    """Refuses a folder of other settings, or with shards that no journal accounts for.

    Raises:
        ShardError: as said.
    """
    journal = Journal.load(folder) if folder.is_dir() else None
    if journal is not None:
        refuse_other_settings(settings, folder, journal.settings)
    elif folder.is_dir():
        refuse_foreign_files(folder)


def refuse_missing_split(config: Config) -> None:
    """Reads until both splits have a document: unreadable text is refused before a byte is written.

    Raises:
        SourceError: a split would be empty, or the text cannot be read.
    """
    seen: set[Split] = set()
    documents = 0
    if has_validation_source(config):
        for split in SPLITS:
            next(open_documents(config, split))
        return
    for document in read_documents(config, ReadMeter()):
        documents += 1
        seen.add(document.split)
        if len(seen) == len(SPLITS) or config.data.validation_fraction == 0.0:
            break
    fraction = config.data.validation_fraction
    if "validation" not in seen:
        raise SourceError(
            f"none of {documents} documents falls into validation at data.validation_fraction {fraction}",
            fix="raise data.validation_fraction, give more text, or name data.validation_path",
        )
    if "train" not in seen:
        raise SourceError(
            f"all of {documents} documents fall into validation at data.validation_fraction {fraction}",
            fix="lower data.validation_fraction, or give more text",
        )


def refuse_small_disk(config: Config, folder: Path, *, parts: Path | None = None) -> None:
    """Refuses where the shards foreseeably find no room; with ``parts``, once more what is kept there until the merge.

    Raises:
        StorageError: says what is free and what is needed.
    """
    if config.data.documents is not None:  # a part of the files, of unknown size
        return
    text_bytes = sum(file.stat().st_size for split in SPLITS for file in source_files(config, split))
    written = sum(size_of(file) or 0 for file in folder.glob("*.tar"))
    need = round(text_bytes * SHARD_BYTES_PER_TEXT_BYTE) - written
    if parts is not None:
        need += round(text_bytes * SHARD_BYTES_PER_TEXT_BYTE) - sum(size_of(file) or 0 for file in parts.glob("*.log"))
    with storage_errors(folder):
        free = free_bytes(folder.absolute())
    if need > free:
        raise StorageError(
            f"data.shards_dir {folder} has {free / 1e6:.1f} MB free, the shards need about {need / 1e6:.1f} MB",
            fix="free space, or choose a data.shards_dir with more",
        )
