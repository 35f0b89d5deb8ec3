"""A checkpoint's manifest: what makes a folder a checkpoint, and how it is verified. Standard library only.

checkpoints/step-00000100/
  manifest.json          written last; every other file's size and SHA-256
  engine/                what the engine wrote: one part per rank, or one in all
  rank-00000.pt ...      each rank's random number generators
  model.safetensors      full float32 weights, for generate, evaluate, export
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from framework.durable import write_durably
from framework.errors import CheckpointError

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "model.safetensors"
ENGINE_FOLDER = "engine"


@dataclass(frozen=True)
class FileEntry:
    """Size and hash of one file of a checkpoint."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class CheckpointManifest:
    """What a checkpoint holds, and by whom it was written.

    ``cursor`` counts sequences, ``tokens`` the targets learned from, both over the whole run.
    """

    step: int
    cursor: int
    tokens: int
    world_size: int
    engine_kind: str
    zero_stage: int
    precision: str
    identity_fingerprint: str
    data_fingerprint: str
    files: dict[str, FileEntry]
    format_version: int = FORMAT_VERSION

    def save(self, folder: Path) -> None:
        """Writes ``manifest.json``, synced, whole or not at all."""
        write_durably(folder / MANIFEST_NAME, json.dumps(asdict(self), indent=1).encode())


def load_manifest(folder: Path) -> CheckpointManifest:
    """Reads the manifest without verifying the files.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = folder / MANIFEST_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        files = {name: FileEntry(**entry) for name, entry in values.pop("files").items()}
        manifest = CheckpointManifest(files=files, **values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"checkpoint {folder} has no readable manifest: {error}", fix="use an older checkpoint"
        ) from None
    if manifest.format_version != FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {folder} has format version {manifest.format_version}, this zerostream reads {FORMAT_VERSION}",
            fix="go on with the version that wrote it",
        )
    return manifest


def verify(folder: Path) -> CheckpointManifest:
    """Reads the manifest and checks every file's size and SHA-256.

    Raises:
        CheckpointError: names the first file that is missing or differs.
    """
    manifest = load_manifest(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != expected.size_bytes:
            found = "is missing" if size is None else f"has {size} bytes, not {expected.size_bytes}"
            raise CheckpointError(f"checkpoint file {path} {found}", fix="use an older checkpoint")
        if hash_file(path) != expected.sha256:
            raise CheckpointError(
                f"checkpoint file {path} does not have its recorded SHA-256", fix="use an older checkpoint"
            )
    return manifest


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_and_describe(folder: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """Syncs each named file to storage and describes it for the manifest."""
    entries = {}
    for name in names:
        path = folder / name
        with path.open("rb") as file:
            os.fsync(file.fileno())
            entries[name] = FileEntry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    return entries
