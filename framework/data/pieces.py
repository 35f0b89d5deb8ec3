"""The text as a row of pieces that can be opened on their own: what a ``prepare`` in parts deals out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from framework.config.schema import Config
from framework.data.cut import runs_of_files
from framework.data.documents import TextDocument, hashed
from framework.data.hub import open_hub_shards
from framework.data.manifest import SPLITS, Split
from framework.data.sources import (
    FILE_SOURCES,
    ReadMeter,
    has_validation_source,
    open_documents,
    open_files,
    source_files,
    without_blank,
)


@dataclass(frozen=True)
class Piece:
    """Consecutive documents of the training text, or of a validation text of its own.

    ``size`` is bytes on disk, or 1 where nothing is known; ``open`` gives the documents, and tells a meter the bytes read.
    """

    size: int
    open: Callable[[ReadMeter], Iterator[TextDocument]]


def text_pieces(config: Config, parts: int) -> list[Piece]:
    """The pieces whose documents, one piece after the other, are those of ``read_documents``.

    Runs of files, or a hub data set's shards. Where only reading from the beginning tells what a document is (a text that is
    made, a plugin's, the first ``data.documents``), a whole text is one piece.

    Raises:
        SourceError: the text is missing or cannot be opened.
    """
    sources = [split for split in SPLITS if split == "train" or has_validation_source(config)]
    if config.data.documents is None:
        if config.data.source in FILE_SOURCES:
            return _of_files(config, sources, parts)
        if config.data.source == "hub":
            return [piece for source in sources for piece in _of_hub(config, source)]
    return [_whole(config, source) for source in sources]


def _whole(config: Config, source: Split) -> Piece:
    size = sum(file.stat().st_size for file in source_files(config, source))

    def open_it(meter: ReadMeter) -> Iterator[TextDocument]:
        return hashed(open_documents(config, source, meter), config, source, f"the {source} text")

    return Piece(size or 1, open_it)


def _of_files(config: Config, sources: list[Split], parts: int) -> list[Piece]:
    files = {source: source_files(config, source) for source in sources}
    sizes = {source: [file.stat().st_size for file in files[source]] for source in sources}
    total = sum(map(sum, sizes.values()))

    def open_run(source: Split, first: int, end: int, meter: ReadMeter) -> Iterator[TextDocument]:
        run = files[source][first:end]
        return hashed(open_files(config, run, meter), config, source, f"the files from {run[0]} on")

    return [
        Piece(sum(sizes[source][first:end]), partial(open_run, source, first, end))
        for source in sources
        for first, end in runs_of_files(sizes[source], parts, total)
    ]


def _of_hub(config: Config, source: Split) -> Iterator[Piece]:
    def open_shard(open_texts: Callable[[], Iterator[str]], number: int, meter: ReadMeter) -> Iterator[TextDocument]:
        return hashed(without_blank(open_texts()), config, source, f"the {source} text's shard {number}")

    data = config.data
    split = data.hub_validation_split if source == "validation" else data.hub_split
    for number, open_texts in enumerate(open_hub_shards(data, split)):
        yield Piece(1, partial(open_shard, open_texts, number))
