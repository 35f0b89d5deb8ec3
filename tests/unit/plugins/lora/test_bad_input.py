"""What cannot be fine-tuned is refused with the cause and the fix, exit code 2, before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.conftest import RunCli

GOOD = [{"text": f"A story about {word}.", "age": age} for word in ("cows", "hens", "ducks") for age in ("2+", "9+")]
COLUMNS = ["plugins.lora.data.source=jsonl", "plugins.lora.data.label_field=age", "plugins.lora.data.label_kind=age"]


def table(folder: Path, rows: list[dict[str, object]]) -> list[str]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [*COLUMNS, f"plugins.lora.data.path={path}", "plugins.lora.data.documents=null"]


def refused(run_cli: RunCli, config_file: Path, *overrides: str, cause: str) -> None:
    run_dir = config_file.parent / "run"
    result = run_cli("finetune", config_file, *overrides)
    assert result.code == 2, result.err
    assert cause in result.last_line
    assert "To fix it: " in result.last_line
    assert "Traceback" not in result.err
    assert result.out == ""
    assert not run_dir.exists()


@pytest.mark.parametrize(
    ("rows", "more", "cause"),
    [
        (GOOD, ["plugins.lora.data.label_field=agee"], "agee"),
        (GOOD, ["plugins.lora.data.text_fields=[blurb]"], "blurb"),
        ([*GOOD, {"text": "  ", "age": "3+"}], [], "rows.jsonl:7"),
        ([*GOOD, {"text": "A story.", "age": float("nan")}], [], "rows.jsonl:7"),
        ([*GOOD, {"text": "A story.", "age": "old"}], [], "rows.jsonl:7"),
        ([row for row in GOOD if row["age"] == "2+"], [], "a classifier needs two"),
        ([], [], "no row"),
        ([*GOOD, {"text": "cow " * 300, "age": "2+"}], ["plugins.lora.on_long_text=error"], "model.context_length"),
        (GOOD, ["plugins.lora.data.folds=5"], "too few groups"),
    ],
    ids=["label", "text", "empty", "nan", "age", "one-class", "no-rows", "long", "folds"],
)
def test_a_table_that_does_not_do(
    rows: list[dict[str, object]], more: list[str], cause: str, run_cli: RunCli, config_file: Path, tmp_path: Path
) -> None:
    refused(run_cli, config_file, *table(tmp_path, rows), *more, cause=cause)


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        (["plugins.lora.base=nowhere/at/all"], "nowhere/at/all does not exist"),
        (["plugins.lora.base={folder}"], "neither a run directory nor a Hugging Face model"),
        (["plugins.lora.adapter.targets=[c_atn]"], "'c_atn' names no projection"),
        (["plugins.lora.adapter.targets=[lm_head]"], "'lm_head' names no projection"),
        (["plugins.lora.adapter.targets=[score]"], "'score' names no projection"),
        (["plugins.lora.adapter.targets=[]"], "plugins.lora.adapter.targets"),
        (["plugins.lora.adapter.targets=['']"], "plugins.lora.adapter.targets"),
        (["plugins.lora.fold=1"], "plugins.lora.fold is 1, but `zerostream finetune` trains every fold"),
        (["plugins.lora.ensemble_with=[majority]"], "plugins.lora.ensemble_with"),
        (["plugins.lora.ensemble_weight=0.3"], "ensemble_weight 0.3 is given without ensemble_with"),
        (["plugins.lora.pooling=max"], "plugins.lora.pooling"),
        (["plugins.lora.language_model_loss=-1"], "plugins.lora.language_model_loss"),
        (["plugins.lora.task=causal_lm", "plugins.lora.prompts.path=x"], "data is given, but task causal_lm does not"),
        (
            ["plugins.lora.task=causal_lm", "plugins.lora.prompts.path=x", "plugins.lora.data={}", "plugins.lora.pooling=mean"],
            "pooling is given, but task causal_lm does not",
        ),
        (["plugins.lora.adapter.rank=0"], "plugins.lora.adapter.rank"),
        (["plugins.lora.adapter.rnak=4"], "write plugins.lora.adapter.rank"),
        (["plugins.lroa.base=x"], "write plugins.lora, if that is meant"),
        (["plugins.lora.task=causal_lm"], "prompts is missing"),
        (["model.context_length=4096"], "beyond the base's 128"),
        (["model.preset=gpt2_nano"], "model.preset gpt2_nano is given"),
        (["optimizer.lr=0"], "optimizer.lr"),
        (["plugins={}"], "no section plugins.lora"),
    ],
    ids=["base", "no-base", "target", "output", "head", "no-target", "empty-target", "fold", "ensemble", "weight", "pooling",
         "loss", "data", "for-classes", "rank", "key", "plugin", "prompts", "context", "preset", "lr", "section"],
)  # fmt: skip
def test_options_that_do_not_do(overrides: list[str], cause: str, run_cli: RunCli, config_file: Path) -> None:
    (config_file.parent / "empty").mkdir()
    named = [override.replace("{folder}", str(config_file.parent / "empty")) for override in overrides]
    refused(run_cli, config_file, *named, cause=cause)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ('{"text": "A cow.", "age": "5+"}\n', "the class '5', which the model was not trained on (2, 9)"),
        ('{"text": "A cow."}\n', "test.jsonl has no column 'age'"),
        ('{"text": "A cow.", "age": null}\n', "test.jsonl:1: the label is missing"),
        ('{"text": "cow \n', "test.jsonl:1: not JSON"),
        ("", "test.jsonl holds no row"),
        (None, "test.jsonl does not exist"),
    ],
    ids=["unknown-label", "column", "no-label", "no-json", "empty", "absent"],
)
def test_a_test_set_that_does_not_do(
    content: str | None, cause: str, run_cli: RunCli, config_file: Path, tmp_path: Path
) -> None:
    test = tmp_path / "test.jsonl"
    if content is not None:
        test.write_text(content)
    fixed = ["plugins.lora.data.folds=null", f"plugins.lora.data.test_path={test}"]
    refused(run_cli, config_file, *table(tmp_path, GOOD), *fixed, cause=cause)


@pytest.mark.parametrize(
    ("override", "cause"),
    [
        ("plugins.lora.fold=2", "there are 2 folds"),
        ("model.layers=3", "model.layers is 3, but base"),
        ("model.document_mask=true", "each text has a row of its own"),
    ],
)
def test_ranks_refuse_what_finetune_would_have_asked(
    override: str, cause: str, run_cli: RunCli, config_file: Path
) -> None:
    result = run_cli("train", config_file, override)
    assert result.code == 2
    assert cause in result.last_line
    assert not (config_file.parent / "run").exists()


def test_there_must_be_something_to_predict_and_something_that_can(run_cli: RunCli, tmp_path: Path) -> None:
    assert "there is no text" in run_cli("predict", tmp_path).last_line
    nothing = run_cli("predict", tmp_path, "--text", "A cow.")
    assert nothing.code == 2
    assert "is no fine-tuned run" in nothing.last_line


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("latin.txt", b"caf\xe9", "latin.txt is not UTF-8 (byte 3)"),
        ("gap.jsonl", b'{"text": "cow"}\n{"other": "hen"}\n', "gap.jsonl:2: text holds no text"),
        ("number.jsonl", b'{"text": 3}\n', "number.jsonl:1: text holds no text"),
        ("other.csv", b"blurb\nA cow.\n", "has no column 'text'"),
        ("absent.txt", None, "absent.txt does not exist"),
        ("folder", None, "folder is a folder"),
        ("empty.txt", b"\n\n", "there is no text"),
    ],
)
def test_a_file_that_cannot_be_predicted(
    name: str, content: bytes | None, cause: str, run_cli: RunCli, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = run_cli("predict", tmp_path, "--file", tmp_path / name)
    assert result.code == 2
    assert cause in result.last_line
    assert "To fix it: " in result.last_line


@pytest.mark.parametrize("content", [None, "[]", "{}", '{"task": "classification", "method": "lora"}', "no JSON"])
def test_a_folder_that_is_no_adapter_of_fine_tuning(
    content: str | None, run_cli: RunCli, base: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "zerostream.json").write_text(content)
    result = run_cli("predict", base, "--adapter", tmp_path, "--text", "A cow.")
    assert result.code == 2
    assert "zerostream.json" in result.last_line
