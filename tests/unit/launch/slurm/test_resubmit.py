"""Refusals; what a real cluster takes is tested in tests/slurm/test_commands.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.slurm.job import JobDir
from launch.slurm.resubmit import _without_ranks
from tests.unit.launch.slurm.conftest import SCRIPT

MakeRun = Callable[..., JobDir]
RunCli = Callable[..., Any]
Commands = Callable[..., Path]
NOBODY = {"squeue": ("", "", 0)}


def test_a_finished_run_has_nothing_to_go_on_with(make_run: MakeRun, commands: Commands, run_cli: RunCli) -> None:
    commands(NOBODY)
    result = run_cli("resubmit", make_run(step=20, result=True).run)
    assert result.code == 2
    assert "has finished" in result.last_line


def test_a_live_run_is_not_submitted_twice(make_run: MakeRun, commands: Commands, run_cli: RunCli) -> None:
    commands({"squeue": (f"12|PENDING|batch|2|1|N/A|N/A||Priority|{SCRIPT}\n", "", 0)})
    job_dir = make_run()
    before = job_dir.job.read_bytes()
    result = run_cli("resubmit", job_dir.run)
    assert result.code == 2
    assert "is already job 12 (queued)" in result.last_line
    assert job_dir.job.read_bytes() == before


def test_the_folder_that_it_was_submitted_from_is_needed(
    make_run: MakeRun, commands: Commands, run_cli: RunCli
) -> None:
    commands(NOBODY)
    job_dir = make_run(step=8)
    job_dir.write(job_dir.read().model_copy(update={"directory": job_dir.run / "gone"}))
    result = run_cli("resubmit", job_dir.run)
    assert result.code == 2
    assert "does not exist any more" in result.last_line


def test_an_array_that_has_finished(make_run: MakeRun, commands: Commands, run_cli: RunCli) -> None:
    commands(NOBODY)
    sweep = make_run("sweep", tasks=(("seed=1",), ("seed=2",)))
    for number in (0, 1):
        make_run(f"sweep/task-00{number}", job_id=f"12_{number}", step=20, result=True)
    result = run_cli("resubmit", sweep.run)
    assert result.code == 2
    assert "all tasks have finished" in result.last_line


def test_without_slurm_nothing_is_submitted(make_run: MakeRun, commands: Commands, run_cli: RunCli) -> None:
    commands({})
    job_dir = make_run(step=8)
    job_dir.history.append("gave_up", job_id="12")
    job_dir.config.write_text("run_dir: x\n")
    result = run_cli("resubmit", job_dir.run)
    assert result.code == 2
    assert not job_dir.script.exists()


def test_ranks_of_a_fine_tuning_are_counted_anew() -> None:
    assert _without_ranks(("seed=1", "--nproc", "2", "run_dir=x")) == ("seed=1", "run_dir=x")
    assert _without_ranks(("seed=1",)) == ("seed=1",)
