"""Whatever happens to a run on a real cluster, it ends as the undisturbed one does: same sequences, same digits, one curve."""

from __future__ import annotations

import os
import signal

import pytest

from tests.slurm.local_cluster import local_cluster, why_no_namespaces, why_there_is_none
from tests.slurm.submitted import Bench, Submitted, slow

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_there_is_none()), reason=why_there_is_none()),
]

DISTURBED_AT = 6  # the run takes its time around this step, so that a disturbance finds it at work


def judge(run: Submitted, *, starts: int = 2) -> None:
    """It has ended as the golden run has, after so many starts at least."""
    run.wait_until_finished()
    assert run.problems(run.bench.golden()) == [], run.report()
    assert run.starts() >= starts, run.report()
    assert run.events()[-1].event == "ended", run.report()


def test_undisturbed(bench: Bench) -> None:
    run = bench.submit("undisturbed", environment={})
    judge(run, starts=1)
    assert run.starts() == 1


def test_preempted_by_a_higher_partition(bench: Bench) -> None:
    run = bench.submit("preempted", exclude=bench.cluster.nodes[2:])
    run.wait_for_step(DISTURBED_AT)
    bench.cluster.run("srun", "--partition=urgent", "--exclusive", f"--nodelist={bench.cluster.nodes[1]}", "true")
    judge(run)


def test_time_limit(bench: Bench) -> None:
    # SLURM looks at its limits twice a minute, and may signal a minute early.
    run = bench.submit("limit", time_limit="00:02:00", signal_lead_seconds=25, environment=slow(4, 14, 10.0))
    judge(run)


def test_scontrol_requeue(bench: Bench) -> None:
    run = bench.submit("requeue")
    run.wait_for_step(DISTURBED_AT)
    bench.cluster.run("scontrol", "requeue", run.job_id)
    judge(run)


def test_scancel_signal(bench: Bench) -> None:
    run = bench.submit("signal")
    run.wait_for_step(DISTURBED_AT)
    bench.cluster.run("scancel", "--signal=USR2", run.job_id)
    run.wait_for_start(2)
    run.wait_for_step(DISTURBED_AT + 4)
    bench.cluster.run("scancel", "--signal=TERM", "--full", run.job_id)
    run.wait_for_start(3)
    judge(run)


def test_slurmd_killed(bench: Bench) -> None:
    """Of the second node: its ranks live on and lose nothing but their node's daemon, until SLURM calls the node down."""
    run = bench.submit("slurmd", environment=slow(5, 16, 4.0))
    run.wait_for_step(DISTURBED_AT)
    second = run.events("started")[0].nodes[1]
    os.kill(bench.cluster.slurmd_pid(second), signal.SIGKILL)
    run.wait_for_start(2)
    assert second not in run.events("started")[1].nodes
    judge(run)


def test_node_dies(bench: Bench) -> None:
    """The first one, with its daemon, batch script, agent and ranks all at once, as when the power fails."""
    run = bench.submit("node")
    run.wait_for_step(DISTURBED_AT)
    first = run.events("started")[0].nodes[0]
    os.kill(bench.cluster.slurmd_pid(first), signal.SIGKILL)
    bench.cluster.kill_steps(first)
    for process in run.processes(""):
        if process.node == first:
            process.kill()
    run.wait_for_start(2)
    assert first not in run.events("started")[1].nodes
    judge(run)


def test_agent_killed(bench: Bench) -> None:
    run = bench.submit("agent")
    run.wait_for_step(DISTURBED_AT)
    second = run.events("started")[0].nodes[1]
    [agent] = [each for each in run.processes("-m launch.slurm.node ") if each.node == second]
    agent.kill()
    judge(run)


def test_batch_script_killed(bench: Bench) -> None:
    run = bench.submit("batch")
    run.wait_for_step(DISTURBED_AT)
    [script] = run.processes("slurm_script")
    script.kill()
    judge(run)


def test_no_requeue_allowed(bench: Bench) -> None:
    run = bench.submit("follow-up", requeue=False)
    run.wait_for_step(DISTURBED_AT)
    bench.cluster.run("scancel", "--signal=USR2", run.job_id)
    judge(run)
    assert len({event.job_id for event in run.events("started")}) == 2
    assert [event.event for event in run.events("followed_up", "requeued")] == ["followed_up"]


@pytest.mark.skipif(bool(why_no_namespaces()), reason=why_no_namespaces())
def test_node_cut_off(bench: Bench) -> None:
    run = bench.submit("cut")
    run.wait_for_step(DISTURBED_AT)
    second = run.events("started")[0].nodes[1]
    local_cluster("cut", "--name", bench.cluster.name, second)
    run.wait_for_start(2)
    assert second not in run.events("started")[1].nodes
    judge(run)
