"""Runs that must not go on: cancelled ones, and those whose starts no longer advance. Nothing is retried for ever."""

from __future__ import annotations

from typing import Any

import pytest

from framework.run_dir import RunDir
from tests.slurm.local_cluster import why_no_namespaces, why_there_is_none
from tests.slurm.submitted import ON_ITS_WAY, Bench, Submitted

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_there_is_none()), reason=why_there_is_none()),
]


def of_the_first_nodes(bench: Bench) -> dict[str, Any]:
    """A profile that keeps to the nodes which no test takes away."""
    return {"exclude": bench.all_but(*bench.cluster.nodes[:4])}


def kinds(run: Submitted) -> list[str]:
    return [event.event for event in run.events()]


@pytest.mark.parametrize("moment", ["in the queue", "as soon as it runs", "before its first step", "at work"])
def test_a_cancel_is_heard(bench: Bench, moment: str) -> None:
    name = f"cancelled-{moment.replace(' ', '-')}"
    later = {"begin": "now+1hour"} if moment == "in the queue" else {}
    run = bench.submit(name, sbatch_arguments=later, **of_the_first_nodes(bench))
    if moment == "as soon as it runs":
        run.wait("running", lambda: bench.cluster.job_state(run.job_id) == "RUNNING")
    elif moment == "before its first step":
        run.wait("ranks", lambda: len(run.processes("launch.slurm.node ")) == 2)
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
        **of_the_first_nodes(bench),
    )
    run.wait_until_gone()
    run.wait("an end in the history", lambda: run.events("gave_up"), seconds=60)
    assert kinds(run) == ["submitted", "started", "requeued", "started", "gave_up"], run.report()
    assert "2" in run.events("gave_up")[0].reason
    assert not RunDir(run.path).result.exists()


def test_a_start_that_is_refused_is_not_repeated(bench: Bench) -> None:
    """What was there when the run was submitted is gone when it starts."""
    run = bench.submit("refused", setup=[f"mv {bench.folder}/refused {bench.folder}/gone"], **of_the_first_nodes(bench))
    run.wait_until_gone()
    assert "requeued" not in kinds(run), run.report()


@pytest.mark.skipif(bool(why_no_namespaces()), reason=why_no_namespaces())
def test_nodes_that_do_not_meet_say_where_they_looked(bench: Bench) -> None:
    """The first node listens where the second one cannot reach it."""
    run = bench.submit(
        "apart",
        network_interface="lo",
        rendezvous_timeout_seconds=5,
        max_starts_without_progress=1,
        **of_the_first_nodes(bench),
    )
    run.wait_until_gone()
    first = run.events("started")[0].nodes[0]
    said = "\n".join(path.read_text() for path in run.job_dir.starts()[0].glob("node-*.out"))
    assert f"could not reach host {first} port " in said, run.report()
    assert "To fix it" in said
    assert run.events()[-1].event == "gave_up", run.report()
    assert ON_ITS_WAY
