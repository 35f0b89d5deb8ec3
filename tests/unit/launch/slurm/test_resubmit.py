"""Refusals; what a real cluster takes is tested in tests/slurm/test_commands.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.errors import ConfigError
from launch.slurm.job import JobDir
from launch.slurm.planning import Request
from launch.slurm.resubmit import Change, _without_ranks, plan_again
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


@pytest.mark.parametrize(
    ("kind", "override", "why"),
    [
        ("train", "run_dir=elsewhere", "goes on where it is"),
        ("prepare", "data.shards_dir=elsewhere", "goes on where it is"),
        ("train", "optimizer.lr=1e-2", "its array gave this run a value of its own"),
    ],
)
def test_where_a_run_is_and_what_was_swept_stay(
    make_run: MakeRun, commands: Commands, run_cli: RunCli, kind: str, override: str, why: str
) -> None:
    commands(NOBODY)
    sweep = make_run("sweep", tasks=(("optimizer.lr=1e-4",),))
    run = make_run("sweep/task-000", job_id="12_0", kind=kind, array=str(sweep.run))
    result = run_cli("resubmit", run.run, override)
    assert result.code == 2
    assert f"{override.partition('=')[0]} cannot change" in result.last_line
    assert why in result.last_line


def test_another_profile_is_looked_for_where_the_user_is(
    make_run: MakeRun, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands(NOBODY)
    run = make_run()
    (tmp_path / "from").mkdir()
    run.write(run.read().model_copy(update={"directory": tmp_path / "from"}))
    monkeypatch.chdir(tmp_path)
    Path("site.yaml").write_text("max_starts_without_progress: 7\n")
    asked: list[Request] = []

    def stop(request: Request) -> None:
        asked.append(request)
        raise ConfigError("enough", fix="stop")

    monkeypatch.setattr("launch.slurm.resubmit.plan_job", stop)
    with pytest.raises(ConfigError, match="enough"):
        plan_again(run, Change(cluster=Path("site.yaml")))
    assert asked[0].profile is not None
    assert asked[0].profile.max_starts_without_progress == 7
