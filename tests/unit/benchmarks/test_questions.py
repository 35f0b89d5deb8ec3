"""``python -m benchmarks`` lists its questions, and each of them is there."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import QUESTIONS, module_of
from benchmarks.records import new_record, publish, read_records, summary
from tests.conftest import ROOT


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_has_a_program(question: str) -> None:
    module = importlib.import_module(module_of(question))
    assert callable(module.main)
    assert module.__doc__


def test_all_questions_are_listed() -> None:
    listed = ask("--help").stdout
    assert all(f"  {question}" in listed for question in QUESTIONS)


def test_an_unknown_question_is_refused_with_the_nearest() -> None:
    result = ask("troughput")
    assert result.returncode == 2
    assert "write throughput" in result.stderr


def test_a_record_says_what_was_measured_where(tmp_path: Path) -> None:
    file = tmp_path / "results" / "loader.jsonl"
    for seconds in (1.0, 2.0):
        record = new_record(
            "loader", {"reader": "ours"}, {"seconds": summary([seconds, 4.0, 3.0])}, warmup=1, repeats=3
        )
        publish(record, file)
    first, second = read_records(file)
    assert first["values"]["seconds"] == {"median": 3.0, "quartiles": [2.0, 3.5], "of_each": [1.0, 4.0, 3.0]}
    assert second["setting"] == {"reader": "ours"}
    assert {"processor", "cores", "packages", "git_revision", "started_at"} <= set(first["environment"])
    assert json.loads(file.read_text().splitlines()[0]) == first
