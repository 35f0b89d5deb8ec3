"""Whose job is ended; what a real cluster does then is tested in tests/slurm/test_commands.py."""

from __future__ import annotations

from tests.unit.conftest import RunCli
from tests.unit.launch.slurm.captured import NO_CONTROLLER
from tests.unit.launch.slurm.conftest import SCRIPT, Commands, MakeRun


def test_another_runs_job_of_the_same_id_lives_on(make_run: MakeRun, commands: Commands, run_cli: RunCli) -> None:
    run = make_run(step=8)
    run.history.append("started", job_id="12")
    line = "12|RUNNING|batch|2|1|2|N/A|n1|None|{}\n"
    calls = commands({"squeue": (line.format("/runs/other/slurm/script.sh"), "", 0), "scancel": ("", "", 0)})
    result = run_cli("cancel", run.run, "--now")
    assert result.code == 0
    assert "nothing to cancel" in result.err
    assert "scancel" not in calls.read_text()
    commands({"squeue": (line.format(SCRIPT), "", 0), "scancel": ("", "slurm_load_jobs error: no\n", 1)})
    assert run_cli("cancel", run.run, "--now").code == 1
    assert "scancel 12" in calls.read_text()


def test_without_an_answer_nothing_is_ended(make_run: MakeRun, commands: Commands, run_cli: RunCli) -> None:
    run = make_run(step=8, beats=True)
    calls = commands({"squeue": ("", NO_CONTROLLER, 1), "scancel": ("", "", 0)})
    result = run_cli("cancel", run.run, "--now")
    assert result.code == 1
    assert "SLURM could not be told to cancel" in result.last_line
    assert "scancel" not in calls.read_text()
