from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.durable import only_one_writer
from framework.errors import RunDirError
from framework.run_dir import RunDir
from launch.slurm.gauges import read_gauges
from launch.slurm.job import JobDir
from launch.slurm.jobs import submitted_runs
from launch.slurm.status import describe_event, look_at
from tests.unit.launch.slurm.conftest import SCRIPT, write_steps

MakeRun = Callable[..., JobDir]
RunCli = Callable[..., Any]
Commands = Callable[..., Path]
ROOT = Path(__file__).parents[4]


def squeue(job_id: str, state: str, ends: float | str = "N/A", reason: str = "None") -> dict[str, tuple[str, str, int]]:
    return {"squeue": (f"{job_id}|{state}|batch|2|1795629486|1795629489|{ends}|zv[1-2]|{reason}|{SCRIPT}\n", "", 0)}


def test_a_running_job_tells_its_step_speed_and_the_time_left(
    make_run: MakeRun, commands: Commands, run_cli: RunCli
) -> None:
    job_dir = make_run(step=8, beats=True)
    for event in ("submitted", "started", "requeued", "started"):
        job_dir.history.append(event, job_id="12", nodes=("zv1", "zv2"))
    commands(squeue("12", "RUNNING", ends=4_000_000_000))
    report = json.loads(run_cli("status", job_dir.run, "--json").out)
    assert (report["state"], report["step"], report["max_steps"]) == ("running", 8, 20)
    assert (report["loss"], report["tokens_per_second"]) == (2 + 1 / 8, 1000.0)
    assert (report["validation_loss"], report["bits_per_byte"], report["validation_step"]) == (2.0, 1.0, 8)
    assert report["seconds_to_end"] == pytest.approx(12 * 0.5)
    assert report["seconds_to_limit"] > 1e9
    assert (report["restarts"], report["ranks"], report["nodes"]) == (1, 2, "zv[1-2]")
    assert 3 < report["heartbeat_age_seconds"] < 60
    assert report["next"] == f"zerostream logs -f {job_dir.run}"
    text = run_cli("status", job_dir.run).out
    assert "running; on zv[1-2] of partition batch" in text
    assert "8 of 20; loss 2.1250; 1,000 tokens/s; validation loss 2.0000, 1.0000 bits per byte at step 8" in text
    assert "about 6s of steps" in text


def test_a_queued_job_says_what_it_waits_for(make_run: MakeRun, commands: Commands, run_cli: RunCli) -> None:
    job_dir = make_run()
    job_dir.history.append("submitted", job_id="12")
    commands(squeue("12", "PENDING", reason="Priority"))
    out = run_cli("status", job_dir.run).out
    assert "queued: other jobs come first (Priority)" in out
    assert "none taken yet" in out


def test_without_slurm_it_says_so_and_tells_the_rest(make_run: MakeRun, commands: Commands, run_cli: RunCli) -> None:
    job_dir = make_run(step=8, beats=True)
    job_dir.history.append("started", job_id="12")
    commands({})
    result = run_cli("status", job_dir.run)
    assert result.code == 0
    assert "running: by its heartbeats; SLURM cannot be asked" in result.out
    assert "could not be asked: squeue is not on the path" in result.out
    assert "8 of 20" in result.out


def test_a_cancelled_run_is_offered_to_go_on(make_run: MakeRun, commands: Commands, run_cli: RunCli) -> None:
    job_dir = make_run(step=8)
    job_dir.history.append("cancelled", job_id="12", reason="by ada")
    job_dir.cancel_request.touch()
    commands({"squeue": ("", "", 0)})
    out = run_cli("status", job_dir.run).out
    assert "cancelled: by ada" in out
    assert f"zerostream resubmit {job_dir.run}" in out


def test_local_runs_need_no_slurm(tmp_path: Path, commands: Commands, run_cli: RunCli) -> None:
    calls = commands({"squeue": ("", "", 0)})
    run_dir = RunDir(tmp_path / "run")
    run_dir.path.mkdir()
    run_dir.config.write_text("train: {max_steps: 20}\n")
    write_steps(run_dir, 8)
    assert "stopped" in run_cli("status", run_dir.path).out
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl, sys\nf = open({str(run_dir.lock)!r}, 'w')\n"
         "fcntl.flock(f, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    report = json.loads(run_cli("status", run_dir.path, "--json").out)
    assert (report["state"], report["next"]) == ("running", f"zerostream board {run_dir.path}")
    holder.communicate()
    assert not calls.exists()


def test_a_fine_tuning_is_as_far_as_its_newest_fold(make_run: MakeRun, commands: Commands) -> None:
    commands(squeue("12", "RUNNING"))
    job_dir = make_run(kind="finetune")
    for number in (1, 2):
        fold = RunDir(job_dir.run / f"fold-{number}")
        fold.path.mkdir()
        fold.config.write_text("train: {max_steps: 9}\n")
        write_steps(fold, 3 * number)
        os.utime(fold.metrics, (number, number))
    [status] = look_at([job_dir.run])
    assert (status.gauges.step, status.gauges.max_steps) == (6, 9)
    assert status.gauges.run_dir == job_dir.run / "fold-2"


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_what_is_no_run_is_refused(tmp_path: Path, run_cli: RunCli, name: str) -> None:
    (tmp_path / "empty").mkdir()
    for command in ("status", "logs", "cancel"):
        result = run_cli(command, tmp_path / name)
        assert result.code == 2
        assert "To fix it" in result.last_line


