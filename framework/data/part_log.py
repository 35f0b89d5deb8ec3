"""What one part has tokenized: a file that only grows, one record a batch, each with its own SHA-256.

A kill can tear the last record. It is found by its hash and cut off, and whatever stands before it counts: there is no
second file that would have to agree with this one. A record, little-endian::

    8s    "zsbatch1"
    4I Q  piece, batch, documents, bytes of a token id (2 or 4), tokens
    32s   SHA-256 of the numbers above and of all that follows
          [tokens] token ids, the documents back to back, each one's last token being end-of-text
          [documents] uint32 tokens of each; [documents] uint64 bytes of its text; [documents] 16-byte digests;
          [documents] uint8, 1 for validation
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from framework.data.documents import Document
from framework.durable import storage_errors

SYNC_BYTES = 32 * 1024 * 1024
"""So much of a part is lost at most when a machine dies: seconds of work. A killed process alone loses a batch."""

_MAGIC = b"zsbatch1"
_NUMBERS = struct.Struct("<4IQ")
_HEAD_BYTES = len(_MAGIC) + _NUMBERS.size + 32
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class TokenizedDocument(Document):
    """A document whose text is no longer needed."""

    tokens: npt.NDArray[Any]


@dataclass(frozen=True)
class StoredBatch:
    """One record. ``tokens`` is [tokens] uint16 or uint32, the documents back to back; ``lengths`` is theirs."""

    piece: int
    batch: int
    tokens: npt.NDArray[Any]
    lengths: npt.NDArray[Any]
    text_bytes: npt.NDArray[Any]
    digests: bytes
    validation: npt.NDArray[Any]

    def is_of(self, piece: int, batch: int, documents: Sequence[Document]) -> bool:
        """Whether it holds these documents of this batch."""
        return (self.piece, self.batch) == (piece, batch) and self.digests == b"".join(
            document.digest for document in documents
        )

    def documents(self) -> list[TokenizedDocument]:
        """The documents in their order."""
        ends = np.cumsum(self.lengths, dtype=np.int64)
        return [
            TokenizedDocument(
                self.digests[index * _DIGEST_BYTES : (index + 1) * _DIGEST_BYTES],
                text_bytes,
                "validation" if is_validation else "train",
                self.tokens[start:end],
            )
            for index, (start, end, text_bytes, is_validation) in enumerate(
                zip(
                    (ends - self.lengths).tolist(),
                    ends.tolist(),
                    self.text_bytes.tolist(),
                    self.validation.tolist(),
                    strict=True,
                )
            )
        ]


class PartLog:
    """Writes one part's file: first it gives back what is there, then it takes what is missing."""

    def __init__(self, path: Path) -> None:
        """Opens the file, or makes it.

        Raises:
            StorageError: the file system refuses.
        """
        self._path = path
        with storage_errors(path):
            self._file: BinaryIO = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        self._is_at_end = False
        self._unsynced_bytes = 0
        self.size_bytes = 0

    def next_stored(self) -> StoredBatch | None:
        """The next record that is whole; None after the last one, behind which the file is then cut off.

        Raises:
            StorageError: the file system refuses.
        """
        if self._is_at_end:
            return None
        with storage_errors(self._path):
            record = read_record(self._file, self.size_bytes)
            if record is not None:
                self.size_bytes = self._file.tell()
                return record
            self._file.seek(self.size_bytes)
            self._file.truncate()
        self._is_at_end = True
        return None

    def append(
        self, piece: int, batch: int, documents: Sequence[Document], tokens: npt.NDArray[Any], lengths: Sequence[int]
    ) -> None:
        """Adds a record, after the last stored one.

        Raises:
            StorageError: the file system refuses; what was written of the record is cut off by the next start.
        """
        assert self._is_at_end
        content = b"".join(
            (
                tokens.astype(tokens.dtype.newbyteorder("<"), copy=False).tobytes(),
                np.asarray(lengths, dtype="<u4").tobytes(),
                np.fromiter((document.text_bytes for document in documents), "<u8", len(documents)).tobytes(),
                *(document.digest for document in documents),
                bytes(document.split == "validation" for document in documents),
            )
        )
        numbers = _NUMBERS.pack(piece, batch, len(documents), tokens.dtype.itemsize, len(tokens))
        digest = hashlib.sha256(numbers + content).digest()
        with storage_errors(self._path):
            self._file.write(_MAGIC + numbers + digest + content)
            self._file.flush()
        self.size_bytes += _HEAD_BYTES + len(content)
        self._unsynced_bytes += len(content)
        if self._unsynced_bytes >= SYNC_BYTES:
            self.sync()

    def sync(self) -> None:
        """Makes what was appended last beyond a crash.

        Raises:
            StorageError: the file system refuses.
        """
        with storage_errors(self._path):
            os.fsync(self._file.fileno())
        self._unsynced_bytes = 0

    def close(self) -> None:
        """Closes the file. What was not synced may be lost: the one who minds calls ``sync``, and is told."""
        with suppress(OSError):
            self._file.close()


def read_record(file: BinaryIO, offset: int) -> StoredBatch | None:
    """The record at ``offset``, with the file's position behind it; None if there is none, or none that is whole.

    Raises:
        OSError: the file cannot be read.
    """
    left = os.fstat(file.fileno()).st_size - offset - _HEAD_BYTES
    if left < 0:
        return None
    file.seek(offset)
    head = file.read(_HEAD_BYTES)
    numbers, digest = head[len(_MAGIC) : -32], head[-32:]
    piece, batch, documents, item_bytes, tokens = _NUMBERS.unpack(numbers)
    size = tokens * item_bytes + documents * (4 + 8 + _DIGEST_BYTES + 1)
    if head[: len(_MAGIC)] != _MAGIC or item_bytes not in (2, 4) or size > left:
        return None
    content = file.read(size)
    if hashlib.sha256(numbers + content).digest() != digest:
        return None
    lengths_at = tokens * item_bytes
    text_at, digests_at = lengths_at + documents * 4, lengths_at + documents * 12
    return StoredBatch(
        piece,
        batch,
        np.frombuffer(content, f"<u{item_bytes}", tokens),
        np.frombuffer(content, "<u4", documents, lengths_at),
        np.frombuffer(content, "<u8", documents, text_at),
        content[digests_at : digests_at + documents * _DIGEST_BYTES],
        np.frombuffer(content, "u1", documents, digests_at + documents * _DIGEST_BYTES),
    )
