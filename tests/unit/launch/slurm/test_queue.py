from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.slurm.job import Job
from launch.slurm.queue import ask, parse_sacct, parse_squeue
from launch.slurm.reasons import in_plain_words
from tests.unit.launch.slurm.captured import NO_ACCOUNTING, NO_CONFIGURATION, NO_CONTROLLER, SACCT, SQUEUE, UNKNOWN_JOB
from tests.unit.launch.slurm.conftest import MakeJob

Commands = Callable[..., Path]


def test_every_line_of_squeue_is_understood() -> None:
    jobs = {job.job_id: job for job in parse_squeue(SQUEUE)}
    assert len(jobs) == len(SQUEUE.splitlines())
    running = jobs["2"]
    assert (running.state, running.partition, running.nodes, running.node_count) == ("RUNNING", "batch", "zv[1-2]", 2)
    assert (running.submitted_at, running.starts_at, running.ends_at) == (1795629486, 1795629489, 1795633089)
    assert jobs["4"].starts_at is None
    assert jobs["8_0"].reason.startswith("Nodes required for job are DOWN, DRAINED or reserved")
    assert [job.job_id for job in jobs.values() if job.is_waiting] == ["1", "3_0", "3_1", "4", "8_0"]
    assert [job.job_id for job in jobs.values() if job.has_ended] == ["5", "6"]


def test_of_a_requeued_job_the_last_line_of_sacct_counts() -> None:
    jobs = {job.job_id: job for job in parse_sacct(SACCT)}
    assert {job_id: job.state for job_id, job in jobs.items()} == {
        "12": "TIMEOUT",
        "13": "CANCELLED",
        "14_1": "FAILED",
        "15": "COMPLETED",
    }
    assert jobs["14_1"].reason == "exit code 3"


def test_lines_of_another_form_are_passed_over() -> None:
    assert parse_squeue("slurm_load_jobs: warning\n\n1|RUNNING\n") == []


def job_of(make_job: MakeJob, job_id: str, run: str = "") -> Job:
    return make_job(job_id=job_id, script=f"/runs/{run or job_id.partition('_')[0]}/slurm/script.sh")


@pytest.mark.parametrize("job_id", ["2", "3", "3_1", "12", "14_1"])
def test_another_runs_job_of_the_same_id_is_not_taken_for_it(
    commands: Commands, make_job: MakeJob, job_id: str
) -> None:
    commands({"squeue": (SQUEUE, "", 0), "sacct": (SACCT, "", 0)})
    mine, other = job_of(make_job, job_id), job_of(make_job, job_id, run="a new cluster's")
    answer = ask([mine, other])
    assert answer.of(mine)
    assert answer.of(other) == []


def test_a_script_may_be_named_anyhow() -> None:
    [seen] = parse_squeue("1|RUNNING|batch|2|1|2|3|n1|None|/runs/a | b/slurm/script.sh\n")
    assert seen.script == "/runs/a | b/slurm/script.sh"
    [known] = parse_sacct("1|FAILED|batch|2|1|2|3|n1|1:0|sbatch --dependency=afterany:1 /runs/a | b/slurm/script.sh\n")
    assert known.script == "/runs/a | b/slurm/script.sh"


def test_forgotten_jobs_are_asked_from_accounting(commands: Commands, make_job: MakeJob) -> None:
    calls = commands({"squeue": (SQUEUE, "", 0), "sacct": (SACCT, "", 0)})
    jobs = [job_of(make_job, job_id) for job_id in ("2", "3", "12", "14_1")]
    answer = ask(jobs)
    assert answer.unreachable is None
    states = [[found.state for found in answer.of(job)] for job in jobs]
    assert states == [["RUNNING"], ["PENDING", "PENDING"], ["TIMEOUT"], ["FAILED"]]
    squeue, sacct = calls.read_text().splitlines()
    assert "--jobs=2,3,12,14_1" in squeue
    assert "--array" in squeue
    assert "--jobs=12,14_1" in sacct


def test_a_job_that_nobody_knows_is_no_failure(commands: Commands, make_job: MakeJob) -> None:
    commands({"squeue": ("", UNKNOWN_JOB, 1), "sacct": ("", NO_ACCOUNTING, 1)})
    answer = ask([job_of(make_job, "9999")])
    assert (answer.jobs, answer.unreachable) == ((), None)


def test_a_controller_that_is_away_is_named(commands: Commands, make_job: MakeJob) -> None:
    commands({"squeue": ("", NO_CONTROLLER, 1)})
    assert ask([job_of(make_job, "1")]).unreachable == (
        "squeue did not reach the controller: Unable to contact slurm controller (connect failure)"
    )
    commands({"squeue": ("", NO_CONFIGURATION, 1)})
    assert ask([job_of(make_job, "1")]).unreachable == "squeue failed: Could not establish a configuration source"


def test_without_slurm_the_answer_says_so(commands: Commands, make_job: MakeJob) -> None:
    commands({})
    assert (ask([job_of(make_job, "1")]).unreachable or "").startswith("squeue is not on the path")
    assert ask([]).unreachable is None


def test_a_command_that_hangs_is_left_at_its_deadline(commands: Commands, make_job: MakeJob) -> None:
    folder = commands({"squeue": ("", "", 0)}).parent / "bin"
    (folder / "squeue").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    began = time.monotonic()
    assert str(ask([job_of(make_job, "1")], seconds=0.2).unreachable).startswith("squeue did not answer within")
    assert time.monotonic() - began < 30


def test_the_users_own_defaults_do_not_change_the_question(
    commands: Commands, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = commands({"squeue": ("", "", 0)}).parent / "bin"
    (folder / "squeue").write_text("#!/bin/sh\n/usr/bin/env >&2\nexit 1\n")
    monkeypatch.setenv("SQUEUE_STATES", "PENDING")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    said = ask([job_of(make_job, "1")]).unreachable or ""
    assert "SLURM_TIME_FORMAT=%s" in said
    assert "SQUEUE_" not in said


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Resources", "waits for nodes to become free (Resources)"),
        ("(Priority)", "other jobs come first (Priority)"),
        ("QOSMaxJobsPerUserLimit", "a limit of its quality of service is reached (QOSMaxJobsPerUserLimit)"),
        ("ReqNodeNotAvail, UnavailableNodes:zv1", "a node that it asks for is down, drained or reserved"),
        ("Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions", "nodes that it needs"),
        ("SomethingNew", "SomethingNew"),
        ("None", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_reasons_in_plain_words(reason: str, words: str) -> None:
    assert in_plain_words(reason).startswith(words)
    assert bool(in_plain_words(reason)) == bool(words)
