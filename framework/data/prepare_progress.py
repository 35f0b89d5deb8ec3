"""How far ``prepare`` has come: counted here, shown by whoever asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from framework.config.schema import Config
from framework.data.documents import Document
from framework.data.manifest import SPLITS
from framework.data.sources import EMBEDDED_DOCUMENTS, source_files
from framework.data.tokenizer import TRAINING_TEXT_BYTES

Phase = Literal["waiting", "tokenizer", "shards", "part", "merge"]
"""``prepare`` alone goes through tokenizer and shards; a part through waiting or tokenizer, part, and the last one merge."""


class PrepareProgress(Protocol):
    """Is told how far ``prepare`` has come, after every batch of about 1 MB."""

    def __call__(self, *, phase: Phase, documents: int, text_bytes: int, total_bytes: int | None) -> None:
        """``documents`` and ``text_bytes`` are done so far in ``phase``; ``total_bytes`` is an estimate, if any."""


class Reporter:
    """Counts documents and tells the progress."""

    def __init__(
        self,
        progress: PrepareProgress | None,
        phase: Phase,
        *,
        expected_documents: int | None = None,
        file_bytes: int = 0,
        total_bytes: int | None = None,
    ) -> None:
        """What is known of the end, if anything: the documents, the bytes of files to read, or those of text."""
        self._progress = progress
        self._phase: Phase = phase
        self._documents = 0
        self._text_bytes = 0
        self._expected_documents = expected_documents
        self._file_bytes = file_bytes
        self._total_bytes = total_bytes

    @classmethod
    def of_text(cls, progress: PrepareProgress | None, phase: Phase, config: Config) -> Reporter:
        """For a phase that reads the text from its beginning."""
        expected = config.data.documents
        if config.data.source == "embedded" and expected is None:
            expected = EMBEDDED_DOCUMENTS
        file_bytes = sum(file.stat().st_size for split in SPLITS for file in source_files(config, split))
        return cls(progress, phase, expected_documents=expected, file_bytes=file_bytes)

    def count(self, documents: Sequence[Document], read_bytes: int = 0) -> None:
        """``documents`` are done; ``read_bytes`` of the files have been read so far."""
        self._documents += len(documents)
        self._text_bytes += sum(document.text_bytes for document in documents)
        if self._progress is not None:
            self._progress(
                phase=self._phase,
                documents=self._documents,
                text_bytes=self._text_bytes,
                total_bytes=self._total_bytes or self._estimate_total_bytes(read_bytes),
            )

    def _estimate_total_bytes(self, read_bytes: int) -> int | None:
        shares = []
        if self._expected_documents:
            shares.append(self._documents / self._expected_documents)
        if self._file_bytes:
            shares.append(read_bytes / self._file_bytes)
        share = min(1.0, max(shares, default=0.0))
        if share == 0.0:
            return None
        total = round(self._text_bytes / share)
        return max(self._text_bytes, min(total, TRAINING_TEXT_BYTES)) if self._phase == "tokenizer" else total
