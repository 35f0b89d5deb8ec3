from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.errors import ConfigError, SourceError
from framework.plugins.lora.options import LabelledDataOptions
from framework.plugins.lora.splits import Fold, leakage, load_folds, make_folds
from framework.plugins.lora.table import LabelledData, normalise_text

CSV = {"source": "csv", "path": "unread.csv"}


def chosen(**values: object) -> LabelledDataOptions:
    return LabelledDataOptions.model_validate({**CSV, **values})


def labelled(texts: Sequence[str], labels: Sequence[int], groups: Sequence[str] | None = None) -> LabelledData:
    return LabelledData(
        texts=tuple(texts),
        labels=np.array(labels, dtype=np.int64),
        groups=tuple(groups or map(normalise_text, texts)),
        classes=tuple(f"class {number}" for number in range(max(labels) + 1)),
        class_ages=None,
        ages=None,
        dropped={},
    )


@st.composite
def tables(draw: st.DrawFn) -> LabelledData:
    """Distinct texts of two or three classes, at least four of each, up to four copies of each, in any order."""
    rows = []
    for label in range(draw(st.integers(2, 3))):
        copies = draw(st.lists(st.integers(1, 4), min_size=4, max_size=12))
        rows += [(f"text {label} {number}", label) for number, count in enumerate(copies) for _ in range(count)]
    rows = draw(st.permutations(rows))
    return labelled(
        [text.upper() if row % 2 else f" {text}" for row, (text, _) in enumerate(rows)], [label for _, label in rows]
    )


@given(data=tables(), folds=st.integers(2, 4), seed=st.integers(0, 2**32 - 1))
def test_grouped_folds(data: LabelledData, folds: int, seed: int) -> None:
    options = chosen(folds=folds, split_seed=seed)
    made = make_folds(data, options)
    assert len(made) == folds
    tested = np.concatenate([fold.test for fold in made])
    assert sorted(tested.tolist()) == list(range(len(data)))  # every row exactly once
    for fold in made:
        assert fold.train.dtype == fold.test.dtype == np.int64
        assert sorted([*fold.train, *fold.test]) == list(range(len(data)))
        assert not {data.groups[row] for row in fold.train} & {data.groups[row] for row in fold.test}
        assert set(data.labels[fold.train]) == set(range(len(data.classes)))
    assert not leakage(data, *made).is_leaky
    again = make_folds(data, options)
    assert all(
        np.array_equal(a.test, b.test) and np.array_equal(a.train, b.train) for a, b in zip(made, again, strict=True)
    )


@given(data=tables(), folds=st.integers(2, 4), seed=st.integers(0, 2**32 - 1))
def test_folds_of_rows_test_every_row_once_in_the_shares_of_the_classes(
    data: LabelledData, folds: int, seed: int
) -> None:
    made = make_folds(data, chosen(split="rows", folds=folds, split_seed=seed))
    assert sorted(np.concatenate([fold.test for fold in made]).tolist()) == list(range(len(data)))
    counts = np.array([np.bincount(data.labels[fold.test], minlength=len(data.classes)) for fold in made])
    assert (np.ptp(counts, axis=0) <= 1).all()


