"""Files of zerostream's formats, made by hand for tests that need no run."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from framework.checkpoint.manifest import CheckpointManifest, FileEntry
from framework.data.manifest import ShardEntry


def checkpoint_manifest(step: int, files: dict[str, FileEntry], **changes: Any) -> CheckpointManifest:
    """Of a checkpoint that one reference rank wrote in float32, but for ``changes``."""
    manifest = CheckpointManifest(
        step=step,
        cursor=8 * step,
        tokens=0,
        world_size=1,
        engine_kind="reference",
        zero_stage=0,
        precision="fp32",
        applied_steps=step,
        loss_scale=None,
        train_loss=None,
        validation_loss=None,
        identity_fingerprint="a" * 64,
        data_fingerprint="b" * 64,
        files=files,
    )
    return replace(manifest, **changes)


def vouched_tar(path: Path, members: Mapping[str, bytes]) -> ShardEntry:
    """A tar of these members, and a manifest's entry that vouches for it."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    content = path.read_bytes()
    return ShardEntry(path.name, "train", len(content), hashlib.sha256(content).hexdigest(), 1, 3, 6)
