from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from framework.errors import SourceError
from framework.plugins.lora.options import LabelledDataOptions
from framework.plugins.lora.table import LabelledData, load_labelled, load_test_set

BOOKS = [
    {"title": "One", "text": " The cat sat. ", "age": "Age 0-3", "genre": "animals"},
    {"title": "Two", "text": "A dog,\nand a frog", "age": "9+", "genre": "animals"},
    {"title": "Three", "text": "Bär und „Tiger“", "age": "Age 3-5", "genre": "travel"},
    {"title": "Four", "text": "the CAT  sat.", "age": "6 months+", "genre": "travel"},
]
GROUPS = {"label_field": "age", "label_kind": "age", "age_groups": [0, 3, 6, 9]}


def options(file: Path, **values: Any) -> LabelledDataOptions:
    return LabelledDataOptions.model_validate({"source": file.suffix[1:], "path": str(file), **values})


def write(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    if file.suffix == ".csv":
        with file.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif file.suffix == ".jsonl":
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    return file


def refused(options: LabelledDataOptions, *arguments: Any) -> str:
    with pytest.raises(SourceError) as caught:
        load_labelled(options, *arguments)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("name", ["books.csv", "books.jsonl", "books.parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    data = load_labelled(options(write(tmp_path / name, BOOKS), **GROUPS))
    assert data.texts == ("The cat sat.", "A dog,\nand a frog", "Bär und „Tiger“", "the CAT  sat.")
    assert data.groups == ("the cat sat.", "a dog, and a frog", "bär und „tiger“", "the cat sat.")
    assert data.classes == ("0-2", "3-5", "6-8", "9+")
    assert data.class_ages == (0, 3, 6, 9)
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == [0, 3, 1, 0]
    assert data.ages is not None
    assert data.ages.dtype == np.float64
    assert data.ages.tolist() == [0, 9, 3, 0.5]
    assert data.dropped == {}
    assert len(data) == 4


def test_every_minimum_age_is_a_class_without_groups(tmp_path: Path) -> None:
    data = load_labelled(options(write(tmp_path / "a.csv", BOOKS), label_field="age", label_kind="age"))
    assert data.classes == ("0", "6 months", "3", "9")
    assert data.class_ages == (0, 0.5, 3, 9)
    assert data.labels.tolist() == [0, 3, 2, 1]


def test_ages_may_be_numbers(tmp_path: Path) -> None:
    rows = [{"text": "a", "age": 3.0}, {"text": "b", "age": 0.5}, {"text": "c", "age": 12.0}]
    data = load_labelled(options(write(tmp_path / "a.parquet", rows), **GROUPS))
    assert data.labels.tolist() == [1, 0, 3]


def test_named_classes_are_sorted_or_in_the_order_given(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", BOOKS)
    data = load_labelled(options(file, label_field="genre"))
    assert (data.classes, data.labels.tolist(), data.class_ages, data.ages) == (
        ("animals", "travel"), [0, 0, 1, 1], None, None,
    )  # fmt: skip
    data = load_labelled(options(file, label_field="genre", classes=["travel", "animals", "art"]))
    assert (data.classes, data.labels.tolist()) == (("travel", "animals", "art"), [1, 1, 0, 0])


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": stars} for stars in (10, 9, 2)]
    assert load_labelled(options(write(tmp_path / "a.jsonl", rows))).classes == ("2", "9", "10")


def test_text_fields_are_joined_and_empty_ones_left_out(tmp_path: Path) -> None:
    rows = [{**BOOKS[0]}, {**BOOKS[1], "title": ""}, {**BOOKS[2], "text": None}]
    data = load_labelled(options(write(tmp_path / "a.jsonl", rows), text_fields=["title", "text"], label_field="genre"))
    assert data.texts == ("One\nThe cat sat.", "A dog,\nand a frog", "Three")


def test_a_group_field_takes_the_place_of_the_text(tmp_path: Path) -> None:
    data = load_labelled(options(write(tmp_path / "a.csv", BOOKS), **GROUPS, group_field="genre"))
    assert data.groups == ("animals", "animals", "travel", "travel")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "UTF8"])
def test_a_byte_order_mark_is_dropped(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes("\ufefftext,label\none,x\ntwo,y\n".encode(encoding))
    assert load_labelled(options(file, encoding=encoding)).texts == ("one", "two")


def test_the_embedded_blurbs_need_no_file() -> None:
    data = load_labelled(LabelledDataOptions(documents=50))
    assert len(data) == 50
    assert data.classes == ("0-2", "3-5", "6-8", "9+")


# --- Bad rows ---

BAD_ROWS = [
    ({"text": "  ", "age": "3+"}, "empty text", "the text is empty (text)"),
    ({"text": None, "age": "3+"}, "empty text", "the text is empty (text)"),
    ({"text": "x", "age": None}, "no label", "the label is missing (age: None)"),
    ({"text": "x", "age": ""}, "no label", "the label is missing (age: '')"),
    ({"text": "x", "age": float("nan")}, "no label", "the label is missing (age: nan)"),
    ({"text": "x", "age": "NaN"}, "no label", "the label is missing (age: 'NaN')"),
    ({"text": "x"}, "no label", "the label is missing (age: None)"),
    ({"text": "x", "age": "Age "}, "label is no age", "label 'Age' is no age"),
    (
        {"text": "x", "age": "1+"},
        "age below the first group",
        "label '1+': age 1 is below the first age group, which begins at 2",
    ),
]


@pytest.mark.parametrize(("row", "reason", "message"), BAD_ROWS)
def test_bad_rows_are_refused_by_place_or_dropped_and_counted(
    tmp_path: Path, row: dict[str, Any], reason: str, message: str
) -> None:
    file = write(tmp_path / "a.jsonl", [{"text": "a", "age": "2-5"}, row, {"text": "b", "age": "6+"}, row])
    values = {**GROUPS, "age_groups": [2, 6]}
    said = refused(options(file, **values))
    assert f"{file}:2: {message}" in said
    assert "on_bad_row: drop" in said
    data = load_labelled(options(file, **values, on_bad_row="drop"))
    assert (data.texts, data.dropped) == (("a", "b"), {reason: 2})


def test_a_row_without_a_group_or_of_no_named_class_is_bad(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label, "by": by} for text, label, by in [
        ("a", "x", "Ann"), ("b", "y", "Bob"), ("c", "z", "Ann"), ("d", "x", ""),
    ]]  # fmt: skip
    values = {"classes": ["x", "y"], "group_field": "by"}
    file = write(tmp_path / "a.csv", rows)
    assert f"{file}:4: label 'z' is none of x, y" in refused(options(file, **values))
    data = load_labelled(options(file, **values, on_bad_row="drop"))
    assert data.dropped == {"unknown label": 1, "no group": 1}


def test_nan_is_a_class_only_by_name(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", [{"text": "bread", "label": "nan"}, {"text": "fish", "label": "grilled"}])
    assert "the label is missing" in refused(options(file))
    assert load_labelled(options(file, classes=["nan", "grilled"])).labels.tolist() == [0, 1]


def test_rows_are_named_by_the_line_they_begin_on(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('text,label\n"two\nlines",x\n\n"three\nmore\nlines",\n')
    assert f"{file}:5: the label is missing" in refused(options(file))
    file.write_text('text,label\n"two\nlines",x\na,b,c\n')
    assert f"{file}:4: 3 fields, but the header has 2" in refused(options(file))


# --- Files that a trained run is scored on ---


@pytest.fixture
def trained(tmp_path: Path) -> tuple[LabelledDataOptions, LabelledData]:
    chosen = options(write(tmp_path / "train.csv", BOOKS), label_field="genre", on_bad_row="drop")
    return chosen, load_labelled(chosen)


def test_a_later_file_is_numbered_by_the_classes_of_the_training(
    tmp_path: Path, trained: tuple[LabelledDataOptions, LabelledData]
) -> None:
    chosen, data = trained
    later = write(tmp_path / "later.parquet", [{"text": "new", "genre": "travel"}])  # one class only, another format
    assert load_labelled(chosen, later, data.classes).labels.tolist() == [1]


def test_an_unknown_label_is_refused_even_where_bad_rows_are_dropped(
    tmp_path: Path, trained: tuple[LabelledDataOptions, LabelledData]
) -> None:
    chosen, data = trained
    later = write(tmp_path / "later.jsonl", [{"text": "a", "genre": "travel"}, {"text": "b", "genre": "animal"}])
    said = refused(chosen, later, data.classes)
    assert (
        f"{later}:2: label 'animal' is of the class 'animal', which the model was not trained on (animals, travel)"
        in said
    )
    assert "write 'animals'" in said


def test_an_unknown_exact_age_is_refused(tmp_path: Path) -> None:
    chosen = options(write(tmp_path / "train.csv", BOOKS), label_field="age", label_kind="age")
    later = write(tmp_path / "later.csv", [{"text": "a", "age": "Ages 7 and up"}])
    data = load_labelled(chosen)
    assert "label 'Ages 7 and up' is of the class '7', which" in refused(chosen, later, data.classes)
    write(later, [{"text": "a", "age": "6months+"}])
    scored = load_labelled(chosen, later, data.classes)
    assert (scored.labels.tolist(), scored.class_ages) == ([1], data.class_ages)


def test_a_run_on_the_blurbs_can_be_scored_on_a_file(tmp_path: Path) -> None:
    later = write(tmp_path / "later.csv", [{"text": "a", "age": "7+"}])
    assert load_labelled(LabelledDataOptions(), later, ("0-2", "3-5", "6-8", "9+")).labels.tolist() == [2]
    assert "is neither .csv, .jsonl nor .parquet" in refused(LabelledDataOptions(), tmp_path / "later.txt")


def test_the_test_set_has_the_classes_of_the_training(tmp_path: Path) -> None:
    test = write(tmp_path / "test.jsonl", [{"text": "a", "genre": "travel"}])
    chosen = options(write(tmp_path / "train.csv", BOOKS), label_field="genre", test_path=str(test))
    assert load_test_set(chosen, ("animals", "travel")).labels.tolist() == [1]


# --- Tables that are refused ---


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", BOOKS)
    said = refused(options(file, label_field="genres"))
    assert f"{file} has no column 'genres' (label_field); there: title, text, age, genre" in said
    assert "name 'genre' in label_field" in said
    assert "no column 'desc' (text_fields)" in refused(options(file, text_fields=["desc"], label_field="age"))
    assert "no column 'author' (group_field)" in refused(options(file, **GROUPS, group_field="author"))


def test_a_column_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label,label\na,x,y\n")
    assert "two columns 'label' (label_field)" in refused(options(tmp_path / "a.csv"))


def test_one_class_and_no_rows_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", BOOKS[:1])
    assert f"{file}: every row is of the class '0-2', and a classifier needs two" in refused(options(file, **GROUPS))
    file.write_text("text,label\n")
    assert f"{file} holds no row" in refused(options(file))
    file.write_text("")
    assert f"{file} holds no row" in refused(options(file))
    file.write_text("text,label\n,x\nb,\nc,\n")
    said = refused(options(file, on_bad_row="drop"))
    assert f"{file} holds no usable row (dropped: empty text 1, no label 2)" in said


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "books.csv", BOOKS)
    assert f"{tmp_path}/book.csv does not exist. To fix it: name {file}" in refused(options(tmp_path / "book.csv"))
    assert "is a folder" in refused(options(tmp_path, source="csv"))
    file.write_bytes("text,label\nB\xe4r,x\n".encode("latin-1"))
    assert f"{file}: byte 12 (0xe4) is not utf-8" in refused(options(file))
    assert "encoding 'utf-9' is not an encoding. To fix it: write encoding=utf-8" in refused(
        options(file, encoding="utf-9")
    )
    file.write_text('text,label\n"open,x\n')
    assert "not CSV" in refused(options(file))
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": \n')
    assert "a.jsonl:2: not JSON" in refused(options(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").write_text('["a", "x"]\n')
    assert "a.jsonl:1: a JSON list, not an object" in refused(options(tmp_path / "a.jsonl"))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    assert "cannot be read as Parquet" in refused(options(tmp_path / "a.parquet"))


def test_columns_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    rows = [{"text": 3, "label": "x"}, {"text": 4, "label": "y"}]
    assert "'text' is a int, not text" in refused(options(write(tmp_path / "a.parquet", rows), on_bad_row="drop"))
    rows = [{"text": "a", "label": ["x"]}, {"text": "b", "label": ["y"]}]  # type: ignore[dict-item]
    assert "'label' is a list" in refused(options(write(tmp_path / "a.jsonl", rows), on_bad_row="drop"))


# --- The hub, by a folder as datasets.load_dataset reads it ---


def test_hub_labels_are_read_by_name(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    for split, labels in (("train", [1, 0, 1]), ("test", [-1, 1])):
        rows = {"text": [f"{split} {number}" for number in labels], "label": labels}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{split}-00000.parquet")
    chosen = options(tmp_path, source="hub", hub_test_split="test", on_bad_row="drop")
    data = load_labelled(chosen)
    assert (data.classes, data.labels.tolist()) == (("bad", "good"), [1, 0, 1])
    test = load_test_set(chosen, data.classes)
    assert (test.texts, test.labels.tolist(), test.dropped) == (("test 1",), [1], {"no label": 1})
    assert "split nowhere cannot be read" in refused(options(tmp_path, source="hub", hub_split="nowhere"))
