"""A checkpoint's manifest: what makes a folder a checkpoint, and how it is verified. Needs no torch.

checkpoints/step-00000100/
  manifest.json                          written last; every other file's size and XXH3-128 (docs/decisions/0013)
  state-00000-of-00002.safetensors ...   each rank's share of weights and optimizer (framework.checkpoint.fragments)
"""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import xxhash

from framework.durable import write_durably
from framework.errors import CheckpointError

FORMAT_VERSION = 3
MANIFEST_NAME = "manifest.json"
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class FileEntry:
    """Size and hash of one file of a checkpoint."""

    size_bytes: int
    xxh3_128: str


@dataclass(frozen=True)
class CheckpointManifest:
    """What a checkpoint holds, and by whom it was written.

    ``cursor`` counts sequences, ``tokens`` the targets learned from, both over the whole run; ``applied_steps`` the steps
    that changed the weights. ``train_loss`` is that of the last step, ``validation_loss`` of an evaluation at this step.
    """

    step: int
    cursor: int
    tokens: int
    world_size: int
    engine_kind: str
    zero_stage: int
    precision: str
    applied_steps: int
    loss_scale: float | None
    train_loss: float | None
    validation_loss: float | None
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
        _refuse_other_version(folder, values.get("format_version"))
        files = {name: FileEntry(**entry) for name, entry in values.pop("files").items()}
        manifest = CheckpointManifest(files=files, **values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"checkpoint {folder} has no readable manifest: {error}", fix="use an older checkpoint"
        ) from None
    for name in files:
        if not _FILE_NAME.fullmatch(name):
            raise CheckpointError(
                f"checkpoint {folder} names a file {name!r}, which is no plain name", fix="use an older checkpoint"
            )
    return manifest


def _refuse_other_version(folder: Path, version: object) -> None:
    if version is None:
        raise KeyError("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {folder} has format version {version}, this zerostream reads {FORMAT_VERSION}",
            fix="go on with the version that wrote it",
        )


def verify(folder: Path, *, share: int = 0, shares: int = 1) -> CheckpointManifest:
    """Reads the manifest and checks every file's size, and the hash of every file in this share of them.

    Args:
        folder: of the checkpoint.
        share: from 0; all shares together cover every file.
        shares: how many there are.

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
    ours = list(manifest.files)[share::shares]
    with ThreadPoolExecutor() as threads:  # hashing lets go of Python's lock
        hashes = threads.map(lambda name: _hash_or_refuse(folder / name), ours)
        for name, found in zip(ours, hashes, strict=True):
            if found != manifest.files[name].xxh3_128:
                raise CheckpointError(
                    f"checkpoint file {folder / name} does not have its recorded hash", fix="use an older checkpoint"
                )
    return manifest


def _hash_or_refuse(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        raise CheckpointError(
            f"checkpoint file {path} cannot be read: {error.strerror}", fix="use an older one"
        ) from error


def hash_file(path: Path) -> str:
    """XXH3-128 of a file (https://xxhash.com), in hex, as ``xxh128sum`` prints it. Finds accidents; proves nothing to an enemy.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
