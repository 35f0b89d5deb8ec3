"""What a user types after `zerostream submit`, on a real cluster: status, logs, cancel, resubmit, jobs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from framework.run_dir import RunDir
from tests.conftest import ROOT
from tests.slurm.local_cluster import why_there_is_none
from tests.slurm.submitted import MAX_STEPS, Bench, Submitted, slow

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_there_is_none()), reason=why_there_is_none()),
]
FOLLOW_SECONDS = 300


def of_these_tests(bench: Bench) -> dict[str, Any]:
    """A profile that keeps to the nodes which no test takes away."""
    return {"exclude": bench.all_but(*bench.cluster.nodes[:4])}


def ask(bench: Bench, *arguments: object, expect: int = 0) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(bench.zerostream(*map(str, arguments), "--json", expect=expect).stdout)
    return said


@contextmanager
def following(run: Submitted, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``zerostream logs -f`` beside the test."""
    with out.open("wb") as log, out.with_suffix(".remarks").open("wb") as remarks:
        process = subprocess.Popen(
            [sys.executable, "-m", "launch.cli", "logs", "-f", str(run.path)],
            cwd=run.bench.folder,
            env=run.bench.cluster.environment | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=remarks,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def test_a_run_is_seen_cancelled_and_goes_on_with_fewer_nodes(bench: Bench) -> None:
    run = bench.submit("seen", **of_these_tests(bench))
    assert ask(bench, "status", run.path)["state"] in ("queued", "starting", "running")
    run.wait_for_step(6)
    report = ask(bench, "status", run.path)
    assert (report["state"], report["job_id"], report["kind"]) == ("running", run.job_id, "train")
    assert (report["max_steps"], report["ranks"], report["restarts"]) == (MAX_STEPS, 2, 0)
    assert report["step"] >= 6
    assert report["loss"] > 1
    assert report["tokens_per_second"] > 0
    assert 0 < report["seconds_to_limit"] <= 3600
    assert report["seconds_to_end"] > 0
    assert 0 <= report["heartbeat_age_seconds"] < 60
    assert [event["event"] for event in report["history"]] == ["submitted", "started"]
    assert report["partition"] == "batch"
    refused = bench.zerostream("resubmit", run.path, expect=2).stderr
    assert f"is already job {run.job_id} (running)" in refused

    assert "2 ranks on cpu" in bench.zerostream("logs", run.path).stdout
    lines = bench.zerostream("logs", run.path, "--all").stdout.splitlines()
    assert any(line.startswith("[rank 0] step") for line in lines)

    cancelled = ask(bench, "cancel", run.path)["runs"][0]
    assert cancelled["state"] == "cancelled"
    assert cancelled["saved_step"] == cancelled["step"] >= 6
    run.wait_until_gone()
    assert ask(bench, "status", run.path)["state"] == "cancelled"
    assert not run.events("requeued", "followed_up")

    refused = bench.zerostream("resubmit", run.path, "optimizer.lr=1", expect=2).stderr
    assert "optimizer.lr" in refused
    again = ask(bench, "resubmit", run.path, "--nodes", 1)
    assert again["job_id"] != run.job_id
    run.wait_until_finished()
    assert run.problems(bench.golden(), same="sums") == []
    report = ask(bench, "status", run.path)
    assert (report["state"], report["step"], report["restarts"]) == ("finished", MAX_STEPS, 1)
    assert report["bits_per_byte"] > 0
    assert "has finished" in bench.zerostream("resubmit", run.path, expect=2).stderr
    assert "nothing to cancel" in bench.zerostream("cancel", run.path).stderr
    rows = {Path(row["run_dir"]).name: row for row in ask(bench, "jobs", run.path.parent)["jobs"]}
    assert rows["seen"]["state"] == "finished"
    assert rows["seen"]["job_id"] == again["job_id"]


def test_logs_follow_over_a_requeue_until_the_end(bench: Bench, tmp_path: Path) -> None:
    run = bench.submit("followed", **of_these_tests(bench))
    out = tmp_path / "followed.log"
    with following(run, out) as process:
        run.wait("lines", lambda: "step      5/" in out.read_text())
        bench.cluster.run("scontrol", "requeue", run.job_id)
        run.wait_until_finished()
        assert process.wait(FOLLOW_SECONDS) == 0
    text, remarks = out.read_text(), out.with_suffix(".remarks").read_text().splitlines()
    assert text.count("2 ranks on cpu") == 2
    assert f"step     {MAX_STEPS}/{MAX_STEPS}" in text
    assert remarks[-1] == "-- finished"
    assert f"-- start 1: job {run.job_id}, restart 1" in remarks
    first = bench.zerostream("logs", run.path, "--restart", "0").stdout
    assert "going on at step" not in first
    assert "going on at step" in bench.zerostream("logs", run.path).stdout
    assert ask(bench, "status", run.path)["restarts"] == 1


def test_a_job_that_waits_is_cancelled_at_once(bench: Bench) -> None:
    before = bench.cluster.run("sbatch", "--parsable", "--hold", f"--output={bench.folder}/held", "--wrap=true")
    run = bench.submit("waits", sbatch_arguments={"dependency": f"afterany:{before}"}, **of_these_tests(bench))
    report = ask(bench, "status", run.path)
    assert report["state"] == "queued"
    assert report["reason"] == "waits for the job before it to end (Dependency)"
    assert "no logs yet (queued" in bench.zerostream("logs", run.path, expect=2).stderr
    assert ask(bench, "cancel", run.path)["runs"][0]["state"] == "cancelled"
    assert bench.cluster.job_state(run.job_id) in ("", "CANCELLED")
    bench.cluster.run("scancel", before)


def test_cancel_now_does_not_wait_for_a_slow_step(bench: Bench) -> None:
    """The step under way takes longer than SLURM lets a job live that was told to end."""
    slow_step = {"ZEROSTREAM_FAILPOINTS": "forward@6#0=sleep:600"}
    run = bench.submit("now", environment=slow_step, **of_these_tests(bench))
    run.wait_for_step(5)
    ended = ask(bench, "cancel", run.path, "--now")["runs"][0]
    assert ended["state"] == "cancelled"
    assert ended["saved_step"] == 4
    assert not run.events("requeued", "followed_up")


def test_without_slurm_the_run_directory_tells(bench: Bench, tmp_path: Path) -> None:
    run = bench.submit("alone", environment=slow(5, 16, 5.0), **of_these_tests(bench))
    run.wait_for_step(5)
    environment = bench.cluster.environment | {"PYTHONPATH": str(ROOT), "SLURM_CONF": str(tmp_path / "none.conf")}
    began = time.monotonic()
    said = subprocess.run(
        [sys.executable, "-m", "launch.cli", "status", str(run.path)],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert time.monotonic() - began < 55  # squeue itself would try for a minute
    assert "running: by its heartbeats; SLURM cannot be asked" in said
    assert f"of {MAX_STEPS}" in said
    bench.zerostream("cancel", run.path)
    assert RunDir(run.path).checkpoint_steps()[-1] >= 5
