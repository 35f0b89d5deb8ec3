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

CYCLES, STEPS = 20, 90


def test_twenty_requeues_in_a_row(bench: Bench) -> None:
    overrides = (f"train.max_steps={STEPS}", "train.eval_every_steps=30", "checkpoint.every_steps=30")
    golden = bench.golden(*overrides)
    run = bench.submit("twenty", *overrides, environment=slow(1, STEPS - 1, 0.7))
    for cycle in range(1, CYCLES + 1):
        run.wait_for_start(cycle)
        before = run.step()
        run.wait_for_step(before + 1)
        bench.cluster.run("scontrol", "requeue", run.job_id)
    run.wait_until_finished()
    assert run.starts() == CYCLES + 1, run.report()
    assert run.problems(golden) == [], run.report()
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
