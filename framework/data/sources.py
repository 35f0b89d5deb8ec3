"""Where documents come from: one generator per ``data.source``, each streaming with bounded memory.

    for document in open_documents(config, "train"):
        ...

Every source gives the same documents in the same order each time it is opened. What is wrong in the input is a
``SourceError`` that names the file and the place in it.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import glob
import gzip
import io
import itertools
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from framework.config.schema import Config, DataConfig
from framework.data.hub import read_hub
from framework.data.manifest import Split
from framework.data.rows import missing_field, text_of_row
from framework.errors import SourceError

EMBEDDED_DOCUMENTS = 20_000
EMBEDDED_SEED = 0
"""The built-in corpus is one fixed corpus: ``seed`` changes what is learnt from it, not what stands in it."""
MAX_DOCUMENT_CHARACTERS = 256 * 1024 * 1024
"""More text than this without a separator is no document but a wrong ``data.separator``."""

_CHUNK_BYTES = 256 * 1024
_SUFFIXES = {
    "text": (".txt", ".text", ".md", ".txt.gz", ".text.gz", ".md.gz"),
    "jsonl": (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz", ".ndjson.gz"),
    "csv": (".csv", ".csv.gz"),
    "parquet": (".parquet",),
}
FILE_SOURCES = tuple(_SUFFIXES)


@dataclass
class ReadMeter:
    """How many bytes of the files on disk have been read. For progress only."""

    read_bytes: int = 0


def open_documents(config: Config, split: Split, meter: ReadMeter | None = None) -> Iterator[str]:
    """The documents of the training text, or of the validation text where there is a separate one, in their order.

    At most ``data.documents`` of them. ``text`` documents lose surrounding white space; documents of white space
    alone are left out everywhere.

    Args:
        config: of the run.
        split: "validation" only if ``has_validation_source(config)``.
        meter: is told the bytes read of files, from the thread that iterates.

    Raises:
        SourceError: nothing is there, or it cannot be read: at once where that is known at once, else in iterating.
    """
    if split == "validation" and not has_validation_source(config):
        raise ValueError("there is no separate validation text: take a fraction of the training text")
    data = config.data
    documents = _open(config, split, meter or ReadMeter())
    kept = without_blank(documents)
    limited = itertools.islice(kept, data.documents) if data.documents is not None else kept
    return _refuse_empty(limited, _described(data, split))


def open_text(path: str, separator: str, *, key: str) -> Iterator[str]:
    """The documents of UTF-8 text files as ``data.source: text`` reads them, for a text that no config names.

    Args:
        path: a file, a folder or a glob.
        separator: what stands between two documents; a file without it is one document.
        key: what messages call the path, such as ``--text``.

    Raises:
        SourceError: as ``open_documents``.
    """
    files = _find_files("text", path, key)
    documents = _read_text(files, DataConfig(source="text", separator=separator), ReadMeter())
    return _refuse_empty(without_blank(documents), f"{key} {path}")


def has_validation_source(config: Config) -> bool:
    """Whether validation has a text of its own, in place of a fraction of the training documents."""
    return config.data.validation_path is not None or config.data.hub_validation_split is not None


def source_files(config: Config, split: Split) -> list[Path]:
    """The files that a split of a file source is read from, sorted; none for the other sources.

    Raises:
        SourceError: the path is missing, or no file there fits.
    """
    data = config.data
    if data.source not in FILE_SOURCES:
        return []
    if split == "validation":
        return _find_files(data.source, data.validation_path, "data.validation_path") if data.validation_path else []
    held_out = {file.resolve() for file in source_files(config, "validation")}
    shards_dir = data.shards_dir.expanduser().resolve()  # below data.path, its .json files would look like text
    found = _find_files(data.source, data.path, "data.path")
    files = [file for file in found if shards_dir not in file.resolve().parents]
    training = [file for file in files if file.resolve() not in held_out]
    if not training:
        raise SourceError(
            f"data.path {data.path} holds nothing but the files of data.validation_path {data.validation_path}",
            fix="name two different texts, or leave data.validation_path out to hold out a fraction",
        )
    return training


def open_files(config: Config, files: Sequence[Path], meter: ReadMeter) -> Iterator[str]:
    """The documents of some of ``source_files``: no document crosses files, so runs of them give what all of them give.

    None at all where the files hold none. ``data.documents`` is not looked at.

    Raises:
        SourceError: as ``open_documents``.
    """
    return without_blank(_READERS[config.data.source](files, config.data, meter))


def _open(config: Config, split: Split, meter: ReadMeter) -> Iterator[str]:
    data = config.data
    _refuse_misplaced_validation(data)
    if data.source in FILE_SOURCES:
        files = source_files(config, split)
        return _READERS[data.source](files, data, meter)
    if data.source == "embedded":
        from framework.data.embedded import generate_stories

        return generate_stories(data.documents or EMBEDDED_DOCUMENTS, seed=EMBEDDED_SEED)
    if data.source == "hub":
        return read_hub(data, data.hub_validation_split if split == "validation" else data.hub_split)
    return _open_of_plugin(config, split)


def _refuse_misplaced_validation(data: DataConfig) -> None:
    if data.validation_path is not None and data.source in ("embedded", "hub"):
        instead = "data.hub_validation_split" if data.source == "hub" else "data.validation_fraction"
        raise SourceError(
            f"data.validation_path {data.validation_path} is given, but data.source {data.source} reads no files",
            fix=f"leave it out and use {instead}",
        )
    if data.hub_validation_split is not None and data.source != "hub":
        raise SourceError(
            f"data.hub_validation_split {data.hub_validation_split} is given, but data.source is {data.source}",
            fix="leave it out and use data.validation_path or data.validation_fraction",
        )


def _open_of_plugin(config: Config, split: Split) -> Iterator[str]:
    from framework.plugins.registry import active_plugins

    name = config.data.source
    sources = {key: source for active in active_plugins(config) for key, source in active.plugin.sources.items()}
    if name in sources:
        held_out = config.data.validation_path
        return iter(sources[name](config.data, Path(held_out) if split == "validation" and held_out else None))
    known = ["embedded", *FILE_SOURCES, "hub", *sources]
    near = difflib.get_close_matches(name, known, n=1)
    of_plugins = (
        f"; of this config's plugins: {', '.join(sources)}" if sources else "; this config's plugins bring none"
    )
    raise SourceError(
        f"data.source {name!r} is unknown (built in: {', '.join(known[: len(known) - len(sources)])}{of_plugins})",
        fix=f"write data.source={near[0]}"
        if near
        else "choose one of these, or add the plugin's section to the config",
    )


def _described(data: DataConfig, split: Split) -> str:
    if data.source == "hub":
        return f"data.path {data.path}, split {data.hub_validation_split if split == 'validation' else data.hub_split}"
    if split == "validation":
        return f"data.validation_path {data.validation_path}"
    return f"data.path {data.path}" if data.path else f"data.source {data.source}"


def without_blank(documents: Iterator[str]) -> Iterator[str]:
    """Leaves out documents of white space alone, as ``open_documents`` does."""
    return (document for document in documents if document and not document.isspace())


def _refuse_empty(documents: Iterator[str], described: str) -> Iterator[str]:
    is_empty = True
    for document in documents:
        is_empty = False
        yield document
    if is_empty:
        raise SourceError(
            f"{described} holds no document, only white space or nothing", fix="name a text with words in it"
        )


# --- Files ---


def _find_files(source: str, path: str | None, key: str) -> list[Path]:
    if not path:
        raise SourceError(f"{key} is missing for data.source {source}", fix=f"set {key} to a file, a folder or a glob")
    expanded = Path(path).expanduser()
    if expanded.is_file():
        return [expanded]
    if expanded.is_dir():
        return _files_of_folder(source, expanded, key)
    if glob.has_magic(path):
        found = sorted(Path(match) for match in glob.glob(str(expanded), recursive=True) if Path(match).is_file())
        if not found:
            raise SourceError(f"{key} {path} matches no file", fix="correct the pattern; ** also descends into folders")
        return found
    raise SourceError(f"{key} {path} does not exist", fix=_suggest_path(expanded))


def _files_of_folder(source: str, folder: Path, key: str) -> list[Path]:
    entries = sorted(entry for entry in folder.rglob("*") if entry.is_file() and not entry.name.startswith("."))
    files = [entry for entry in entries if entry.name.lower().endswith(_SUFFIXES[source])]
    if not files:
        names = ", ".join(entry.name for entry in entries[:5]) or "nothing"
        raise SourceError(
            f"{key} {folder} holds no {' or '.join(_SUFFIXES[source])} file (there: {names})",
            fix=f"set data.source to what these files are, or name them by a pattern, such as {folder}/*",
        )
    return files


def _suggest_path(path: Path) -> str:
    siblings = [str(entry) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(str(path), siblings, n=1)
    return f"did you mean {near[0]}?" if near else "name an existing file, folder or glob"


def _open_file(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise SourceError(
            f"{file} cannot be opened: {error.strerror}", fix="make it readable, or leave it out"
        ) from error


def _read_chunks(file: Path, meter: ReadMeter) -> Iterator[bytes]:
    """The file's bytes, decompressed if its name ends with .gz."""
    with _open_file(file) as raw:
        stream = gzip.GzipFile(fileobj=raw) if file.name.endswith(".gz") else raw
        seen = 0
        try:
            while chunk := stream.read(_CHUNK_BYTES):
                meter.read_bytes += raw.tell() - seen
                seen = raw.tell()
                yield chunk
        except (OSError, EOFError, zlib.error) as error:  # EOFError: a .gz that was cut short
            raise SourceError(f"{file} cannot be read: {error}", fix="copy or compress it again") from error


