"""What ``zerostream evaluate`` refuses before it looks at the run, and how its tables look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.report import print_report, print_table

RunCli = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--separator", "***"], "--separator is given without --text"),
        (["--text", "a.txt", "--seed", "0"], "--seed is given without --stories"),
        (["--prompt", "Once"], "--prompt is given without --stories"),
        (["--temperature", "0"], "--temperature is given without --stories"),
        (["--stories", "2", "--task-folder", "."], "--task-folder is given without --tasks"),
        (["--tasks", " , "], "--tasks ' , ' names no task"),
        (["--stories", "2", "--temperature", "-1"], "temperature -1.0 is no number from 0"),
        (["--stories", "2", "--top-p", "1.5"], "top-p 1.5"),
        (["--stories", "2", "--max-tokens", "0"], "max-tokens 0 is below 1"),
    ],
)
def test_options_without_meaning_are_refused(
    run_cli: RunCli, tmp_path: Path, arguments: list[object], cause: str
) -> None:
    result = run_cli("evaluate", tmp_path, *arguments)
    assert (result.code, result.out) == (2, "")
    assert cause in result.last_line
    assert ". To fix it: " in result.last_line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--stories", "0"], ["--stories", "-3"], ["--stories", "many"]])
def test_less_than_one_story_is_refused(run_cli: RunCli, arguments: list[object]) -> None:
    result = run_cli("evaluate", "no/run", *arguments)
    assert (result.code, result.out) == (2, "")
    assert "--stories" in result.err


def test_a_table_stands_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([["measure", "model", "real"], ["stories", 200, None], ["self_bleu", 0.123456, 1.0]])
    assert capsys.readouterr().out.splitlines() == [
        "measure     model    real",
        "stories       200       -",
        "self_bleu  0.1235  1.0000",
    ]


def test_a_report_is_a_line_for_each_key_or_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    report = {"step": 3, "loss": 1.25, "plan": "one\ntwo"}
    print_report(report, as_json=False)
    assert capsys.readouterr().out == "step  3\nloss  1.2500\nplan  one\n      two\n"
    print_report(report, as_json=True)
    assert capsys.readouterr().out == '{"step": 3, "loss": 1.25, "plan": "one\\ntwo"}\n'
