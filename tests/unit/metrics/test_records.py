from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from framework.metrics.records import JsonLines, read_json_lines
from framework.plugins.interface import StepRecord


def record(step: int, loss: float = 1.5) -> StepRecord:
    return StepRecord(step, 100 * step, loss, 1e-3, 0.5, 0.1, 1000.0, 0.001, 2**30, "00ff")


def write(path: Path, steps: range, resume_step: int = 0) -> None:
    lines = JsonLines(path, resume_step=resume_step)
    for step in steps:
        lines.append(record(step))
    lines.close()


def steps_in(path: Path) -> list[int]:
    return [line["step"] for line in read_json_lines(path)]


def test_a_record_is_one_line_with_all_its_fields(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", range(1, 2))
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "step": 1,
        "tokens": 100,
        "loss": 1.5,
        "lr": 1e-3,
        "grad_norm": 0.5,
        "step_seconds": 0.1,
        "tokens_per_second": 1000.0,
        "data_wait_seconds": 0.001,
        "peak_memory_bytes": 2**30,
        "batch_digest": "00ff",
    }


def test_a_line_can_be_read_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "metrics.jsonl", resume_step=0)
    for step in range(1, 4):
        lines.append(record(step))
        assert steps_in(tmp_path / "metrics.jsonl") == list(range(1, step + 1))
    lines.close()


def test_resuming_drops_the_lines_of_steps_that_are_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 8))
    before = path.read_text().splitlines()
    write(path, range(5, 7), resume_step=4)
    assert steps_in(path) == [1, 2, 3, 4, 5, 6]
    assert path.read_text().splitlines()[:4] == before[:4]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_starting_again_without_a_checkpoint_forgets_everything(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", range(1, 4))
    write(tmp_path / "metrics.jsonl", range(1, 3))
    assert steps_in(tmp_path / "metrics.jsonl") == [1, 2]


def test_a_half_written_last_line_is_left_out_and_gone_after_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 4))
    path.write_text(path.read_text()[:-20])
    assert steps_in(path) == [1, 2]
    write(path, range(3, 5), resume_step=3)
    assert steps_in(path) == [1, 2, 3, 4]


def test_a_line_that_is_cut_inside_a_character_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "eval.jsonl"
    lines = JsonLines(path, resume_step=0)
    lines.append({"step": 1, "größe": 1.0})
    lines.append({"step": 2, "größe": 2.0})
    lines.close()
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex("ö".encode()) + 1])
    assert read_json_lines(path) == [{"step": 1, "größe": 1.0}]


def test_what_is_not_json_is_not_written(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "metrics.jsonl", resume_step=0)
    with pytest.raises(ValueError, match="JSON compliant"):
        lines.append(record(1, loss=math.inf))
    lines.append(dataclasses.replace(record(2), grad_norm=None))
    lines.close()
    assert read_json_lines(tmp_path / "metrics.jsonl")[0]["grad_norm"] is None


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert read_json_lines(tmp_path / "metrics.jsonl") == []
