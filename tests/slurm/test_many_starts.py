"""Runs of many starts: requeued again and again, and on another number of nodes each time."""

from __future__ import annotations

import pytest

from tests.slurm.local_cluster import why_there_is_none
from tests.slurm.submitted import Bench, slow

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_there_is_none()), reason=why_there_is_none()),
]

CYCLES, STEPS = 20, 64


def test_twenty_requeues_in_a_row(bench: Bench) -> None:
    """Every fifth by a job of a higher partition, the others by hand; with both ranks on one node."""
    overrides = (f"train.max_steps={STEPS}", "train.eval_every_steps=32", "checkpoint.every_steps=32")
    first = bench.cluster.nodes[0]
    run = bench.submit(
        "twenty",
        *overrides,
        nodes=1,
        ranks_per_node=2,
        environment=slow(1, STEPS - 4, 0.7),
        exclude=bench.cluster.nodes[1:],
    )
    for cycle in range(1, CYCLES + 1):
        run.wait_for_start(cycle)
        run.wait_for_step(run.step() + 1)
        if cycle % 5:
            bench.cluster.run("scontrol", "requeue", run.job_id)
        else:
            bench.cluster.run("srun", "--partition=urgent", "--exclusive", f"--nodelist={first}", "true")
    run.wait_until_finished()
    assert run.starts() == CYCLES + 1, run.report()
    assert run.problems(bench.golden(*overrides)) == [], run.report()
    assert not run.events("gave_up", "followed_up")


def test_from_two_nodes_to_one_and_back(bench: Bench) -> None:
    for nodes, step in ((2, 4), (1, 9)):
        run = bench.submit("elastic", nodes=nodes, environment=slow(1, 20, 1.0))
        run.wait_for_step(step)
        bench.cluster.run("scancel", run.job_id)
        run.wait_until_gone()
    run = bench.submit("elastic", nodes=2, environment={})
    run.wait_until_finished()
    assert [len(event.nodes) for event in run.events("started")] == [2, 1, 2]
    assert run.problems(bench.golden(), same="close") == [], run.report()
