"""Bad input through the real command line: exit code 2, one last line of cause and remedy, and nothing written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.config import dump_config, load_config
from framework.run_dir import RunDir

RunCli = Callable[..., Any]
Refused = Callable[..., str]


@pytest.fixture
def refused(
    run_cli: RunCli,
    tmp_path: Path,
    listing: Callable[[Path], dict[str, bytes | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> Refused:
    """Runs a command that must be refused; returns its last line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        before = listing(tmp_path)
        result = run_cli(*arguments)
        assert result.code == 2, result.err
        assert result.out == ""
        assert "Traceback" not in result.err
        assert result.err.count("To fix it") == 1
        assert result.last_line.startswith("zerostream: ")
        assert ". To fix it: " in result.last_line
        assert listing(tmp_path) == before
        return str(result.last_line)

    return run


@pytest.fixture
def start(tiny_config: Path, tiny_shards: Path, tmp_path: Path) -> list[object]:
    """A start that works, to which a test adds what does not."""
    shards = shutil.copytree(tiny_shards, tmp_path / "shards")
    return ["train", tiny_config, f"run_dir={tmp_path / 'run'}", f"data.shards_dir={shards}", "engine.kind=reference"]


@pytest.fixture
def text_config(tmp_path: Path) -> Path:
    path = tmp_path / "text.yaml"
    path.write_text("data: {source: text, path: stories.txt, shards_dir: out}\ntokenizer: {vocab_size: 300}\n")
    return path


# --- Configs ---


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["train", "dry-run"])
def test_an_unknown_key(refused: Refused, start: list[object], more: list[str]) -> None:
    line = refused(*start, "engine.zero_stge=2", *more)
    assert "unknown key engine.zero_stge" in line
    assert "write engine.zero_stage" in line


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["train", "dry-run"])
def test_an_impossible_batch(refused: Refused, start: list[object], more: list[str]) -> None:
    assert "3 ranks cannot share the batch" in refused(*start, "--nproc", 3, *more)
    assert "engine.global_batch_size 9" in refused(*start, "engine.global_batch_size=9", *more)


def test_a_value_of_the_wrong_type(refused: Refused, start: list[object]) -> None:
    assert "train.max_steps is 'many'" in refused(*start, "train.max_steps=many")


def test_a_config_that_is_not_yaml(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("model: {layers: 2\n")
    assert "broken.yaml is not YAML" in refused("train", "broken.yaml")


# --- Text ---


def test_missing_text(refused: Refused, text_config: Path) -> None:
    assert "stories.txt" in refused("prepare", text_config)


@pytest.mark.parametrize("content", [b"", b"  \n\n", b"<|endoftext|>\n<|endoftext|>"])
def test_text_without_a_document(refused: Refused, text_config: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "stories.txt").write_bytes(content)
    assert "stories.txt" in refused("prepare", text_config)


def test_bytes_that_are_not_of_the_encoding(refused: Refused, text_config: Path, tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_bytes("Once upon a time. Ein Bär.".encode("latin-1") * 50)
    line = refused("prepare", text_config)
    assert "stories.txt" in line
    assert "encoding" in line


def test_an_unknown_encoding(refused: Refused, text_config: Path, tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_text("Once upon a time.")
    assert "utf-9" in refused("prepare", text_config, "data.encoding=utf-9")


# --- Shards and tokenizers ---


def test_no_shards(refused: Refused, start: list[object]) -> None:
    line = refused(*start, "data.shards_dir=nowhere")
    assert "nowhere" in line
    assert "zerostream prepare" in line


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["train", "dry-run"])
def test_shards_of_another_vocabulary(refused: Refused, start: list[object], more: list[str]) -> None:
    assert "tokenizer.vocab_size is 600" in refused(*start, "tokenizer.vocab_size=600", *more)


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["train", "dry-run"])
def test_a_tokenizer_that_did_not_write_the_shards(
    refused: Refused, start: list[object], tmp_path: Path, more: list[str]
) -> None:
    path = tmp_path / "shards" / "tokenizer" / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["merges"].pop()
    path.write_text(json.dumps(values))
    assert "is not the tokenizer that wrote the shards" in refused(*start, *more)


def test_a_truncated_shard(refused: Refused, start: list[object], tmp_path: Path) -> None:
    path = tmp_path / "shards" / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:-1])
    assert "train-000000.tar has" in refused(*start)


# --- Models ---


def test_a_context_beyond_the_models(refused: Refused, start: list[object]) -> None:
    line = refused(*start, "model.overrides.n_positions=16")
    assert "model.context_length 64 is beyond" in line


# --- Run directories ---


def test_a_run_directory_of_another_config(refused: Refused, start: list[object], tmp_path: Path) -> None:
    config = load_config(Path(str(start[1])), [str(each) for each in start[2:]])
    config.run_dir.mkdir()
    RunDir(config.run_dir).config.write_text(dump_config(config))
    line = refused(*start, "model.layers=3")
    assert "belongs to another configuration: model.layers 3 (there: 2)" in line


def test_a_folder_that_is_no_run_directory(refused: Refused, start: list[object], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    assert "is not empty and holds no run" in refused(*start)


def test_reading_a_folder_that_is_no_run(refused: Refused, tmp_path: Path) -> None:
    for command in (["generate"], ["evaluate"]):
        assert "is no run directory" in refused(*command, tmp_path)
