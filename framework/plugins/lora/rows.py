"""Rows as they stand in a file, the hub or the embedded blurbs, before anything is known about text and label.

Labelled sets are small, so a whole table is read at once; what pretraining streams is ``framework.data.sources``.
"""

from __future__ import annotations

import csv
import difflib
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.data.sources import parse_json_line, undecodable, unknown_encoding
from framework.errors import SourceError
from framework.plugins.lora.blurbs import generate_blurbs
from framework.plugins.lora.options import LabelledDataOptions

EMBEDDED_DOCUMENTS = 2400
EMBEDDED_SEED = 0
"""The blurbs are one fixed set, as the embedded stories are."""

_FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True)
class RawTable:
    """Columns and rows of ``name``; ``rows`` pairs each row's place, for messages, with its values by column."""

    name: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Mapping[str, Any]]]


def read_training_rows(options: LabelledDataOptions) -> RawTable:
    """The table of ``path``, or of the embedded blurbs.

    Raises:
        SourceError: it is missing or cannot be read.
    """
    if options.source == "embedded":
        blurbs = generate_blurbs(options.documents or EMBEDDED_DOCUMENTS, seed=EMBEDDED_SEED)
        rows = [(f"blurb {number}", {"text": b.text, "age": b.age}) for number, b in enumerate(blurbs, start=1)]
        return RawTable("the embedded blurbs", ("text", "age"), rows)
    assert options.path is not None  # checked with the options
    if options.source == "hub":
        return _read_hub(options.path, options, options.hub_split)
    return _READERS[options.source](Path(options.path).expanduser(), options)


def read_test_rows(options: LabelledDataOptions) -> RawTable:
    """The table of the fixed test set; only if ``options.has_test_set``.

    Raises:
        SourceError: as ``read_training_rows``.
    """
    if options.hub_test_split is not None:
        assert options.path is not None
        return _read_hub(options.path, options, options.hub_test_split)
    assert options.test_path is not None
    return read_file_rows(Path(options.test_path).expanduser(), options)


def read_file_rows(file: Path, options: LabelledDataOptions) -> RawTable:
    """The table of a file with the columns of ``options``; its name says which format it has, else ``options.source`` does.

    Raises:
        SourceError: it is missing or cannot be read.
    """
    kind = _FORMATS.get(file.suffix.lower(), options.source)
    if kind not in _READERS:
        raise SourceError(f"{file} is neither .csv, .jsonl nor .parquet", fix="name the file by what it is")
    return _READERS[kind](file, options)


def _read_csv(file: Path, options: LabelledDataOptions) -> RawTable:
    csv.field_size_limit(sys.maxsize)  # 128 KiB otherwise; one setting for the process
    lines = csv.reader(io.StringIO(_read_text(file, options.encoding), newline=""), strict=True)
    rows: list[tuple[str, Mapping[str, Any]]] = []
    try:
        header = next((line for line in lines if line), [])
        begins = lines.line_num + 1  # a quoted text may go on over several lines
        for line in lines:
            if line and len(line) != len(header):
                raise SourceError(
                    f"{file}:{begins}: {len(line)} fields, but the header has {len(header)}",
                    fix="correct that row; text with commas or line ends must be quoted",
                )
            if line:  # an empty line is no row
                rows.append((f"{file}:{begins}", dict(zip(header, line, strict=True))))
            begins = lines.line_num + 1
    except csv.Error as error:
        raise SourceError(f"{file}:{lines.line_num}: not CSV: {error}", fix="correct the quotes of that row") from None
    return RawTable(str(file), header, rows)


def _read_jsonl(file: Path, options: LabelledDataOptions) -> RawTable:
    rows: list[tuple[str, Mapping[str, Any]]] = []
    columns: dict[str, None] = {}  # an ordered set
    for number, line in enumerate(_read_text(file, options.encoding).split("\n"), start=1):
        if not line or line.isspace():
            continue
        row = parse_json_line(line, file, number)
        columns |= dict.fromkeys(row)
        rows.append((f"{file}:{number}", row))
    return RawTable(str(file), list(columns), rows)


def _read_parquet(file: Path, options: LabelledDataOptions) -> RawTable:
    import pyarrow
    import pyarrow.parquet

    _refuse_no_file(file)
    wanted = {*options.text_fields, options.label_field, options.group_field}
    try:
        parquet = pyarrow.parquet.ParquetFile(file)
        columns = parquet.schema_arrow.names
        rows = parquet.read(columns=[column for column in columns if column in wanted]).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{file} cannot be read as Parquet: {reason}", fix="write or copy it again") from None
    return RawTable(str(file), columns, [(f"{file}, row {number}", row) for number, row in enumerate(rows, start=1)])


def _read_hub(name: str, options: LabelledDataOptions, split: str) -> RawTable:
    import datasets

    described = f"path {name}, split {split}"
    folder = Path(name).expanduser()
    try:
        rows = datasets.load_dataset(
            str(folder) if folder.is_dir() else name, options.hub_config, split=split, streaming=True
        )
        label = (rows.features or {}).get(options.label_field)
        read = list(rows)
    except Exception as error:  # not found, offline, gated, unknown split or configuration, malformed: many classes
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise SourceError(
            f"{described} cannot be read: {reason}",
            fix="check path, hub_config, hub_split and the network, or download it and use source parquet or jsonl",
        ) from error
    if isinstance(label, datasets.ClassLabel):  # numbers in the files, names in the description; -1 stands for unknown
        for row in read:
            number = row[options.label_field]
            row[options.label_field] = label.int2str(number) if number is not None and number >= 0 else None
    columns: dict[str, None] = {}
    for row in read:
        columns |= dict.fromkeys(row)
    return RawTable(described, list(columns), [(f"{described}, row {n}", row) for n, row in enumerate(read, start=1)])


_READERS = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}


def _read_text(file: Path, encoding: str) -> str:
    """The whole file, without byte-order mark; line ends are left as they are."""
    _refuse_no_file(file)
    try:
        return file.read_bytes().decode(encoding).removeprefix("\ufeff")
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}", fix="make it readable") from None
    except LookupError:
        raise unknown_encoding(encoding, "encoding") from None
    except UnicodeDecodeError as error:
        raise undecodable(file, encoding, len(error.object), error, "encoding") from None


def _refuse_no_file(file: Path) -> None:
    if file.is_dir():
        raise SourceError(f"{file} is a folder", fix="name one file in it")
    if not file.is_file():
        siblings = [str(entry) for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        near = difflib.get_close_matches(str(file), siblings, n=1)
        raise SourceError(f"{file} does not exist", fix=f"name {near[0]}" if near else "name an existing file")
