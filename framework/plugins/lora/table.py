"""Labelled rows, checked: every row has a text, a class and a group, and what was dropped is counted by reason.

    data = load_labelled(options)                               # the training table
    later = load_labelled(options, path, classes=data.classes)  # a file that a trained run is scored on

Nothing is guessed: an unreadable label, an unknown class or an empty text is an error that names the row, unless
``on_bad_row: drop`` asks for it to be left out. A class the trained run does not know is an error always, because leaving
those rows out would flatter the score.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framework.errors import SourceError
from framework.plugins.lora.ages import age_name, group_names, group_of, parse_minimum_age
from framework.plugins.lora.options import LabelledDataOptions
from framework.plugins.lora.rows import RawTable, read_file_rows, read_test_rows, read_training_rows


@dataclass(frozen=True, eq=False)
class LabelledData:
    """Texts with their classes, n rows in the order of the file."""

    texts: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    """[n], indices into ``classes``."""
    groups: tuple[str, ...]
    """[n]; rows of one group stay on one side of a grouped split."""
    classes: tuple[str, ...]
    """Ascending by age where they are ages."""
    class_ages: tuple[float, ...] | None
    """The minimum age in years that each class stands for, a group's lower bound; None for named classes."""
    ages: npt.NDArray[np.float64] | None
    """[n], each row's exact minimum age in years; None for named classes."""
    dropped: Mapping[str, int]
    """Rows left out, by reason."""

    def __len__(self) -> int:
        return len(self.texts)


def load_labelled(
    options: LabelledDataOptions, path: Path | None = None, classes: Sequence[str] | None = None
) -> LabelledData:
    """Reads the training table, or ``path`` with the columns of ``options``.

    Args:
        options: what the columns mean.
        path: a file to read in place of ``options.path``.
        classes: of a trained run, in its order; without them they come from ``options`` or from the rows.

    Raises:
        SourceError: the file or a column is missing, nothing is readable there, no row is left, a row is bad and
            ``on_bad_row`` is ``error``, a label is none of ``classes``, or, without ``classes``, there is one class only.
    """
    table = read_training_rows(options) if path is None else read_file_rows(path, options)
    return _check_rows(table, options, classes)


def load_test_set(options: LabelledDataOptions, classes: Sequence[str]) -> LabelledData:
    """Reads the fixed test set, with the classes of the training table; only if ``options.has_test_set``.

    Raises:
        SourceError: as ``load_labelled``.
    """
    return _check_rows(read_test_rows(options), options, classes)


def normalise_text(text: str) -> str:
    """What makes two texts equal to a grouped split and to the leakage report: everything but case and white space."""
    return " ".join(text.casefold().split())


class _BadRow(Exception):
    """A row that ``on_bad_row`` decides about; the first argument is the reason it is counted by, the second what happened."""


@dataclass(frozen=True)
class _Label:
    name: str
    age: float | None = None


def _check_rows(table: RawTable, options: LabelledDataOptions, classes: Sequence[str] | None) -> LabelledData:
    if not table.rows:
        raise SourceError(f"{table.name} holds no row", fix="name a table with labelled texts in it")
    _refuse_missing_columns(table, options)
    texts: list[str] = []
    labels: list[_Label] = []
    groups: list[str] = []
    dropped: Counter[str] = Counter()
    for where, row in table.rows:
        try:
            text, label = _text_of(row, options, where), _label_of(row, options, where)
            group = _group_of_row(row, options, text, where)
        except _BadRow as bad:
            reason, happened = bad.args
            if options.on_bad_row == "error":
                raise SourceError(
                    f"{where}: {happened}", fix="correct or remove that row, or set on_bad_row: drop"
                ) from None
            dropped[reason] += 1
            continue
        if classes is not None and label.name not in classes:
            raise _unknown_class(where, label.name, classes, row[options.label_field])
        texts.append(text)
        labels.append(label)
        groups.append(group)
    if not texts:
        raise SourceError(
            f"{table.name} holds no usable row ({_counted(dropped)})", fix="check text_fields and label_field"
        )
    names = tuple(classes) if classes is not None else _classes_of(labels, options, table.name)
    index = {name: number for number, name in enumerate(names)}
    by_age = options.label_kind == "age"
    return LabelledData(
        texts=tuple(texts),
        labels=np.array([index[label.name] for label in labels], dtype=np.int64),
        groups=tuple(groups),
        classes=names,
        class_ages=(options.age_groups or tuple(map(parse_minimum_age, names))) if by_age else None,
        ages=np.array([label.age for label in labels], dtype=np.float64) if by_age else None,
        dropped=dict(dropped),
    )