def test_grouped_folds_keep_the_shares_of_the_classes_nearly() -> None:
    data = labelled([f"text {row // 3}" for row in range(600)], [row // 3 % 4 % 3 for row in range(600)])
    for fold in make_folds(data, chosen()):
        shares = np.bincount(data.labels[fold.test]) / len(fold.test)
        np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.03)


def test_the_seed_alone_changes_the_folds() -> None:
    data = labelled([f"text {row}" for row in range(60)], [row % 3 for row in range(60)])
    first, same, other = (make_folds(data, chosen(split_seed=seed))[0].test.tolist() for seed in (1, 1, 2))
    assert first == same != other


def test_train_rows_is_the_shuffle_of_pandas() -> None:
    import pandas

    data = labelled([f"text {row}" for row in range(100)], [row % 2 for row in range(100)])
    (fold,) = make_folds(data, chosen(split="rows", train_rows=60, split_seed=42))
    shuffled = pandas.DataFrame({"text": data.texts}).sample(frac=1, random_state=42)
    assert [data.texts[row] for row in fold.train] == sorted(shuffled.text[:60], key=data.texts.index)
    assert [data.texts[row] for row in fold.test] == sorted(shuffled.text[60:], key=data.texts.index)


def test_a_table_of_copies_split_by_rows_is_announced_as_leaky() -> None:
    data = labelled([f"Book  {row % 41}" for row in range(3269)], [row % 41 % 5 for row in range(3269)])
    report = leakage(data, *make_folds(data, chosen(split="rows", train_rows=2000)))
    assert report.test_texts_in_training_fraction == 1.0
    assert (report.rows, report.distinct_texts, report.duplicate_rows, report.test_rows) == (3269, 41, 3228, 1269)
    assert report.is_leaky
    assert report.describe().startswith("LEAKY SPLIT: 100.0% of the 1,269 test rows")
    assert json.loads(json.dumps(report.as_dict()))["test_texts_in_training_fraction"] == 1.0


def test_the_report_counts_by_hand() -> None:
    data = labelled(["a", "A ", "b", "c", "c", "d", "e"], [0, 1, 0, 1, 1, 0, 1])
    fold = Fold(train=np.array([0, 2, 3]), test=np.array([1, 4, 5]))  # row 6 stands in no fold
    assert leakage(data, fold).as_dict() == {
        "rows": 6,
        "distinct_texts": 4,
        "duplicate_rows": 2,
        "conflicting_texts": 1,
        "test_rows": 3,
        "test_texts_in_training_fraction": 2 / 3,
        "is_leaky": True,
    }
    assert "66.7% of the 3 test rows" in leakage(data, fold).describe()
    assert "1 texts stand there with different labels" in leakage(data, fold).describe()


def test_folds_are_reported_together() -> None:
    data = labelled(["a", "a", "b", "c"], [0, 0, 1, 1])
    first, second = Fold(np.array([0, 2]), np.array([1, 3])), Fold(np.array([1, 3]), np.array([0, 2]))
    assert leakage(data, first, second).test_texts_in_training_fraction == 0.5
    clean = Fold(np.array([0, 1]), np.array([2, 3]))
    assert leakage(data, clean).describe() == (
        "No leak: none of the 2 test rows has a text that was also trained on. 4 rows hold 3 distinct texts (1 are copies). "
        "No text has two labels."
    )


def test_a_trace_of_leakage_is_not_rounded_to_none_or_to_all() -> None:
    texts = [f"text {row}" for row in range(20_000)]
    data = labelled([*texts, texts[0]], [*(row % 2 for row in range(20_000)), 0])
    fold = Fold(np.array([20_000, 1, 2]), np.setdiff1d(np.arange(20_000), [1, 2]))
    assert "LEAKY SPLIT: 0.0050%" in leakage(data, fold).describe()


def test_groups_of_another_column_still_report_equal_texts() -> None:
    data = labelled(["same"] * 8, [0, 1] * 4, groups=list("abcdefgh"))
    report = leakage(data, *make_folds(data, chosen(folds=2, group_field="author")))
    assert report.test_texts_in_training_fraction == 1.0
    assert report.conflicting_texts == 1


# --- Splits that are refused ---


def refused(data: LabelledData, **values: object) -> str:
    with pytest.raises(ConfigError) as caught:
        make_folds(data, chosen(**values))
    return str(caught.value)


def test_a_class_with_fewer_groups_than_folds_is_refused() -> None:
    data = labelled(["a", "a", "a", "b", "c", "d", "e"], [0, 0, 0, 1, 1, 0, 1])
    said = refused(data, folds=3)
    assert "class 'class 0' has too few groups (distinct texts) for 3 folds: 2" in said
    assert "set folds: 2" in said
    assert "too few rows for 5 folds: 4" in refused(data, folds=5, split="rows")


def test_groups_that_leave_a_class_untrained_are_refused() -> None:
    data = labelled(["a", "b", "c", "d"], [0, 1, 0, 1], groups=["both", "both", "first", "second"])
    said = refused(data, folds=2, group_field="author", split_seed=42)
    assert "has no training row (fold" in said
    assert "the largest group, 'both', has 2 of 4 rows" in said


def test_train_rows_must_leave_rows_to_test_and_train_every_class() -> None:
    data = labelled([f"text {row}" for row in range(10)], [0] * 9 + [1])
    assert "train_rows 10 leaves none of the 10 rows to test" in refused(data, split="rows", train_rows=10)
    assert "class 'class 1' has no training row (fold 1 of 1)" in refused(data, split="rows", train_rows=1)


# --- A fixed test set ---


def test_a_fixed_test_set_follows_the_training_rows(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\none,x\ntwo,y\n,x\n")
    (tmp_path / "test.csv").write_text("text,label\nONE,y\nthree,x\n,y\nfour,\n")
    paths = {"source": "csv", "path": str(tmp_path / "train.csv"), "test_path": str(tmp_path / "test.csv")}
    options = LabelledDataOptions.model_validate({**paths, "on_bad_row": "drop"})
    data, (fold,) = load_folds(options)
    assert data.texts == ("one", "two", "ONE", "three")
    assert data.labels.tolist() == [0, 1, 1, 0]
    assert (fold.train.tolist(), fold.test.tolist()) == ([0, 1], [2, 3])
    assert data.dropped == {"empty text": 2, "no label": 1}
    report = leakage(data, fold)
    assert (report.test_texts_in_training_fraction, report.conflicting_texts) == (0.5, 1)


def test_a_class_that_only_the_test_set_or_the_options_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\none,x\ntwo,y\n")
    (tmp_path / "test.csv").write_text("text,label\nthree,x\nfour,z\n")
    paths = {"source": "csv", "path": str(tmp_path / "train.csv"), "test_path": str(tmp_path / "test.csv")}
    with pytest.raises(SourceError) as unknown:
        load_folds(LabelledDataOptions.model_validate({**paths, "on_bad_row": "drop"}))
    assert "test.csv:3: label 'z' is of the class 'z', which the model was not trained on (x, y)" in str(unknown.value)
    with pytest.raises(ConfigError, match="class 'z' has no training row"):
        load_folds(LabelledDataOptions.model_validate({**paths, "classes": ["x", "y", "z"]}))


def test_the_embedded_blurbs_split_without_a_leak() -> None:
    data, folds = load_folds(LabelledDataOptions(documents=300))
    assert len(folds) == 5
    assert sum(len(fold.test) for fold in folds) == len(data) == 300
    assert not leakage(data, *folds).is_leaky
