from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.metrics import records
from framework.metrics.records import JsonLines, read_json_lines, read_last_json_lines
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


def test_zeros_that_a_power_cut_leaves_are_gone_after_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 4))
    path.write_bytes(path.read_bytes() + bytes(300) + b"\n" + bytes(100))
    assert steps_in(path) == [1, 2, 3]
    write(path, range(4, 6), resume_step=3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4, 5]


def test_a_history_loses_nothing_but_what_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, range(1, 8))
    path.write_text(path.read_text() + '{"step": 8, "lo')
    lines = JsonLines(path, resume_step=None)
    lines.append(record(5))
    lines.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4, 5, 6, 7, 5]


def test_a_file_of_many_chunks_is_cut_at_the_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 2001))
    assert path.stat().st_size > 5 * records._CHUNK_BYTES
    before = path.read_bytes()
    write(path, range(0), resume_step=77)
    assert steps_in(path) == list(range(1, 78))
    assert before.startswith(path.read_bytes())
    write(path, range(78, 80), resume_step=77)
    assert steps_in(path) == list(range(1, 80))


@pytest.mark.parametrize("count", [0, 1, 5, 900, 5000])
def test_the_last_lines_are_read_from_the_end(tmp_path: Path, count: int) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 1001))
    path.write_text(path.read_text() + '{"step": 1001')
    steps = [line["step"] for line in read_last_json_lines(path, count)]
    assert steps == list(range(1, 1001))[1000 - min(count, 1000) :]


def test_of_a_missing_file_the_last_lines_are_none(tmp_path: Path) -> None:
    assert read_last_json_lines(tmp_path / "metrics.jsonl", 3) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.lists(st.sampled_from([b"\n", b"a", b"bc", b"defgh"])).map(b"".join), chunk=st.integers(1, 9))
def test_lines_from_the_end_are_those_from_the_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, chunk: int
) -> None:
    monkeypatch.setattr(records, "_CHUNK_BYTES", chunk)
    path = tmp_path / "lines"
    path.write_bytes(content)
    with path.open("rb") as file:
        found = list(records._lines_from_the_end(file.fileno()))
    expected, end = [], 0
    for line in content.splitlines(keepends=True):
        end += len(line)
        if line.endswith(b"\n"):
            expected.append((end, line[:-1]))
    assert found == expected[::-1]
