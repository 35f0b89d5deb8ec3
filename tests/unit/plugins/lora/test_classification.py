"""Labelled texts as examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.config import BatchPlan, load_config
from framework.data.stream import IGNORED_TARGET
from framework.data.tokenizer import END_OF_TEXT
from framework.errors import RunDirError, SourceError
from framework.plugins.lora.classification import CLASSES_FILE, Classification, read_classes
from framework.plugins.registry import active_plugins
from framework.run_dir import RunDir
from framework.train.preflight import recipe_of
from tests.conftest import ROOT
from tests.tiny_base import CONTEXT, finetuning_config


@pytest.fixture(scope="module")
def recipe(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Classification:
    made = recipe_of(load_config(finetuning_config(tmp_path_factory.mktemp("recipe"), base)))
    assert isinstance(made, Classification)
    return made


@given(text=st.text(min_size=1, max_size=20), ending=st.sampled_from(["", END_OF_TEXT, f" {END_OF_TEXT}\n", "\x00"]))
def test_the_class_is_asked_at_the_last_token_which_is_never_padding(
    recipe: Classification, text: str, ending: str
) -> None:
    """Also where a text ends with the characters of end-of-text: the classifier finds its last token by that."""
    [example] = recipe.make_examples([text + ending], [3])
    end = recipe.tokenizer.end_of_text_id
    assert example.input_ids[0] == end
    assert end not in example.input_ids[1:]
    assert len(example.input_ids) > 1
    assert example.targets[-1] == 3
    assert (example.targets[:-1] == IGNORED_TARGET).all()


def test_a_long_text_loses_its_end_and_is_counted(recipe: Classification) -> None:
    lengths = [1 + len(recipe.tokenizer.encode(text)) for text in recipe.data.texts]
    long = sum(length > CONTEXT for length in lengths)
    assert 0 < long < len(lengths)
    assert recipe.truncated_texts == long
    assert max(len(each.input_ids) for each in (*recipe.train_examples, *recipe.test_examples)) == CONTEXT
    assert f"({long} texts lost their end)" in recipe.describe_data(BatchPlan(1, 2, 1, 2, CONTEXT))


def test_a_long_test_text_is_refused_before_ranks_start(base: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\nA cow.,x\nA hen.,y\n")
    (tmp_path / "test.csv").write_text(f"text,label\n{'cow ' * CONTEXT},x\n")
    data = [f"plugins.lora.data.{key}" for key in
            ("source=csv", f"path={tmp_path}/train.csv", f"test_path={tmp_path}/test.csv", "documents=null", "folds=null",
             "label_field=label")]  # fmt: skip
    config = load_config(finetuning_config(tmp_path, base), [*data, "plugins.lora.on_long_text=error"])
    with pytest.raises(SourceError, match=f"model.context_length is {CONTEXT}"):
        recipe_of(config).check()


def test_only_a_run_that_classifies_has_classes(tmp_path: Path) -> None:
    for content in ("", "[]", '{"classes": 3}', '{"classes": ["a"], "class_ages": 3}'):
        (tmp_path / CLASSES_FILE).write_text(content)
        with pytest.raises(RunDirError, match="is no run that classifies"):
            read_classes(RunDir(tmp_path))


@pytest.mark.parametrize("name", ["finetune_blurbs", "age_rows", "age_honest"])
def test_the_configs_that_come_with_zerostream_are_valid(name: str) -> None:
    [active] = active_plugins(load_config(ROOT / "configs" / f"{name}.yaml"))
    assert active.plugin.name == "lora"
