"""One shard: a plain tar of blocks of documents, written deterministically and read back verified.

``framework.data.manifest`` and ``docs/shards.md`` describe the format. A tar that is cut short ends early without an
error in every tar reader, so a shard is believed only when its size and SHA-256 are those of the manifest.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from framework.data.manifest import ShardEntry, Split
from framework.durable import storage_errors, sync_folder, temporary_of
from framework.errors import ShardError

if TYPE_CHECKING:
    from typing_extensions import Buffer

BLOCK_TOKENS = 1_048_576
"""A block is closed when it holds this many tokens: about 2 MB, read in one piece."""

TOKENS_MEMBER = "tokens.npy"
OFFSETS_MEMBER = "offsets.npy"

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


@dataclass(frozen=True)
class ShardContent:
    """A whole shard in memory, left where it was read: copying its text together takes longer than reading the file.

    Document i is ``memory[starts[i]:ends[i]]``, uint16 or uint32, and its last token is end-of-text. What lies between documents
    is no text. ``starts`` and ``ends`` are [documents] int64.
    """

    memory: Tokens
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    @property
    def tokens(self) -> int:
        return int(self.ends.sum() - self.starts.sum())

    def documents(self) -> Iterator[Tokens]:
        """The tokens of each document, as the shard has them."""
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield self.memory[start:end]


def shard_name(split: Split, index: int) -> str:
    """File name of a split's shard ``index``, counted from 0."""
    return f"{split}-{index:06d}.tar"


class ShardWriter:
    """Writes one shard beside its final name; ``close`` puts it in place.

    The bytes depend on the documents alone: no time, user or host stands in the tar.
    """

    def __init__(self, folder: Path, name: str, split: Split, dtype: npt.DTypeLike) -> None:
        """Opens ``name``.tmp in ``folder``.

        Raises:
            StorageError: the file system refuses.
        """
        self.tokens = 0
        self.documents = 0
        self._text_bytes = 0
        self._blocks = 0
        self._block: list[npt.NDArray[Any]] = []
        self._block_tokens = 0
        self._split: Split = split
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._path = folder / name
        self._temporary = temporary_of(self._path)
        with storage_errors(self._path):
            self._file = _HashingFile(self._temporary.open("wb"))
            self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, tokens: npt.NDArray[Any], text_bytes: int) -> None:
        """Adds one document: its tokens, [tokens] of the shard's dtype with end-of-text last, and its text's size.

        Raises:
            StorageError: the file system refuses.
        """
        self._block.append(tokens)
        self._block_tokens += len(tokens)
        self.tokens += len(tokens)
        self.documents += 1
        self._text_bytes += text_bytes
        if self._block_tokens >= BLOCK_TOKENS:
            self._write_block()

    def close(self) -> ShardEntry:
        """Syncs the shard, renames it into place, and returns its line of the manifest.

        Raises:
            StorageError: the file system refuses.
        """
        if self._block:
            self._write_block()
        with storage_errors(self._path):
            self._tar.close()
            self._file.sync_and_close()
            self._temporary.replace(self._path)
            sync_folder(self._path.parent)
        return ShardEntry(
            name=self._path.name,
            split=self._split,
            size_bytes=self._file.size_bytes,
            sha256=self._file.sha256.hexdigest(),
            documents=self.documents,
            tokens=self.tokens,
            text_bytes=self._text_bytes,
        )

    def abort(self) -> None:
        """Removes what was written, for when something has failed."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _write_block(self) -> None:
        lengths = np.fromiter((len(document) for document in self._block), dtype=np.int64, count=len(self._block))
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype("<u4")
        tokens = np.concatenate(self._block).astype(self._dtype, copy=False)
        key = f"{self._blocks:06d}"
        with storage_errors(self._path):
            self._write_member(f"{key}.{TOKENS_MEMBER}", tokens)
            self._write_member(f"{key}.{OFFSETS_MEMBER}", offsets)
        self._block, self._block_tokens = [], 0
        self._blocks += 1

    def _write_member(self, name: str, array: npt.NDArray[Any]) -> None:
        content = io.BytesIO()
        np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
        member = tarfile.TarInfo(name)  # mtime, uid and gid are 0 unless set
        member.mode = 0o444
        member.size = content.tell()
        content.seek(0)
        self._tar.addfile(member, content)


def read_shard(path: Path, entry: ShardEntry) -> ShardContent:
    """Reads a shard once, verifies it against its line of the manifest, and decodes it.

    Raises:
        ShardError: the shard is missing, unreadable, or not the one the manifest describes.
    """
    return decode_shard(str(path), read_verified(path, entry), entry)


def decode_shard(where: str, content: bytes, entry: ShardEntry) -> ShardContent:
    """The documents in a shard's verified bytes; ``where`` they come from is for messages.

    A hash that is right says that the bytes are the manifest's, not whose the manifest is: nothing is unpickled, and nothing is
    allocated that the bytes do not hold.

    Raises:
        ShardError: they hold something else, or other counts than the manifest says.
    """
    try:
        shard = _locate_documents(where, content)
    except Exception as error:  # whatever a foreign tar makes of the decoders, the shard has to be named
        raise ShardError(f"shard {where} holds no token blocks: {error!r}", fix=_PREPARE_AGAIN) from error
    if (shard.tokens, len(shard.starts)) != (entry.tokens, entry.documents):
        raise ShardError(
            f"{where} holds {shard.tokens} tokens in {len(shard.starts)} documents, its manifest says "
            f"{entry.tokens} in {entry.documents}",
            fix=_PREPARE_AGAIN,
        )
    return shard


_PREPARE_AGAIN = "copy the folder again from where it was prepared, or remove it and run `zerostream prepare` again"


_NPY_HEADER_BYTES = 10 + 2**16
"""A header of version 1.0 is no longer than that."""

_MEMBER_NAME = re.compile(rf"\d{{6}}\.({re.escape(TOKENS_MEMBER)}|{re.escape(OFFSETS_MEMBER)})")


def read_verified(path: Path, entry: ShardEntry) -> bytes:
    """The bytes of a shard, of the manifest's size and SHA-256; no more than these are read.

    Raises:
        ShardError: the shard is missing, unreadable, or not the one the manifest describes.
    """
    try:
        size = path.stat().st_size
        content = b""
        if size == entry.size_bytes:
            with path.open("rb") as file:
                content = file.read(size + 1)
            size = len(content)
    except FileNotFoundError:
        raise ShardError(f"shard {path} is missing, but stands in the manifest", fix=_PREPARE_AGAIN) from None
    except OSError as error:
        raise ShardError(f"shard {path} cannot be read: {error.strerror}", fix=_PREPARE_AGAIN) from error
    if size != entry.size_bytes:
        raise ShardError(
            f"shard {path} is damaged: {size} bytes, its manifest says {entry.size_bytes}", fix=_PREPARE_AGAIN
        )
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise ShardError(f"shard {path} is damaged: its SHA-256 is not the manifest's", fix=_PREPARE_AGAIN)
    return content


def hash_shard(path: Path) -> str:
    """SHA-256 of a shard as it is on disk, in hex, without decoding it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Array(NamedTuple):
    """A member of a shard: its values, read-only, and at which byte of the tar they begin."""

    values: npt.NDArray[Any]
    first_byte: int


