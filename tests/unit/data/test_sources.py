from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from framework.config.load import build_config
from framework.config.schema import Config, DataConfig
from framework.data import sources
from framework.data.sources import ReadMeter, open_documents, source_files
from framework.errors import SourceError
from framework.plugins import registry
from framework.plugins.interface import Plugin

SEPARATOR = "<|endoftext|>"


def make_config(source: str, path: Path | str | None = None, plugins: Any = None, **data: Any) -> Config:
    values = {"source": source, "path": None if path is None else str(path), **data}
    return build_config({"data": values, "plugins": plugins or {}}, origin="test")


def read(source: str, path: Path | str | None = None, **data: Any) -> list[str]:
    return list(open_documents(make_config(source, path, **data), "train"))


def refused(source: str, path: Path | str | None = None, **data: Any) -> str:
    with pytest.raises(SourceError) as caught:
        read(source, path, **data)
    return str(caught.value)


# --- text ---


def test_text_is_split_and_stripped_and_empty_documents_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(f" one \n{SEPARATOR}\n\n{SEPARATOR}two\nlines{SEPARATOR} \t {SEPARATOR}three", encoding="utf-8")
    assert read("text", file) == ["one", "two\nlines", "three"]
    assert read("text", file, documents=2) == ["one", "two\nlines"]


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 64])
def test_text_does_not_depend_on_where_chunks_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    texts = ["Bär 🐻", "a\r\nb", "<|endof", "text|>", "兔" * 9]
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + SEPARATOR.join(texts).encode())
    monkeypatch.setattr(sources, "_CHUNK_BYTES", chunk_bytes)
    assert read("text", tmp_path / "a.txt") == ["Bär 🐻", "a\nb", "<|endof", "text|>", "兔" * 9]


def test_text_takes_another_separator_and_encoding_and_gz(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("Bär\n\nzwei\n\n".encode("cp1252")))
    assert read("text", tmp_path / "a.txt.gz", separator="\n\n", encoding="cp1252") == ["Bär", "zwei"]
    assert read("text", tmp_path / "a.txt.gz", separator="", encoding="cp1252") == ["Bär\n\nzwei"]
    (tmp_path / "b.txt").write_bytes("Bär".encode("utf-16"))
    assert read("text", tmp_path / "b.txt", encoding="utf-16") == ["Bär"]


def test_folders_and_globs_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden.txt", "d.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert read("text", tmp_path) == ["a.txt", "b.txt", "sub/c.txt"]
    assert read("text", tmp_path / "*.txt") == ["a.txt", "b.txt"]
    assert read("text", tmp_path / "**" / "c.*") == ["sub/c.txt"]


def test_shards_below_the_text_are_not_taken_for_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "manifest.json").write_text("{}")
    assert read("jsonl", tmp_path, shards_dir=str(tmp_path / "shards")) == ["one"]


def test_validation_files_are_left_out_of_the_training_folder(tmp_path: Path) -> None:
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).write_text(name)
    config = make_config("text", tmp_path, validation_path=str(tmp_path / "valid.txt"))
    assert list(open_documents(config, "train")) == ["train.txt"]
    assert list(open_documents(config, "validation")) == ["valid.txt"]
    message = refused("text", tmp_path / "valid.txt", validation_path=str(tmp_path))
    assert "holds nothing but the files of data.validation_path" in message


def test_documents_are_read_with_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(SEPARATOR.join("x" * 5000 for _ in range(2000)))
    meter = ReadMeter()
    documents = open_documents(make_config("text", tmp_path / "a.txt"), "train", meter)
    next(documents)
    assert 0 < meter.read_bytes < 1_000_000
    assert sum(1 for _ in documents) == 1999
    assert meter.read_bytes == (tmp_path / "a.txt").stat().st_size


