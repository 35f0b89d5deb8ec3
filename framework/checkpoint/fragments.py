"""A checkpoint's numbers on disk: each rank's fragments in one safetensors file, read back by whoever needs which elements.

A tensor ``weight/transformer.wte.weight@4096`` holds consecutive elements of the flattened parameter, from number 4096 on. Who
reads does not care how many ranks cut it, or where (docs/decisions/0007-checkpoints-are-named-fragments.md).
"""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from safetensors import SafetensorError, safe_open

from framework.checkpoint.manifest import CheckpointManifest, FileEntry
from framework.engine import FragmentReader
from framework.errors import CheckpointError, NonFiniteError
from framework.failpoints import failpoint

_PIECE_BYTES = 1 << 26


def fragment_key(kind: str, name: str, start: int) -> str:
    """The tensor's name in its file."""
    return f"{kind}/{name}@{start}"


def write_fragments(path: Path, fragments: Mapping[str, npt.NDArray[np.float32]], *, step: int) -> FileEntry:
    """Writes and syncs a safetensors file, hashing in the same pass; works beside a training thread.

    By hand (format: https://huggingface.co/docs/safetensors): the library copies all tensors first, and holds Python's lock.

    Raises:
        OSError: the file system refuses.
        NonFiniteError: a number is NaN or infinite; nothing has been written.
    """
    _refuse_non_finite(fragments)
    header, end = {}, 0
    for key, values in fragments.items():
        header[key] = {"dtype": "F32", "shape": [values.size], "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    hasher = xxhash.xxh3_128()
    with path.open("wb") as file:

        def write(content: bytes | memoryview) -> None:
            file.write(content)
            hasher.update(content)

        write(len(text).to_bytes(8, "little") + text)
        failpoint("save.write", step=step)
        for values in fragments.values():
            content = values.view(np.uint8).data
            for first in range(0, len(content), _PIECE_BYTES):
                write(content[first : first + _PIECE_BYTES])
        file.flush()
        failpoint("save.sync", step=step)
        os.fsync(file.fileno())
    return FileEntry(8 + len(text) + end, hasher.hexdigest())


def _refuse_non_finite(fragments: Mapping[str, npt.NDArray[np.float32]]) -> None:
    for key, values in fragments.items():
        # The least and the greatest are NaN when any is; and unlike a mask of all of them, they take no memory.
        if values.size and not (math.isfinite(values.min()) and math.isfinite(values.max())):
            raise NonFiniteError(
                f"{key} holds a number that is not finite, and was not saved",
                fix="start again from the last checkpoint with a lower optimizer.lr, or engine.precision=fp32",
            )


class CheckpointReader(FragmentReader):
    """All fragments of a verified checkpoint.

    Raises:
        CheckpointError: a file is no safetensors file.
    """

    def __init__(self, folder: Path, manifest: CheckpointManifest) -> None:
        self.applied_steps = manifest.applied_steps
        self.loss_scale = manifest.loss_scale
        self._folder = folder
        self._pieces: dict[tuple[str, str], list[tuple[int, Any]]] = {}
        for file_name in manifest.files:
            try:
                file: Any = safe_open(folder / file_name, framework="pt")
            except SafetensorError as error:
                raise CheckpointError(f"{folder / file_name} cannot be read: {error}", fix="use an older one") from None
            for key in file.keys():  # noqa: SIM118 - no mapping
                kind, _, rest = key.partition("/")
                name, _, start = rest.rpartition("@")
                self._pieces.setdefault((kind, name), []).append((int(start), file.get_slice(key)))
        for pieces in self._pieces.values():
            pieces.sort(key=lambda piece: piece[0])

    def names(self, kind: str) -> set[str]:
        """The parameters of which there are numbers of this kind."""
        return {name for each, name in self._pieces if each == kind}

    def size(self, kind: str, name: str) -> int:
        """Elements of the whole parameter."""
        first, tensor = self._pieces[kind, name][-1]
        return int(first + tensor.get_shape()[0])

    def read(self, kind: str, name: str, start: int, count: int) -> torch.Tensor:
        """As ``FragmentReader.read``."""
        pieces = self._pieces.get((kind, name), [])
        index = max(0, bisect_right(pieces, start, key=lambda piece: piece[0]) - 1)
        result, filled = torch.empty(count), 0
        for first, tensor in pieces[index:]:
            if first <= start and start + count <= first + tensor.get_shape()[0]:
                values: torch.Tensor = tensor[
                    start - first : start - first + count
                ]  # as written: nothing to put together
                return values
            if filled == count or first > start + filled:
                break
            begin = start + filled - first
            values = tensor[begin : min(tensor.get_shape()[0], begin + count - filled)]
            result[filled : filled + len(values)] = values
            filled += len(values)
        if filled < count:
            raise CheckpointError(
                f"checkpoint {self._folder} lacks {kind} of {name} from element {start + filled} on",
                fix="use an older checkpoint",
            )
        return result
