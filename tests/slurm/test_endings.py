"""Runs that must not go on: cancelled ones, and those whose starts no longer advance. Nothing is retried for ever."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from framework.run_dir import RunDir
from tests.slurm.local_cluster import why_no_namespaces, why_there_is_none
from tests.slurm.submitted import Bench, Submitted

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_there_is_none()), reason=why_there_is_none()),
]


def kinds(run: Submitted) -> list[str]:
    return [event.event for event in run.events()]


@pytest.mark.parametrize("moment", ["in the queue", "as soon as it runs", "before its first step", "at work"])
def test_a_cancel_is_heard(bench: Bench, moment: str) -> None:
    name = f"cancelled-{moment.replace(' ', '-')}"
    later = {"begin": "now+1hour"} if moment == "in the queue" else {}
    run = bench.submit(name, sbatch_arguments=later)
    if moment == "as soon as it runs":
        run.wait("running", lambda: bench.cluster.job_state(run.job_id) == "RUNNING")
    elif moment == "before its first step":
        run.wait("ranks", lambda: len({each.node for each in run.processes("-m launch.slurm.node ")}) == 2)
    elif moment == "at work":
        run.wait_for_step(6)
    bench.cluster.run("scancel", run.job_id)
    run.wait_until_gone()
    run.wait("no process left", lambda: not run.processes(""), seconds=60)
    assert bench.cluster.job_state(run.job_id) in ("", "CANCELLED"), run.report()
    assert not run.events("requeued", "followed_up", "gave_up"), run.report()
    assert run.starts() <= 1
    if moment == "at work":
        assert kinds(run) == ["submitted", "started", "cancelled"], run.report()
        assert RunDir(run.path).checkpoint_steps()[-1] >= 6, run.report()  # it saved what it had


@pytest.mark.parametrize("fault", ["import=raise", "import=kill", "forward@3#1=kill"])
def test_starts_that_do_not_advance_are_given_up(bench: Bench, fault: str) -> None:
    run = bench.submit(
        f"in-vain-{fault.partition('=')[0].partition('@')[0]}-{fault.partition('=')[2]}",
        environment={"ZEROSTREAM_FAILPOINTS": fault},
        max_starts_without_progress=2,
    )
    run.wait_until_gone()
    run.wait("an end in the history", lambda: run.events("gave_up"), seconds=60)
    assert kinds(run) == ["submitted", "started", "requeued", "started", "gave_up"], run.report()
    assert "2" in run.events("gave_up")[0].reason
    assert not RunDir(run.path).result.exists()


def test_a_start_that_is_refused_is_not_repeated(bench: Bench) -> None:
    """What was there when the run was submitted is gone when it starts."""
    shards = bench.folder / "refused-shards"
    shutil.copytree(bench.shards, shards)
    run = bench.submit("refused 100%j", f"data.shards_dir={shards}", setup=[f"rm -r {shards}"])
    run.wait_until_gone()
    assert (run.job_dir.all_logs / f"{run.job_id}.out").exists()  # SLURM's own words; its patterns begin with % as well
    assert kinds(run) == ["submitted", "started", "ended"], run.report()
    assert run.events("ended")[0].exit_code == 2
    assert str(shards) in run.events("ended")[0].reason
    assert str(shards) in bench.zerostream("status", run.path).stdout


def test_a_run_stops_where_it_should_and_goes_on_when_it_is_asked_to(bench: Bench) -> None:
    run = bench.submit("stops", "train.stop_at_step=6", environment={})
    run.wait_until_gone()
    assert kinds(run) == ["submitted", "started", "stopped"], run.report()
    assert "stopped: saved at step 6" in bench.zerostream("status", run.path).stdout
    bench.zerostream("resubmit", run.path)
    run.wait_until_finished()
    assert run.problems(bench.golden()) == []


@pytest.fixture
def nodes_apart(bench: Bench) -> Iterator[list[str]]:
    """Two nodes with a firewall between them that lets SLURM's ports through and no others."""
    nodes = bench.cluster.nodes[:2]
    rule = ("ipproto", "tcp", "sport", "32768-60999", "dport", "32768-60999", "prohibit")
    for node in nodes:
        bench.cluster.run("ip", "-n", node, "rule", "add", *rule)
    yield nodes
    for node in nodes:
        bench.cluster.run("ip", "-n", node, "rule", "delete", *rule)


@pytest.mark.skipif(bool(why_no_namespaces()), reason=why_no_namespaces())
def test_nodes_that_do_not_meet_say_where_they_looked(bench: Bench, nodes_apart: list[str]) -> None:
    run = bench.submit(
        "apart",
        rendezvous_timeout_seconds=5,
        max_starts_without_progress=1,
        environment={},
        exclude=bench.cluster.nodes[2:],
    )
    run.wait_until_gone()
    first, second = run.events("started")[0].nodes
    port = json.loads(run.job_dir.rendezvous(run.job_id, 0).read_text())["port"]
    said = run.job_dir.node_log(run.job_id, 0, 1).read_text()
    assert f"node {second} could not reach host {first} port {port} within 5 s" in said, run.report()
    assert "To fix it" in said
    assert kinds(run)[-1] == "gave_up", run.report()