@pytest.mark.parametrize("content", [b"", b"\x00\x00", b"[1", b"{}", b"null"])
def test_damaged_files_are_passed_over(make_run: MakeRun, content: bytes) -> None:
    job_dir = make_run(beats=True)
    run_dir = RunDir(job_dir.run)
    for path in (run_dir.metrics, run_dir.evaluations, run_dir.result, run_dir.config, run_dir.heartbeat(0)):
        path.write_bytes(content)
    found = read_gauges(run_dir, 0.0)
    assert (found.step, found.loss, found.validation_loss) == (None, None, None)
    assert found.heartbeats is not None
    assert found.heartbeats.ranks == 1


def test_a_damaged_job_is_refused(make_run: MakeRun) -> None:
    job_dir = make_run()
    job_dir.job.write_text("{")
    with pytest.raises(RunDirError, match="cannot be read"):
        look_at([job_dir.run])


def test_a_lock_of_this_process_counts(make_run: MakeRun) -> None:
    run_dir = RunDir(make_run().run)
    with only_one_writer(run_dir.lock, refusal=RunDirError("a", fix="b")):
        assert read_gauges(run_dir, 0.0).is_locked
    assert not read_gauges(run_dir, 0.0).is_locked


def test_an_event_is_one_line(make_run: MakeRun) -> None:
    history = make_run().history
    event = history.append("started", job_id="12", restart=2, nodes=("zv1", "zv2"), step=40)
    assert describe_event(event)[19:] == "  started  job 12, restart 2; on zv1, zv2; step 40"
    event = history.append("gave_up", job_id="12", reason="3 starts without gauges", exit_code=1)
    assert describe_event(event)[19:] == "  gave up  job 12; exit code 1; 3 starts without gauges"


def test_jobs_lists_runs_once_and_sweeps_as_one(make_run: MakeRun, commands: Commands, run_cli: RunCli) -> None:
    make_run("b/run", job_id="13", step=4, beats=True)
    sweep = make_run("a/sweep", tasks=(("seed=1",), ("seed=2",)))
    for number in (0, 1):
        task = make_run(f"a/sweep/task-00{number}", job_id=f"12_{number}", step=20, result=not number)
        task.history.append("started", job_id=f"12_{number}")
    assert [run.name for run in submitted_runs(sweep.run.parent.parent)] == ["sweep", "run"]
    calls = commands(squeue("13", "RUNNING"))
    result = run_cli("jobs", sweep.run.parent, sweep.run.parent.parent / "b", "--json")
    rows = {Path(row["run_dir"]).name: row for row in json.loads(result.out)["jobs"]}
    assert rows["run"]["state"] == "running"
    assert rows["run"]["step"] == 4
    assert rows["sweep"]["state"] == "1 finished, 1 lost"
    questions = [line for line in calls.read_text().splitlines() if line.startswith("squeue")]
    assert len(questions) == 1
    assert "running" in run_cli("jobs", sweep.run.parent.parent).out


def test_a_bad_folder_does_not_hide_other_jobs(make_run: MakeRun, commands: Commands, run_cli: RunCli) -> None:
    commands(squeue("13", "RUNNING"))
    make_run("good", job_id="13", step=4, beats=True)
    array = make_run("array", tasks=(("seed=1",), ("seed=2",)))
    make_run("array/task-000", job_id="12_0", array=str(array.run))  # and no second one
    bad = make_run("bad")
    bad.job.write_text("{")
    make_run("worse").job.write_text("")
    result = run_cli("jobs", bad.run.parent)
    assert result.code == 0
    assert "running" in result.out
    assert result.out.count("unreadable") == 2
    assert "job.json cannot be read" in result.out
    states = {
        Path(row["run_dir"]).name: row["state"]
        for row in json.loads(run_cli("jobs", bad.run.parent, "--json").out)["jobs"]
    }
    assert (states["good"], states["bad"]) == ("running", "unreadable")


@pytest.mark.parametrize("method", ["is_file", "iterdir"])
def test_a_run_that_is_not_ours_to_read(
    make_run: MakeRun, commands: Commands, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Tests may run as root, whom nothing is denied."""
    commands({"squeue": ("", "", 0)})
    run = make_run(step=4)
    RunDir(run.run).checkpoint(1).mkdir(parents=True)
    whole = getattr(Path, method)

    def deny(path: Path) -> object:
        if path.is_relative_to(run.run):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(Path, method, deny)
    result = run_cli("status", run.run)
    assert result.code == 2
    assert "cannot be read: Permission denied" in result.last_line
    assert run_cli("jobs", run.run.parent).code == 0


def test_jobs_of_an_empty_folder(tmp_path: Path, run_cli: RunCli) -> None:
    assert "no submitted run" in run_cli("jobs", tmp_path).out
    assert run_cli("jobs", tmp_path / "absent").code == 2


def test_status_and_jobs_need_no_torch(make_run: MakeRun) -> None:
    job_dir = make_run(step=3)
    program = f"""
import sys
from launch.cli import main
for arguments in (["status", {str(job_dir.run)!r}], ["jobs", {str(job_dir.run.parent)!r}]):
    sys.argv = ["zerostream", *arguments]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, ended.code
loaded = [name for name in ("torch", "numpy", "transformers", "submitit") if name in sys.modules]
assert loaded == [], loaded
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, timeout=60)
