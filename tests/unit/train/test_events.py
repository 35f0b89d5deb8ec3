from __future__ import annotations

from pathlib import Path

import pytest

from framework.metrics.records import read_json_lines
from framework.run_dir import RunDir
from framework.train.events import EventLog, count_skipped_sequences

A, B = "shards/train-000001.tar", "https://elsewhere/train-000002.tar"


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def cursors(step: int) -> range:
    return range(8 * (step - 1), 8 * step)


# (step, skipped sequences, bad shards that some rank names for the first time in its own life)
SKIPS: list[tuple[int, int, tuple[str, ...]]] = [(1, 2, (A,)), (2, 3, ()), (4, 1, (A, B)), (5, 4, (B,)), (7, 8, ())]


def run(run_dir: RunDir, start: int, end: int, *, is_main: bool = True) -> list[str]:
    """What is said by a start that goes on after step ``start``; every rank names its bad shards anew."""
    said: list[str] = []
    events = EventLog(run_dir, start, said.append, is_main=is_main)
    for step, skipped, named in SKIPS:
        if start < step <= end:
            events.note_skipped(step, cursors(step), skipped, named if start == 0 else (A, B))
    events.close()
    return said


def test_each_step_is_in_the_file_and_each_shard_is_named_and_said_once(run_dir: RunDir) -> None:
    said = run(run_dir, 0, 7)
    assert [line.split(" is bad")[0] for line in said] == [f"warning: step 1: shard {A}", f"warning: step 4: shard {B}"]
    events = read_json_lines(run_dir.events)
    assert {event["event"] for event in events} == {"sequences_skipped"}
    assert [(event["step"], event["skipped_sequences"]) for event in events] == [(1, 2), (2, 3), (4, 1), (5, 4), (7, 8)]
    assert [event.get("bad_shards") for event in events] == [[A], None, [B], None, None]
    assert [event["cursors"] for event in events] == [[8 * (step - 1), 8 * step] for step in (1, 2, 4, 5, 7)]
    assert events[2]["message"] == "1 of 8 sequences left out, as their shards are bad"
    assert count_skipped_sequences(run_dir) == 18


@pytest.mark.parametrize(("end", "resume"), [(7, 4), (5, 5), (7, 2), (7, 0), (3, 3)])
def test_a_run_that_was_stopped_and_resumed_has_the_events_of_one_that_was_not(
    end: int, resume: int, run_dir: RunDir, tmp_path: Path
) -> None:
    whole = RunDir(tmp_path / "whole")
    whole.path.mkdir()
    run(whole, 0, 7)
    run(run_dir, 0, end)
    said = run(run_dir, resume, 7)
    assert count_skipped_sequences(run_dir) == count_skipped_sequences(whole)
    steps = [
        [(event["step"], event["skipped_sequences"]) for event in read_json_lines(each.events)]
        for each in (run_dir, whole)
    ]
    assert steps[0] == steps[1]
    if resume >= 4:  # both shards were named before
        assert said == []
        assert run_dir.events.read_bytes() == whole.events.read_bytes()
    named = [name for event in read_json_lines(run_dir.events) for name in event.get("bad_shards", ())]
    assert sorted(named) == sorted([A, B])


def test_other_ranks_write_and_say_nothing(run_dir: RunDir) -> None:
    assert run(run_dir, 0, 7, is_main=False) == []
    assert not run_dir.events.exists()


def test_a_run_without_bad_shards_has_skipped_nothing(run_dir: RunDir) -> None:
    events = EventLog(run_dir, 0, lambda _: None, is_main=True)
    assert count_skipped_sequences(run_dir) == 0
    events.note("step_left_out", 3, "left out", cursors=[16, 24])
    events.close()
    assert count_skipped_sequences(run_dir) == 0


def test_what_need_not_come_again_is_kept_beside_the_events_of_the_run_that_counts(run_dir: RunDir) -> None:
    def start_at(step: int, *noted: tuple[str, int]) -> None:
        events = EventLog(run_dir, step, lambda _: None, is_main=True)
        for event, at in noted:
            if event == "sequences_skipped":
                events.note_skipped(at, cursors(at), 1, ())
            else:
                events.note(event, at, event)
        events.close()

    start_at(0, ("step_left_out", 2), ("sequences_skipped", 4), ("save_failed", 5), ("loss_spike", 6))
    start_at(3, ("loss_spike", 6), ("save_failed", 7))
    start_at(6)
    start_at(6)
    assert [(line["event"], line["step"]) for line in read_json_lines(run_dir.events)] == [
        ("step_left_out", 2),
        ("loss_spike", 6),
    ]
    kept = read_json_lines(run_dir.abandoned_events)
    assert [(line["event"], line["step"], line["resumed_at_step"]) for line in kept] == [
        ("save_failed", 5, 3),
        ("loss_spike", 6, 3),
        ("save_failed", 7, 6),
    ]
    assert run_dir.abandoned_events in run_dir.outputs  # --start-over removes it