def _decode_chunks(file: Path, encoding: str, meter: ReadMeter) -> Iterator[str]:
    """The file's text without byte-order mark; all line ends become a line feed, as in Python's text files."""
    decoder = _decoder(encoding)
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    position = 0
    for chunk in itertools.chain(_read_chunks(file, meter), (b"",)):
        position += len(chunk)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeError as error:
            raise _undecodable(file, encoding, position, error) from None
        yield newlines.decode(text, final=not chunk)


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        name = codecs.lookup(encoding).name
        return codecs.getincrementaldecoder("utf-8-sig" if name == "utf-8" else name)("strict")
    except LookupError:
        near = difflib.get_close_matches(encoding, ["utf-8", "utf-16", "latin-1", "cp1252", "ascii"], n=1)
        raise SourceError(
            f"data.encoding {encoding!r} is not an encoding",
            fix=f"write data.encoding={near[0] if near else 'utf-8'}",
        ) from None


def _undecodable(file: Path, encoding: str, position: int, error: UnicodeError) -> SourceError:
    where = "a byte"
    if isinstance(error, UnicodeDecodeError):
        # error.object ends where the chunk ends, and begins with what the decoder still held of the one before.
        offset = position - len(error.object) + error.start
        where = f"byte {offset} (0x{error.object[error.start]:02x})"
    return SourceError(
        f"{file}: {where} is not {encoding}",
        fix="repair or convert the file, or set data.encoding to the text's encoding, such as data.encoding=cp1252",
    )


