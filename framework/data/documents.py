"""Documents as ``prepare`` takes them: hashed, sorted into a split, in batches, read ahead by a thread."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from framework.config.schema import Config
from framework.data.manifest import Split
from framework.data.sources import ReadMeter, has_validation_source, open_documents
from framework.errors import SourceError

BATCH_BYTES = 1024 * 1024
"""Text handed to the tokenizer at once: enough for all its threads, little enough to stay in memory."""
BATCHES_AHEAD = 4

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Document:
    """What the shards' order and fingerprints need to know of a document."""

    digest: bytes
    """16 bytes of BLAKE2b of the UTF-8 text."""
    text_bytes: int
    split: Split


@dataclass(frozen=True, slots=True)
class TextDocument(Document):
    """A document that was read."""

    text: str


@dataclass(frozen=True, slots=True)
class Batch:
    """About ``BATCH_BYTES`` of text."""

    documents: list[TextDocument]
    read_bytes: int
    """Of files, when the batch was full."""

    @property
    def text_bytes(self) -> int:
        """Of all documents together, as UTF-8."""
        return sum(document.text_bytes for document in self.documents)


def read_documents(config: Config, meter: ReadMeter) -> Iterator[TextDocument]:
    """All documents with their split: those of the training text, then those of a validation text of its own.

    Raises:
        SourceError: the text is missing, empty, or cannot be read.
    """
    yield from read_source(config, "train", meter)
    if has_validation_source(config):
        yield from read_source(config, "validation", meter)


def read_source(config: Config, source: Split, meter: ReadMeter) -> Iterator[TextDocument]:
    """The documents of the training text, or of the validation text of its own.

    Raises:
        SourceError: as ``read_documents``.
    """
    return hashed(open_documents(config, source, meter), config, source, f"the {source} text")


def hashed(texts: Iterable[str], config: Config, source: Split, described: str) -> Iterator[TextDocument]:
    """The texts with their hashes, and the split that follows from them where ``source`` has to be divided.

    Raises:
        SourceError: a text is not Unicode; ``described`` is where they come from, for the message.
    """
    divides = not has_validation_source(config)
    threshold = int(config.data.validation_fraction * 2**64)
    for number, text in enumerate(texts, start=1):
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            raise SourceError(
                f"document {number} of {described} is not Unicode: {error.reason} at character {error.start}",
                fix="remove the half surrogate pair (such as \\ud83d alone) from that document",
            ) from None
        digest = hashlib.blake2b(content, digest_size=16).digest()
        split = source
        if divides and int.from_bytes(digest[:8], "big") < threshold:
            split = "validation"
        yield TextDocument(digest, len(content), split, text)


def batches(documents: Iterable[TextDocument], meter: ReadMeter) -> Iterator[Batch]:
    """The documents in batches of at least ``BATCH_BYTES`` of text; the last one may hold less."""
    batch: list[TextDocument] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += document.text_bytes
        if size >= BATCH_BYTES:
            yield Batch(batch, meter.read_bytes)
            batch, size = [], 0
    if batch:
        yield Batch(batch, meter.read_bytes)


def read_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Iterates in a thread of its own, a few items ahead; what the iteration raises is raised here."""
    ready: queue.Queue[Item | _Raised | None] = queue.Queue(maxsize=BATCHES_AHEAD)
    stop = threading.Event()

    def put(item: Item | _Raised | None) -> bool:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def read() -> None:
        try:
            if all(put(item) for item in items):
                put(None)
        except BaseException as error:  # must reach the other thread, whatever it is
            put(_Raised(error))

    thread = threading.Thread(target=read, name="prepare-reader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, _Raised):
                raise item.error
            yield item
    finally:
        stop.set()
        thread.join(timeout=5.0)


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


class SourceFingerprint:
    """SHA-256 over all documents' digests and splits, in their order: what was read, wherever it lay."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, document: Document) -> None:
        """Takes the next document into account."""
        self._hash.update(document.digest + (b"v" if document.split == "validation" else b"t"))

    def hexdigest(self) -> str:
        """Of all documents so far, in hex."""
        return self._hash.hexdigest()
