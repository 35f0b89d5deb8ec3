"""Two files of results: a verdict where both have repeats of one setting, else what is wrong with them."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import main
from benchmarks.records import summary
from framework.errors import UserError


def line(speeds: list[float], name: str = "tokens_per_second") -> dict[str, Any]:
    return {"question": "loader", "setting": {"reader": "ours"}, "values": {name: summary(speeds)}}


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return path


def compare(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments)])
    main()


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return written(tmp_path / "before.jsonl", line([100.0, 101.0, 99.0]))


@pytest.mark.parametrize("name", ["tokens_per_second", "megabytes_per_second"])
def test_a_verdict_on_each_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    a, b = (
        written(tmp_path / file, line([speed, 1.01 * speed, 0.99 * speed], name))
        for file, speed in (("a", 100.0), ("b", 80.0))
    )
    compare(monkeypatch, a, b)
    assert capsys.readouterr().out.startswith("slower  0.800x")
    compare(monkeypatch, a, a)
    assert capsys.readouterr().out.startswith("noise ")


@pytest.mark.parametrize(
    "values",
    [
        None,
        {"tokens_per_second": 5.0},
        {"tokens_per_second": {"median": 5.0}},
        *(
            {"tokens_per_second": {"of_each": each}}
            for each in ([], [1.0], [0, 0], [-1, -2], [math.nan, 1], ["a", "b"])
        ),
    ],
)
def test_what_has_no_repeats_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Path, values: Any
) -> None:
    after = written(tmp_path / "after.jsonl", {**line([1.0, 1.0]), "values": values})
    with pytest.raises(UserError, match="no line of the same setting"):
        compare(monkeypatch, before, after)


@pytest.mark.parametrize("text", ['{"question": "loa', "[1, 2]\n", "3\n"])
def test_a_line_that_is_no_result_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Path, text: str
) -> None:
    after = tmp_path / "after.jsonl"
    after.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"after\.jsonl, line 1: .* is no result"):
        compare(monkeypatch, before, after)


def test_what_would_not_be_read_is_refused(monkeypatch: pytest.MonkeyPatch, before: Path) -> None:
    with pytest.raises(UserError, match=r"before\.jsonl is a file, and the other side is none"):
        compare(monkeypatch, before, before.with_name("nothing.jsonl"))
    for more in (("engine.zero_stage=2",), ("--append", before.with_name("kept.jsonl"))):
        with pytest.raises(UserError, match="nothing is trained"):
            compare(monkeypatch, before, before, *more)
