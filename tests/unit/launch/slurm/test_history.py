from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from framework.errors import StorageError
from launch.slurm.history import History


def test_events_come_back_in_order(tmp_path: Path) -> None:
    history = History(tmp_path / "slurm" / "history.jsonl")
    history.append("submitted", job_id="7")
    history.append("started", job_id="7", restart=1, nodes=("a", "b"), step=20)
    history.append("ended", job_id="7", restart=1, step=40, exit_code=0, reason="finished")
    events = history.read()
    assert [event.event for event in events] == ["submitted", "started", "ended"]
    assert (events[1].nodes, events[1].step, events[1].restart) == (("a", "b"), 20, 1)
    assert (events[2].exit_code, events[2].reason) == (0, "finished")
    assert [event.time for event in events] == sorted(event.time for event in events)


def test_each_event_is_one_line_of_json(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.append("ended", reason="two\nlines and an ö")
    (line,) = (tmp_path / "history.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["reason"] == "two\nlines and an ö"


def test_a_line_that_a_crash_has_cut_loses_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    history.append("submitted", job_id="1")
    path.write_bytes(path.read_bytes() + b'{"time": 12.5, "event": "star')
    assert [event.event for event in history.read()] == ["submitted"]
    history.append("started", job_id="1")
    assert [event.event for event in history.read()] == ["submitted", "started"]


def test_a_newer_versions_events_and_keys_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"time": 1, "event": "migrated"}\n{"time": 2, "event": "started", "job_id": "3", "rack": "b"}\n')
    assert [(event.event, event.job_id) for event in History(path).read()] == [("started", "3")]


def test_no_file_is_no_event(tmp_path: Path) -> None:
    assert History(tmp_path / "history.jsonl").read() == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "slurm").write_text("")
    with pytest.raises(StorageError, match=r"history\.jsonl"):
        History(tmp_path / "slurm" / "history.jsonl").append("submitted")


def _append_many(path: Path, name: str) -> None:
    for number in range(50):
        History(path).append("started", job_id=name, restart=number, reason="x" * 500)


def test_processes_that_append_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    events = History(path).read()
    for name in "abc":
        assert [event.restart for event in events if event.job_id == name] == list(range(50))
