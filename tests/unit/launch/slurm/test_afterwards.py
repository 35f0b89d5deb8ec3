"""Acting on a decision, with programs that answer as a real SLURM (22.05) did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from framework.checkpoint.manifest import CheckpointManifest, FileEntry
from framework.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_REFUSED
from framework.run_dir import RunDir
from launch.slurm.afterwards import code_of_ranks, conclude
from launch.slurm.context import Start
from launch.slurm.job import JobDir
from launch.slurm.profile import Profile
from launch.slurm.progress import newest_step
from tests.unit.conftest import RunCli
from tests.unit.launch.slurm.conftest import Commands, MakeRun

SINFO = (
    "batch|batch*|up|1:00:00|n1|127.0.0.1|4000|2|(null)|idle\nbatch|batch*|up|1:00:00|n2|127.0.0.1|4000|2|(null)|idle\n"
)


def show(state: str, *, restarts: int = 0, reason: str = "None", preempted: str = "None") -> tuple[str, str, int]:
    words = f"JobId=12 JobName=run JobState={state} Reason={reason} Restarts={restarts} EndTime=2026-11-25T17:54:15 "
    return words + f"PreemptTime={preempted} NodeList=n[1-2] ExcNodeList=(null)\n", "", 0


def checkpoint(run: Path, step: int, *, content: bytes = b"abc") -> Path:
    folder = RunDir(run).checkpoint(step)
    folder.mkdir(parents=True)
    (folder / "state.safetensors").write_bytes(content)
    files = {"state.safetensors": FileEntry(3, "0" * 64)}
    CheckpointManifest(step, step, step, 2, "reference", 0, "fp32", step, None, None, None, "f", "d", files).save(
        folder
    )
    return folder


@pytest.fixture
def run(make_run: MakeRun) -> JobDir:
    """Its first start began without a checkpoint."""
    job_dir = make_run()
    job_dir.history.append("submitted", job_id="12")
    job_dir.history.append("started", job_id="12", restart=0)
    return job_dir


def calls_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


FIRST = Start("12", 0)


def test_a_saved_run_goes_back_into_the_queue_once(run: JobDir, commands: Commands) -> None:
    calls = commands({"scontrol": show("RUNNING"), "sinfo": (SINFO, "", 0)})
    checkpoint(run.run, 5)
    decision = conclude(run, FIRST, EXIT_PREEMPTED)
    assert decision is not None
    assert decision.action == "requeue"
    assert conclude(run, FIRST, EXIT_PREEMPTED) is None  # the agent and the batch script may both ask
    assert [call for call in calls_of(calls) if "requeue" in call] == ["scontrol requeue 12"]
    last = run.history.read()[-1]
    assert (last.event, last.step, last.exit_code) == ("requeued", 5, EXIT_PREEMPTED)


def test_an_older_start_of_the_same_name_has_not_ended_this_one(run: JobDir, commands: Commands) -> None:
    calls = commands({"scontrol": show("RUNNING"), "sinfo": (SINFO, "", 0)})
    checkpoint(run.run, 5)
    run.history.append("cancelled", job_id="12", restart=0, step=5)
    run.history.append("submitted", job_id="12")  # on a new cluster
    run.history.append("started", job_id="12", restart=0, step=5)
    checkpoint(run.run, 10)
    decision = conclude(run, FIRST, EXIT_PREEMPTED)
    assert decision is not None
    assert decision.action == "requeue"
    assert "scontrol requeue 12" in calls_of(calls)


def test_a_requeue_of_slurms_own_is_left_alone(run: JobDir, commands: Commands) -> None:
    calls = commands({"scontrol": show("COMPLETING", restarts=1)})
    decision = conclude(run, FIRST, EXIT_PREEMPTED)
    assert decision is not None
    assert decision.action == "leave"
    assert not [call for call in calls_of(calls) if "requeue" in call]
    assert (run.history.read()[-1].event, run.history.read()[-1].is_excused) == ("requeued", True)


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        (show("COMPLETING"), "cancelled"),  # scancel leaves no reason
        (show("CANCELLED"), "cancelled"),
        (show("COMPLETING", reason="TimeLimit"), "requeue"),
        (show("COMPLETING", reason="JobLaunchFailure"), "requeue"),  # the batch script was killed
        (show("COMPLETING", preempted="2026-11-25T17:54:15"), "requeue"),  # PreemptMode=CANCEL
        (("", "slurm_load_jobs error: Unable to contact slurm controller\n", 1), "give_up"),
    ],
)
def test_why_slurm_ended_a_start(run: JobDir, commands: Commands, answer: tuple[str, str, int], action: str) -> None:
    commands({"scontrol": answer, "sinfo": (SINFO, "", 0)})
    checkpoint(run.run, 5)
    decision = conclude(run, FIRST, EXIT_PREEMPTED, patience_seconds=0)
    assert decision is not None
    assert decision.action == action


def test_a_controller_that_is_away_is_asked_again(run: JobDir, commands: Commands, tmp_path: Path) -> None:
    calls = commands({"scontrol": show("RUNNING"), "sinfo": (SINFO, "", 0)})
    checkpoint(run.run, 5)
    program = tmp_path / "bin" / "scontrol"
    answers = program.read_text()
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\nopen({str(program)!r}, 'w').write({answers!r})\n"
        "sys.stderr.write('slurm_load_jobs error: Unable to contact slurm controller (connect failure)')\nsys.exit(1)\n"
    )
    decision = conclude(run, FIRST, EXIT_PREEMPTED, patience_seconds=0.2)
    assert decision is not None
    assert decision.action == "requeue"
    assert "scontrol requeue 12" in calls_of(calls)


@pytest.mark.parametrize(
    ("answer", "event"),
    [
        (show("RUNNING"), "requeued"),  # SLURM has not noticed yet
        (show("COMPLETING", reason="JobLaunchFailure"), "requeued"),
        (show("COMPLETING", restarts=1), "started"),  # nothing has to be done
        (show("COMPLETING"), "started"),  # perhaps a cancel: the ranks' end tells
    ],
)
def test_a_batch_script_that_was_killed_is_answered_before_the_ranks_end(
    run: JobDir, commands: Commands, answer: tuple[str, str, int], event: str
) -> None:
    commands({"scontrol": answer, "sinfo": (SINFO, "", 0)})
    conclude(run, FIRST, None)
    assert run.history.read()[-1].event == event
    if event == "requeued":
        checkpoint(run.run, 5)
        assert conclude(run, FIRST, EXIT_PREEMPTED) is None


def test_nothing_is_given_up_while_ranks_may_still_save(run: JobDir, commands: Commands) -> None:
    commands({"scontrol": show("RUNNING"), "sinfo": (SINFO, "", 0)})
    run.write(run.read().model_copy(update={"profile": Profile(max_starts_without_progress=1)}))
    assert conclude(run, FIRST, None) is None
    checkpoint(run.run, 5)
    decision = conclude(run, FIRST, EXIT_PREEMPTED)
    assert decision is not None
    assert decision.action == "requeue"


def test_cancel_is_heard_whatever_slurm_says(run: JobDir, commands: Commands) -> None:
    commands({"scontrol": show("RUNNING")})
    run.cancel_request.write_text("")
    decision = conclude(run, FIRST, EXIT_PREEMPTED)
    assert decision is not None
    assert decision.action == "cancelled"
    assert run.history.read()[-1].event == "cancelled"


def test_a_run_stops_where_the_user_wants_it_to(
    run: JobDir, commands: Commands, run_cli: RunCli, tiny_config: Path
) -> None:
    calls = commands({"scontrol": show("RUNNING"), "squeue": ("", "", 0)})
    command = ("train", str(tiny_config), "train.stop_at_step=5")
    run.write(run.read().model_copy(update={"command": command}))
    checkpoint(run.run, 5)
    decision = conclude(run, FIRST, EXIT_PREEMPTED)
    assert decision is not None
    assert decision.action == "stop"
    assert not [call for call in calls_of(calls) if "requeue" in call]
    out = run_cli("status", run.run).out
    assert "stopped: saved at step 5, as train.stop_at_step asks" in out
    assert f"zerostream resubmit {run.run}" in out


def test_status_says_why_a_start_was_refused(run: JobDir, commands: Commands, run_cli: RunCli) -> None:
    commands({"scontrol": show("RUNNING"), "squeue": ("", "", 0)})
    log = run.rank_log("12", 0, 0)
    log.parent.mkdir(parents=True)
    log.write_text(
        "zerostream: a warning\nzerostream: there are no shards. To fix it: prepare.\na last word of torch\n"
    )
    conclude(run, FIRST, EXIT_REFUSED)
    assert run.history.read()[-1].reason == "refused: there are no shards. To fix it: prepare."
    assert "failed: refused: there are no shards. To fix it: prepare." in run_cli("status", run.run).out


def test_a_site_that_forbids_requeueing_gets_a_follow_up_job(
    make_run: MakeRun, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    run.write(run.read().model_copy(update={"profile": Profile(requeue=False)}))
    run.history.append("started", job_id="12")
    checkpoint(run.run, 5)
    calls = commands({"scontrol": show("RUNNING"), "sbatch": ("Submitted batch job 13\n", "", 0), "srun": ("", "", 0)})
    decision = conclude(run, FIRST, EXIT_PREEMPTED)
    assert decision is not None
    assert decision.action == "follow_up"
    assert f"sbatch --dependency=afterany:12 {run.script}" in calls_of(calls)
    assert "#SBATCH --no-requeue" in run.script.read_text()
    assert (run.read().job_id, run.read().follow_up) == ("13", True)
    assert [event.event for event in run.history.read()] == ["started", "followed_up"]


def test_a_bad_node_is_kept_from_the_next_start(run: JobDir, commands: Commands, make_run: MakeRun) -> None:
    job_dir = run
    job_dir.write(job_dir.read().model_copy(update={"nodes": 1}))
    checkpoint(job_dir.run, 5)
    for number, problems in enumerate(([], ["/scratch has 3 MB left"])):
        path = job_dir.health("12", 0, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"node": f"n{number + 1}", "problems": problems}))
    calls = commands({"scontrol": show("RUNNING"), "sinfo": (SINFO, "", 0)})
    conclude(job_dir, FIRST, EXIT_FAILED)
    assert "scontrol update JobId=12 ExcNodeList=n2" in calls_of(calls)
    assert job_dir.read().excluded_nodes == ("n2",)
    excluded = next(event for event in job_dir.history.read() if event.event == "excluded")
    assert (excluded.nodes, excluded.reason) == (("n2",), "n2: /scratch has 3 MB left")


def test_a_bad_node_stays_if_too_few_would_be_left(run: JobDir, commands: Commands) -> None:
    path = run.health("12", 0, 1)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"node": "n2", "problems": ["no answer"]}))
    calls = commands({"scontrol": show("RUNNING"), "sinfo": (SINFO, "", 0)})
    conclude(run, FIRST, EXIT_FAILED)  # of two nodes, both are needed
    assert not [call for call in calls_of(calls) if "ExcNodeList" in call]


def test_the_module_ignores_the_signals_of_its_own_requeue(run: JobDir, commands: Commands) -> None:
    commands({"scontrol": show("COMPLETING", restarts=1)})
    code = (
        "import os, signal, sys\n"
        "import launch.slurm.afterwards as module\n"
        "before = module.conclude\n"
        "def conclude(*arguments):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return before(*arguments)\n"
        "module.conclude = conclude\n"
        "sys.exit(module.main(sys.argv[1:]))\n"
    )
    import os

    environment = {**os.environ, "SLURM_JOB_ID": "12", "PYTHONPATH": str(Path(__file__).parents[4])}
    command = [sys.executable, "-c", code, str(run.run), "--exit-code", "75"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT_FINISHED, done.stderr
    assert "SLURM has put it back" in done.stderr


def test_starts_that_could_not_write_that_they_began_end_as_well(run: JobDir, commands: Commands) -> None:
    # A full disk: nothing is added to the history, and a checkpoint is there from before.
    checkpoint(run.run, 5)
    for restart, action in ((1, "requeue"), (2, "requeue"), (3, "give_up")):
        before = (run.path / "history.jsonl").read_bytes()
        commands({"scontrol": show("RUNNING", restarts=restart), "sinfo": (SINFO, "", 0)})
        decision = conclude(run, Start("12", restart), EXIT_FAILED)
        assert decision is not None
        assert decision.action == action, restart
        (run.path / "history.jsonl").write_bytes(before)


@pytest.mark.parametrize(
    ("file", "of_srun", "code"),
    [
        ("0", 0, 0),
        ("75", 75, 75),
        ("75", 143, 75),  # srun was told to go
        ("1", 0, 1),
        (None, 0, EXIT_FAILED),  # a lost node: srun says 0, and nobody else says anything
        (None, 137, 137),
        ("", 75, 75),
        ("x", 0, EXIT_FAILED),
    ],
)
def test_the_agents_word_counts_more_than_sruns(run: JobDir, file: str | None, of_srun: int, code: int) -> None:
    path = run.exit_code("12", 0)
    path.parent.mkdir(parents=True)
    if file is not None:
        path.write_text(file)
    assert code_of_ranks(run, FIRST, of_srun) == code


# --- How far a run has come ---


def test_a_checkpoint_counts_when_all_of_it_is_there(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    assert newest_step(run_dir) is None
    checkpoint(tmp_path, 5)
    assert newest_step(run_dir) == 5
    checkpoint(tmp_path, 10, content=b"ab")  # cut short
    assert newest_step(run_dir) == 5
    (checkpoint(tmp_path, 15) / "manifest.json").unlink()
    assert newest_step(run_dir) == 5
    checkpoint(tmp_path, 20)
    assert newest_step(run_dir) == 20
