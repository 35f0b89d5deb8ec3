from __future__ import annotations

from pathlib import Path

import pytest

from framework.errors import UserError
from launch.slurm.context import Start, append_line, current_start, this_start
from launch.slurm.job import JobDir
from launch.slurm.start import EXIT_NOT_WANTED, begin, main
from tests.unit.launch.slurm.conftest import Commands, MakeRun

SHOW = "JobId=12 JobState=RUNNING Reason=None Restarts=0 EndTime=2026-11-25T17:54:15 PreemptTime=None NodeList=n1\n"


def kinds(job_dir: JobDir) -> list[str]:
    return [event.event for event in job_dir.history.read()]


def test_a_start_is_announced_and_written_down(make_run: MakeRun) -> None:
    run = make_run()
    assert begin(run, Start("12", 2), ("n1", "n2")) is None
    event = run.history.read()[-1]
    assert (event.event, event.job_id, event.restart, event.nodes) == ("started", "12", 2, ("n1", "n2"))
    assert current_start(run) == Start("12", 2)


def test_a_cancelled_run_does_not_start_again(make_run: MakeRun) -> None:
    run = make_run()
    run.cancel_request.write_text("")
    assert begin(run, Start("12", 1), ()) == "the run was cancelled"
    assert kinds(run) == ["cancelled"]
    assert current_start(run) is None


def test_starts_that_die_without_a_word_are_counted_and_end(make_run: MakeRun) -> None:
    run = make_run()
    for restart in range(3):
        assert begin(run, Start("12", restart), ()) is None
    refusal = begin(run, Start("12", 3), ())
    assert refusal == "3 starts in a row ended without a newer checkpoint"
    assert kinds(run) == [*(["started", "ended"] * 3), "gave_up"]
    assert run.history.read()[1].reason == "killed without a word, or its node was lost"


def test_a_start_that_was_told_to_go_and_killed_is_not_its_own_fault(make_run: MakeRun) -> None:
    run = make_run()
    for restart in range(6):
        assert begin(run, Start("12", restart), ()) is None
        append_line(run.signals("12", restart), "SIGTERM")
    ends = [event for event in run.history.read() if event.event == "ended"]
    assert [event.reason for event in ends] == ["killed after SIGTERM"] * 5
    assert all(event.is_excused for event in ends)


def test_what_an_older_start_of_the_same_name_left_is_not_taken_for_this_ones(make_run: MakeRun) -> None:
    run = make_run()
    run.history.append("submitted", job_id="1")
    assert begin(run, Start("1", 0), ()) is None
    append_line(run.signals("1", 0), "SIGTERM")
    stale = [run.exit_code("1", 0), run.rendezvous("1", 0), run.health("1", 0, 1)]
    for path in stale:
        append_line(path, "75")
    run.history.append("submitted", job_id="1")  # on a new cluster
    assert begin(run, Start("1", 0), ()) is None
    assert not any(path.exists() for path in (*stale, run.signals("1", 0)))
    assert [event.reason for event in run.history.read() if event.event == "ended"] == ["killed after SIGTERM"]
    assert begin(run, Start("1", 1), ()) is None  # the one before was killed, whatever its namesake did
    assert run.history.read()[-2].reason == "killed without a word, or its node was lost"


def test_slurm_names_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="SLURM_JOB_ID is not set"):
        this_start()
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert this_start() == Start("12", 0)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "4")
    assert this_start().name == "12-4"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "10")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert this_start() == Start("10_3", 4)


def test_ranks_are_told_when_the_time_is_up(
    make_run: MakeRun, commands: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    commands({"scontrol": (SHOW, "", 0)})
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2,7]")
    monkeypatch.setenv("TZ", "UTC")
    assert main([str(run.run)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    name, _, value = line.removeprefix("export ").partition("=")
    assert name == "SLURM_JOB_END_TIME"
    assert int(value) > 1.7e9
    assert run.history.read()[-1].nodes == ("n1", "n2", "n7")


def test_an_unwanted_start_has_a_code_of_its_own(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    run.cancel_request.write_text("")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert main([str(run.run)]) == EXIT_NOT_WANTED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "not wanted: the run was cancelled" in captured.err


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    append_line(tmp_path / "file" / "log", "words")
    append_line(tmp_path / "folder" / "log", "words")
    append_line(tmp_path / "folder" / "log", "more")
    assert (tmp_path / "folder" / "log").read_text() == "words\nmore\n"