def _locate_documents(where: str, content: bytes) -> ShardContent:
    # Here, because it imports torch, which takes 2 s that `zerostream prepare` never needs.
    from webdataset.tariterators import group_by_keys

    dtype: np.dtype[Any] = np.dtype("<u2")
    starts, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number, block in enumerate(group_by_keys(_members(where, content))):
        tokens, offsets = block[TOKENS_MEMBER], block[OFFSETS_MEMBER].values
        dtype = tokens.values.dtype if number == 0 else dtype
        _refuse_odd_block(tokens, offsets, dtype)
        bounds = offsets.astype(np.int64) + tokens.first_byte // dtype.itemsize
        starts.append(bounds[:-1])
        ends.append(bounds[1:])
    memory = np.frombuffer(content, dtype, count=len(content) // dtype.itemsize)
    return ShardContent(memory, np.concatenate(starts), np.concatenate(ends))


def _members(where: str, content: bytes) -> Iterator[dict[str, Any]]:
    """The arrays of a plain tar, as ``group_by_keys`` takes them. They stay where the tar lies in memory: webdataset's own reader
    copies members from a stream, which takes twice as long as reading the file, and a sparse one would grow to any size."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        end = 0
        for member in tar:
            if not _MEMBER_NAME.fullmatch(member.name) or not member.isreg() or member.issparse():
                raise ValueError(f"member {member.name!r} is none of ours")
            # A size below zero, which a header can say, leads back to what was read before.
            if member.offset < end or not 0 <= member.size <= len(content) - member.offset_data:
                raise ValueError(f"member {member.name!r} says {member.size} bytes")
            end = member.offset_data + member.size
            array = _decode_array(content, member.offset_data, member.size)
            yield {"__url__": where, "fname": member.name, "data": array}


def _decode_array(content: bytes, first_byte: int, size: int) -> _Array:
    """A member's array from plain .npy. numpy would allocate whatever size the header says, and then look."""
    member = memoryview(content)[first_byte:][:size]
    stream = io.BytesIO(member[:_NPY_HEADER_BYTES])
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("a .npy of another version than 1.0")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    start = stream.tell()
    if dtype.hasobject or dtype.kind not in "ui" or len(shape) != 1 or shape[0] * dtype.itemsize != len(member) - start:
        raise ValueError(f"a .npy that says {dtype} {shape} and holds {len(member) - start} bytes")
    return _Array(np.frombuffer(member, dtype=dtype, count=shape[0], offset=start), first_byte + start)


def _refuse_odd_block(tokens: _Array, offsets: npt.NDArray[Any], dtype: np.dtype[Any]) -> None:
    values = tokens.values
    if values.dtype != dtype or dtype not in (np.uint16, np.uint32) or tokens.first_byte % dtype.itemsize:
        raise ValueError(f"tokens are {values.dtype} from byte {tokens.first_byte}, where {dtype} was expected")
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(values) or np.any(offsets[1:] < offsets[:-1]):
        raise ValueError(f"offsets do not cut {len(values)} tokens into documents")


class _HashingFile(io.RawIOBase):
    """Counts and hashes what passes through, so that a shard need not be read again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size_bytes

    def write(self, content: Buffer) -> int:
        self.sha256.update(content)
        written = self._file.write(content)
        self.size_bytes += written
        return written

    def sync_and_close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        self._file.close()
        super().close()