def _split_lines(file: Path, data: DataConfig, meter: ReadMeter) -> Iterator[str]:
    return _split_stream(
        _decode_chunks(file, data.encoding, meter), "\n", file, fix="set data.source to what this file is"
    )


def _split_stream(chunks: Iterable[str], separator: str, file: Path, *, fix: str) -> Iterator[str]:
    pending = ""
    for chunk in chunks:
        *whole, pending = (pending + chunk).split(separator) if separator else (pending + chunk,)
        yield from whole
        if len(pending) > MAX_DOCUMENT_CHARACTERS:
            raise SourceError(
                f"{file}: more than {MAX_DOCUMENT_CHARACTERS // 2**20} Mi characters without {separator!r}",
                fix=fix,
            )
    yield pending


def _read_text(files: Sequence[Path], data: DataConfig, meter: ReadMeter) -> Iterator[str]:
    for file in files:
        chunks = _decode_chunks(file, data.encoding, meter)
        fix = "name what stands between two documents (data.separator)"
        for document in _split_stream(chunks, data.separator, file, fix=fix):
            yield document.strip()


def _read_jsonl(files: Sequence[Path], data: DataConfig, meter: ReadMeter) -> Iterator[str]:
    for file in files:
        for number, line in enumerate(_split_lines(file, data, meter), start=1):
            if line and not line.isspace():
                yield text_of_row(_parse_line(line, file, number), data.text_field, f"{file}:{number}")


