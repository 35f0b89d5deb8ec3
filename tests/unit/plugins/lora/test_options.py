from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from framework.plugins.lora.options import LabelledDataOptions

CSV = {"source": "csv", "path": "books.csv"}
HUB = {"source": "hub", "path": "someone/reviews"}


def test_without_a_word_it_is_the_embedded_blurbs_in_four_groups_and_five_folds() -> None:
    options = LabelledDataOptions()
    assert (options.source, options.label_field, options.label_kind) == ("embedded", "age", "age")
    assert (options.age_groups, options.split, options.folds, options.split_seed) == ((0, 3, 6, 9), "groups", 5, 42)


def test_the_defaults_of_the_embedded_blurbs_are_not_those_of_a_file() -> None:
    options = LabelledDataOptions.model_validate(CSV)
    assert (options.label_field, options.label_kind, options.age_groups) == ("label", "class", None)
    assert LabelledDataOptions(label_kind="class").age_groups is None


@pytest.mark.parametrize(
    "values",
    [{}, CSV, {**CSV, "test_path": "test.csv"}, {**CSV, "split": "rows", "train_rows": 9}, {"age_groups": None}],
)
def test_what_is_dumped_validates_to_the_same(values: dict[str, Any]) -> None:
    options = LabelledDataOptions.model_validate(values)
    assert LabelledDataOptions.model_validate(options.model_dump(mode="json")) == options


def test_folds_are_none_where_the_test_rows_are_fixed() -> None:
    assert LabelledDataOptions.model_validate({**CSV, "test_path": "test.csv"}).folds is None
    assert LabelledDataOptions.model_validate({**HUB, "hub_test_split": "test"}).folds is None
    assert LabelledDataOptions.model_validate({**CSV, "split": "rows", "train_rows": 9}).folds is None
    assert LabelledDataOptions.model_validate({**CSV, "split": "rows"}).folds == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "csv"}, "path is missing for source csv"),
        ({"path": "a.csv"}, "path 'a.csv' is given, but source embedded does not read it"),
        ({"test_path": "a.csv"}, "test_path 'a.csv' is given, but source embedded"),
        ({**HUB, "test_path": "a.csv"}, "test_path 'a.csv' is given, but source hub"),
        ({**CSV, "hub_config": "en"}, "hub_config 'en' is given, but source csv"),
        ({**CSV, "documents": 5}, "documents 5 is given, but source csv"),
        ({**CSV, "text_fields": []}, "text_fields"),
        ({**CSV, "text_fields": ["a", "a"]}, "text_fields"),
        ({**CSV, "text_fields": ["a", "b"], "label_field": "b"}, "the text would say its own label"),
        ({**CSV, "age_groups": [0, 3]}, "label_kind is 'class'; use label_kind 'age'"),
        ({**CSV, "label_kind": "age", "classes": ["a", "b"]}, "label_kind is 'age'; use age_groups"),
        ({**CSV, "classes": ["a"]}, "at least two different names"),
        ({**CSV, "classes": ["a", "a"]}, "at least two different names"),
        ({**CSV, "label_kind": "age", "age_groups": [0]}, "at least two ages, each above the one before"),
        ({**CSV, "label_kind": "age", "age_groups": [0, 6, 3]}, "at least two ages, each above the one before"),
        ({**CSV, "label_kind": "age", "age_groups": [-1, 3]}, "greater than or equal to 0"),
        ({**CSV, "test_path": "b.csv", "folds": 5}, "folds 5 is given, but test_path already fixes the test rows"),
        ({**CSV, "test_path": "b.csv", "group_field": "x"}, "group_field 'x' is given, but test_path already"),
        ({**HUB, "hub_test_split": "test", "folds": 3}, "folds 3 is given, but hub_test_split already"),
        ({**CSV, "split": "rows", "train_rows": 9, "folds": 5}, "folds 5 is given beside train_rows 9"),
        ({**CSV, "train_rows": 9}, "train_rows 9 cuts between rows, but split is 'groups'"),
        ({**CSV, "split": "rows", "group_field": "x"}, "group_field 'x' is given, but split is 'rows'"),
        ({**CSV, "folds": 1}, "greater than or equal to 2"),
        ({**CSV, "split_seed": 2**32}, "less than or equal to 4294967295"),
    ],
)
def test_impossible_combinations_name_key_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LabelledDataOptions.model_validate(values)
    assert message in str(caught.value)