def test_undecodable_bytes_are_named_with_their_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("ä".encode() * 50 + "ü".encode("cp1252") + b"rest")
    for chunk_bytes in (7, 1024):
        monkeypatch.setattr(sources, "_CHUNK_BYTES", chunk_bytes)
        message = refused("text", file)
        assert f"{file}: byte 100 (0xfc) is not utf-8" in message
        assert "data.encoding=cp1252" in message
    file.write_bytes(b"cut \xc3")
    assert "byte 4 (0xc3)" in refused("text", file)


def test_what_is_wrong_with_a_path_is_said(tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_text(" \n ")
    (tmp_path / "table.bin").write_bytes(b"x")
    assert "does not exist" in refused("text", tmp_path / "storis.txt")
    assert f"did you mean {tmp_path / 'stories.txt'}?" in refused("text", tmp_path / "storis.txt")
    assert "matches no file" in refused("text", tmp_path / "*.html")
    assert "holds no .parquet file (there: stories.txt, table.bin)" in refused("parquet", tmp_path)
    assert "holds no document" in refused("text", tmp_path / "stories.txt")
    assert "'utf-9' is not an encoding" in refused("text", tmp_path / "stories.txt", encoding="utf-9")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"many words " * 999)[:-30])
    assert "cut.txt.gz cannot be read" in refused("text", tmp_path / "cut.txt.gz")
    (tmp_path / "no.txt.gz").write_bytes(b"not compressed")
    assert "no.txt.gz cannot be read" in refused("text", tmp_path / "no.txt.gz")


def test_text_without_separator_is_refused_before_memory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("x" * 3_000_000)
    monkeypatch.setattr(sources, "MAX_DOCUMENT_CHARACTERS", 2**20)
    assert "more than 1 Mi characters without '<|endoftext|>'" in refused("text", tmp_path / "a.txt")


# --- jsonl ---