def _parse_line(line: str, file: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{file}:{number}: not JSON: {error}", fix="correct or remove that line") from None
    if not isinstance(row, dict):
        raise SourceError(
            f"{file}:{number}: a JSON {type(row).__name__}, not an object with fields",
            fix='write one object a line, such as {"text": "..."}',
        )
    return row


def _read_csv(files: Sequence[Path], data: DataConfig, meter: ReadMeter) -> Iterator[str]:
    csv.field_size_limit(min(sys.maxsize, MAX_DOCUMENT_CHARACTERS))  # 128 KiB otherwise; one setting for the process
    for file in files:
        lines = (f"{line}\n" for line in _split_lines(file, data, meter))
        rows = csv.reader(lines, strict=True)
        try:
            yield from _texts_of_rows(rows, data.text_field, file)
        except csv.Error as error:
            raise SourceError(
                f"{file}:{rows.line_num}: not CSV: {error}", fix="correct the quotes of that row"
            ) from None


def _texts_of_rows(rows: Any, field: str, file: Path) -> Iterator[str]:
    header: list[str] = next((row for row in rows if row), [])
    if field not in header:
        raise missing_field(field, header, str(file))
    column = header.index(field)
    for row in rows:
        if not row:  # an empty line
            continue
        if len(row) != len(header):
            raise SourceError(
                f"{file}:{rows.line_num}: {len(row)} fields, but the header has {len(header)}",
                fix="correct that row; text with commas or line ends must be quoted",
            )
        yield row[column]


def _read_parquet(files: Sequence[Path], data: DataConfig, meter: ReadMeter) -> Iterator[str]:
    for file in files:
        with _open_file(file) as raw:
            yield from _texts_of_parquet(raw, file, data.text_field, meter)


def _texts_of_parquet(raw: BinaryIO, file: Path, field: str, meter: ReadMeter) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    row = 0
    size = os.fstat(raw.fileno()).st_size
    try:
        parquet = pyarrow.parquet.ParquetFile(raw)
        _refuse_odd_column(parquet.schema_arrow, field, file)
        for group in range(parquet.num_row_groups):
            for batch in parquet.iter_batches(batch_size=1024, row_groups=[group], columns=[field]):
                for text in batch.column(0).to_pylist():
                    row += 1
                    yield text_of_row({field: text}, field, f"{file}, row {row}")
            meter.read_bytes += size // parquet.num_row_groups
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{file} cannot be read after row {row}: {reason}", fix="write or copy it again") from error


def _refuse_odd_column(schema: Any, field: str, file: Path) -> None:
    import pyarrow

    if field not in schema.names:
        raise missing_field(field, schema.names, str(file))
    kind = schema.field(field).type
    value = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if not (
        pyarrow.types.is_string(value) or pyarrow.types.is_large_string(value) or pyarrow.types.is_string_view(value)
    ):
        texts = [each.name for each in schema if pyarrow.types.is_string(each.type)]
        raise SourceError(
            f"{file}: column {field!r} is {kind}, not text",
            fix=f"set data.text_field to a column of text ({', '.join(texts) or 'this file has none'})",
        )


_READERS: dict[str, Callable[[Sequence[Path], DataConfig, ReadMeter], Iterator[str]]] = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
}
