"""Storage faults while a run writes about itself: nothing is raised, and nothing is lost once the disk takes it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.metrics import patient
from framework.metrics.console import Console
from framework.metrics.patient import PatientFile, PatientFolder
from framework.metrics.records import JsonLines, read_json_lines

Capture = pytest.CaptureFixture[str]
Arm = Callable[[str], None]
LimitFiles = Callable[[int], Any]
PAGE = 4096


def line(step: int) -> dict[str, Any]:
    return {"step": step, "loss": 1.0 / step, "batch_digest": f"{step:016x}"}


def steps_in(path: Path) -> list[int]:
    return [values["step"] for values in read_json_lines(path)]


def assert_whole_lines(path: Path) -> None:
    content = path.read_bytes()
    assert content == b"" or content.endswith(b"\n")
    for each in content.splitlines():
        json.loads(each)


# --- A disk without space ---


@pytest.mark.faults
def test_on_a_full_disk_lines_wait_and_are_all_there_when_it_has_space(small_disk: Path, capsys: Capture) -> None:
    path, filler = small_disk / "metrics.jsonl", small_disk / "filler"
    lines = JsonLines(path, resume_step=0)
    lines.append(line(1))
    free = os.statvfs(small_disk)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize))
    for step in range(2, 400):
        lines.append(line(step))
        assert_whole_lines(path)
    written = steps_in(path)
    assert written == list(range(1, len(written) + 1))
    assert path.stat().st_size > PAGE - 200  # as much as the page that it had
    assert len(written) < 100
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"{path} cannot be written: No space left on device. Training goes on" in warning
    filler.unlink()
    lines.append(line(400))
    assert steps_in(path) == list(range(1, 401))
    (relief,) = capsys.readouterr().err.splitlines()
    assert f"{path} can be written again: {399 - len(written)} records had waited" in relief
    lines.close()
    assert capsys.readouterr().err == ""


@pytest.mark.faults
def test_what_was_read_only_at_the_start_is_written_when_it_no_longer_is(small_disk: Path, capsys: Capture) -> None:
    path = small_disk / "metrics.jsonl"
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    lines = JsonLines(path, resume_step=0)
    for step in (1, 2, 3):
        lines.append(line(step))
    assert not path.exists()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    lines.append(line(4))
    lines.close()
    assert steps_in(path) == [1, 2, 3, 4]
    warning, relief = capsys.readouterr().err.splitlines()
    assert "cannot be written: Read-only file system" in warning
    assert "3 records had waited" in relief


@pytest.mark.faults
def test_a_full_disk_does_not_keep_a_run_from_resuming(small_disk: Path) -> None:
    path = small_disk / "metrics.jsonl"
    lines = JsonLines(path, resume_step=0)
    for step in range(1, 21):
        lines.append(line(step))
    lines.close()
    free = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize))
    lines = JsonLines(path, resume_step=12)
    assert steps_in(path) == list(range(1, 13))
    lines.close()


# --- A limit in the middle of a line ---


def test_a_line_that_is_cut_short_is_taken_back(tmp_path: Path, limit_files: LimitFiles, capsys: Capture) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path, resume_step=0)
    with limit_files(1000):
        for step in range(1, 50):
            lines.append(line(step))
            assert_whole_lines(path)
        there = steps_in(path)
        assert 5 < len(there) < 30
        assert path.stat().st_size < 1000
    lines.append(line(50))
    lines.close()
    assert steps_in(path) == list(range(1, 51))
    warning, relief = capsys.readouterr().err.splitlines()
    assert "File too large" in warning or "No space left" in warning
    assert f"{49 - len(there)} records had waited" in relief


def test_what_never_could_be_written_is_said_at_the_end(
    tmp_path: Path, limit_files: LimitFiles, capsys: Capture
) -> None:
    path = tmp_path / "metrics.jsonl"
    with limit_files(1000):
        lines = JsonLines(path, resume_step=0)
        for step in range(1, 50):
            lines.append(line(step))
        lines.close()
    missing = 49 - len(steps_in(path))
    assert missing > 0
    assert f"lacks its last {missing} records" in capsys.readouterr().err.splitlines()[-1]


def test_beyond_the_bound_the_newest_are_lost_and_counted(
    tmp_path: Path, limit_files: LimitFiles, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient, "WAITING_RECORDS", 10)
    path = tmp_path / "metrics.jsonl"
    with limit_files(1000):
        lines = JsonLines(path, resume_step=0)
        for step in range(1, 50):
            lines.append(line(step))
        there = len(steps_in(path))
    lines.close()
    assert steps_in(path) == list(range(1, there + 11))
    assert f"10 records had waited, {49 - there - 10} more are lost" in capsys.readouterr().err.splitlines()[-1]


def test_two_files_that_are_refused_are_both_named(tmp_path: Path, limit_files: LimitFiles, capsys: Capture) -> None:
    first, second = (JsonLines(tmp_path / name, resume_step=0) for name in ("metrics.jsonl", "eval.jsonl"))
    with limit_files(10):
        for step in range(1, 4):
            first.append(line(step))
            second.append(line(step))
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert "metrics.jsonl cannot be written" in warnings[0]
    assert "eval.jsonl cannot be written" in warnings[1]
    first.close()
    second.close()
    assert steps_in(tmp_path / "metrics.jsonl") == steps_in(tmp_path / "eval.jsonl") == [1, 2, 3]


# --- Faults at a chosen write ---


@pytest.mark.parametrize("fault", ["enospc", "erofs", "eio"])
def test_a_fault_at_one_step_costs_nothing(tmp_path: Path, arm: Arm, capsys: Capture, fault: str) -> None:
    path = tmp_path / "metrics.jsonl"
    arm(f"metrics.write@3={fault}")
    lines = JsonLines(path, resume_step=0)
    lines.append(line(1))
    lines.append(line(2))
    lines.append(line(3))
    assert steps_in(path) == [1, 2]
    lines.append(line(4))
    lines.close()
    assert steps_in(path) == [1, 2, 3, 4]
    warning, relief = capsys.readouterr().err.splitlines()
    assert "cannot be written" in warning
    assert "1 records had waited" in relief


def test_a_fault_at_the_last_line_costs_nothing(tmp_path: Path, arm: Arm) -> None:
    path = tmp_path / "metrics.jsonl"
    arm("metrics.write@2=eio")
    lines = JsonLines(path, resume_step=0)
    lines.append(line(1))
    lines.append(line(2))
    lines.close()
    assert steps_in(path) == [1, 2]


def test_a_device_that_is_always_full_ends_nothing(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")
    lines = JsonLines(path, resume_step=0)
    for step in range(1, 4):
        lines.append(line(step))
    lines.close()
    first, last = capsys.readouterr().err.splitlines()
    assert "No space left on device" in first
    assert "lacks its last 3 records" in last


def test_a_folder_where_the_file_should_be_ends_nothing(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "metrics.jsonl"
    path.mkdir()
    lines = JsonLines(path, resume_step=0)
    lines.append(line(1))
    path.rmdir()
    lines.append(line(2))
    lines.close()
    assert steps_in(path) == [1, 2]
    assert "Is a directory" in capsys.readouterr().err


# --- Standard error on the same disk ---


def test_a_warning_that_cannot_be_written_ends_nothing(
    tmp_path: Path, limit_files: LimitFiles, full_standard_error: Callable[[], Any]
) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path, resume_step=0)
    with full_standard_error(), limit_files(10):
        lines.append(line(1))
    lines.append(line(2))
    lines.close()
    assert steps_in(path) == [1, 2]


def test_progress_lines_that_cannot_be_written_end_nothing(full_standard_error: Callable[[], Any]) -> None:
    with full_standard_error():
        console = Console()
        console.begin(0, 10)
        console.say("one line")
        console.evaluation(1, {"loss": 1.0})
        console.end()


# --- Whole files ---


def test_samples_wait_for_the_disk_as_well(tmp_path: Path, limit_files: LimitFiles, capsys: Capture) -> None:
    folder = PatientFolder(tmp_path / "samples", "metrics.write")
    with limit_files(100):
        folder.put("step-1.txt", b"a" * 500)
        folder.put("step-2.txt", b"b" * 500)
        assert list((tmp_path / "samples").iterdir()) == []
    folder.put("step-3.txt", b"c" * 500)
    folder.close()
    found = {path.name: path.read_bytes() for path in (tmp_path / "samples").iterdir()}
    assert found == {"step-1.txt": b"a" * 500, "step-2.txt": b"b" * 500, "step-3.txt": b"c" * 500}
    warning, relief = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'samples'} cannot be written: File too large" in warning
    assert "2 files had waited" in relief


def test_samples_that_never_could_be_written_are_counted(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "samples").write_text("no folder")
    folder = PatientFolder(tmp_path / "samples", "metrics.write")
    folder.put("step-1.txt", b"a")
    folder.put("step-2.txt", b"b")
    folder.close()
    assert "lacks its last 2 files" in capsys.readouterr().err.splitlines()[-1]


# --- Threads ---


def test_lines_of_two_threads_stand_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "events"
    file = PatientFile(path, "metrics.write", lambda descriptor: 0)

    def write(letter: bytes) -> None:
        for _ in range(500):
            file.append(letter * 99 + b"\n")

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()
    assert sorted(path.read_bytes().splitlines()) == [b"a" * 99] * 500 + [b"b" * 99] * 500