def write_lines(file: Path, *rows: object) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_jsonl_reads_one_field(tmp_path: Path) -> None:
    rows = {"story": " kept \u2028 spaces "}, "", {"story": "two\nlines"}, {"story": ""}, {"story": "🐻", "n": 1}
    file = write_lines(tmp_path / "a.jsonl", *rows)
    assert read("jsonl", file, text_field="story") == [" kept \u2028 spaces ", "two\nlines", "🐻"]
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert read("jsonl", tmp_path / "b.jsonl.gz", text_field="story", documents=1) == [" kept \u2028 spaces "]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "a"', "a.jsonl:2: not JSON"),
        ("[1]", "a.jsonl:2: a JSON list, not an object"),
        (
            '{"txet": "a", "id": 1}',
            "a.jsonl:2: no field 'text' (there: txet, id). To fix it: set data.text_field=txet",
        ),
        ('{"text": null}', "a.jsonl:2: field 'text' is null"),
        ('{"text": ["a"]}', "a.jsonl:2: field 'text' is a list"),
        ("[" * 100_000, "a.jsonl:2: not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: str, message: str) -> None:
    assert message in refused("jsonl", write_lines(tmp_path / "a.jsonl", {"text": "fine"}, row))


# --- csv ---


def test_csv_reads_one_column_of_excel_files(tmp_path: Path) -> None:
    rows = [["names", "desc"], ["a", 'said "hi",\nand left'], [], ["b", ""], ["c", "x" * 200_000]]
    with (tmp_path / "a.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(rows)
    assert read("csv", tmp_path / "a.csv", text_field="desc") == ['said "hi",\nand left', "x" * 200_000]
    assert "no field 'text' (there: names, desc)" in refused("csv", tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,n\na,1\nb\n", "a.csv:3: 1 fields, but the header has 2"),
        ("text,n\na, b,1\n", "a.csv:2: 3 fields, but the header has 2"),
        ('text,n\n"open,1\n', "not CSV"),
        ("", "no field 'text' (there: none)"),
        ("text,n\n", "holds no document"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    assert message in refused("csv", tmp_path / "a.csv")


# --- parquet ---


def test_parquet_reads_one_column(tmp_path: Path) -> None:
    texts = [f"story {number}" for number in range(2500)]
    table = pyarrow.table({"text": texts, "kind": pyarrow.array(texts).dictionary_encode(), "n": range(2500)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=300)
    meter = ReadMeter()
    assert list(open_documents(make_config("parquet", tmp_path), "train", meter)) == texts
    assert 0 < meter.read_bytes <= (tmp_path / "a.parquet").stat().st_size
    assert read("parquet", tmp_path, text_field="kind", documents=400) == texts[:400]
    assert "column 'n' is int64, not text" in refused("parquet", tmp_path, text_field="n")
    assert "(there: text, kind, n). To fix it: set data.text_field=text" in refused(
        "parquet", tmp_path, text_field="txt"
    )


def test_parquet_null_and_damage_are_named(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None]}), tmp_path / "a.parquet")
    assert "a.parquet, row 2: field 'text' is null" in refused("parquet", tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    assert "b.parquet cannot be read after row 0" in refused("parquet", tmp_path / "b.parquet")


# --- hub, embedded, plugins ---


def test_hub_streams_a_local_dataset_folder(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", {"story": "one"}, {"story": "two"})
    write_lines(tmp_path / "validation.jsonl", {"story": "held out"})
    config = make_config("hub", tmp_path, text_field="story", hub_validation_split="validation")
    assert list(open_documents(config, "train")) == ["one", "two"]
    assert list(open_documents(config, "validation")) == ["held out"]
    assert "row 1: no field 'text' (there: story)" in refused("hub", tmp_path)
    assert "split nosuch cannot be opened" in refused("hub", tmp_path, hub_split="nosuch")


def test_hub_reads_what_save_to_disk_wrote(tmp_path: Path) -> None:
    import datasets

    parts = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "both"))
    parts["test"].save_to_disk(str(tmp_path / "one"))
    assert read("hub", tmp_path / "both", hub_split="test") == ["test"]
    assert read("hub", tmp_path / "one") == ["test"]


def test_hub_says_that_a_dataset_is_absent(tmp_path: Path) -> None:
    assert "cannot be opened" in refused("hub", tmp_path / "absent")


def test_embedded_is_one_fixed_corpus() -> None:
    first = build_config({"data": {"documents": 5}, "seed": 1}, origin="test")
    second = build_config({"data": {"documents": 5}, "seed": 2}, origin="test")
    assert list(open_documents(first, "train")) == list(open_documents(second, "train"))
    assert len(list(open_documents(first, "train"))) == 5


def test_a_validation_text_that_no_one_would_read_is_refused() -> None:
    assert "data.source embedded reads no files" in refused("embedded", validation_path="valid.txt")
    assert "but data.source is text" in refused("text", "a.txt", hub_validation_split="validation")


def test_plugins_bring_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_books(data: DataConfig, validation_path: Path | None) -> Iterator[str]:
        yield f"{data.path} {validation_path}"

    plugin = Plugin(name="library", sources={"books": read_books})
    monkeypatch.setattr(registry, "installed_plugins", lambda: {"library": plugin})
    config = make_config("books", "shelf", plugins={"library": {}}, validation_path="other")
    assert list(open_documents(config, "train")) == ["shelf None"]
    assert list(open_documents(config, "validation")) == ["shelf other"]
    assert source_files(config, "train") == []
    with pytest.raises(SourceError, match=r"'boks' is unknown .*this config's plugins: books.*data.source=books"):
        open_documents(make_config("boks", plugins={"library": {}}), "train")


def test_an_unknown_source_is_refused_with_the_nearest() -> None:
    message = refused("json")
    assert (
        "'json' is unknown (built in: embedded, text, jsonl, csv, parquet, hub; this config's plugins bring none)"
        in message
    )
    assert "write data.source=jsonl" in message


def test_asking_for_a_validation_text_that_is_not_there_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no separate validation text"):
        open_documents(make_config("embedded"), "validation")