def _classes_of(labels: Iterable[_Label], options: LabelledDataOptions, name: str) -> tuple[str, ...]:
    ages = {label.name: label.age for label in labels}
    if len(ages) == 1:
        raise SourceError(
            f"{name}: every row is of the class {next(iter(ages))!r}, and a classifier needs two",
            fix="name another label_field, finer age_groups, or a table with more classes",
        )
    if options.classes is not None:
        return options.classes
    if options.age_groups is not None:
        return group_names(options.age_groups)
    if options.label_kind == "age":
        return tuple(sorted(ages, key=lambda name: ages[name] or 0.0))
    try:  # 10 comes after 9
        return tuple(sorted(ages, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(ages))


def _refuse_missing_columns(table: RawTable, options: LabelledDataOptions) -> None:
    wanted = [("text_fields", field) for field in options.text_fields] + [("label_field", options.label_field)]
    wanted += [("group_field", options.group_field)] if options.group_field is not None else []
    for key, field in wanted:
        if field not in table.columns:
            near = difflib.get_close_matches(field, table.columns, n=1, cutoff=0.0)
            raise SourceError(
                f"{table.name} has no column {field!r} ({key}); there: {', '.join(table.columns)}",
                fix=f"name {near[0]!r} in {key}, if that is meant",
            )
        if table.columns.count(field) > 1:
            raise SourceError(f"{table.name} has two columns {field!r} ({key})", fix="rename one of them")


def _text_of(row: Mapping[str, Any], options: LabelledDataOptions, where: str) -> str:
    parts = []
    for field in options.text_fields:
        value = row.get(field)
        if not _is_missing(value) and not isinstance(value, str):
            raise SourceError(
                f"{where}: {field!r} is a {type(value).__name__}, not text", fix="name a column of text in text_fields"
            )
        parts.append("" if _is_missing(value) else str(value).strip())
    text = "\n".join(part for part in parts if part)
    if not text:
        raise _BadRow("empty text", f"the text is empty ({', '.join(options.text_fields)})")
    return text


def _label_of(row: Mapping[str, Any], options: LabelledDataOptions, where: str) -> _Label:
    written = _written(row, options.label_field, where)
    if written is None or (written.casefold() == "nan" and written not in (options.classes or ())):
        raise _BadRow("no label", f"the label is missing ({options.label_field}: {row.get(options.label_field)!r})")
    if options.label_kind == "class":
        if options.classes is not None and written not in options.classes:
            raise _BadRow("unknown label", f"label {written!r} is none of {_listed(options.classes)}")
        return _Label(written)
    try:
        age = parse_minimum_age(written)
    except ValueError as error:
        raise _BadRow("label is no age", f"label {error}") from None
    if options.age_groups is None:
        return _Label(age_name(age), age)
    try:
        return _Label(group_names(options.age_groups)[group_of(age, options.age_groups)], age)
    except ValueError as error:
        raise _BadRow("age below the first group", f"label {written!r}: {error}") from None


def _group_of_row(row: Mapping[str, Any], options: LabelledDataOptions, text: str, where: str) -> str:
    if options.group_field is None:
        return normalise_text(text)
    group = _written(row, options.group_field, where)
    if group is None:
        raise _BadRow("no group", f"the group is missing ({options.group_field})")
    return group


def _written(row: Mapping[str, Any], field: str, where: str) -> str | None:
    """A label or group as text: 3.0, which is what a gap makes of a column of 3s, is ``3``; None where there is none."""
    value = row.get(field)
    if _is_missing(value):
        return None
    if isinstance(value, list | dict | bytes):
        raise SourceError(f"{where}: {field!r} is a {type(value).__name__}", fix="name a column of plain values")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _unknown_class(where: str, name: str, classes: Sequence[str], written: object) -> SourceError:
    near = difflib.get_close_matches(name, classes, n=1)
    return SourceError(
        f"{where}: label {written!r} is of the class {name!r}, which the model was not trained on ({_listed(classes)})",
        fix=f"write {near[0]!r}, if that is meant" if near else "remove that row, or train with that class",
    )


def _listed(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _counted(dropped: Mapping[str, int]) -> str:
    return "dropped: " + ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items()))
