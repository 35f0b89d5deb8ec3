"""Whatever happens to a run on a real cluster, it ends as the undisturbed one does: same sequences, same digits, one curve.

Disturbances are at work side by side, each on a run of its own; those that take nodes away have nodes of their own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.slurm.local_cluster import local_cluster, why_no_namespaces, why_there_is_none
from tests.slurm.submitted import Bench, Submitted, slow

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_there_is_none()), reason=why_there_is_none()),
]

Disturbance = Callable[[Bench], Submitted]
AT_THE_SAME_TIME = 4
DISTURBED_AT = 6  # the run takes its time around this step, so that a disturbance finds it at work
DISTURBANCES: dict[str, Disturbance] = {}


def disturbance(function: Disturbance) -> Disturbance:
    DISTURBANCES[function.__name__] = function
    return function


def nodes_of(bench: Bench, first: int, count: int) -> dict[str, list[str]]:
    """A profile that keeps to these nodes; 0 to 3 belong to all that take none away."""
    return {"exclude": bench.all_but(*bench.cluster.nodes[first : first + count])}


@disturbance
def undisturbed(bench: Bench) -> Submitted:
    run = bench.submit("undisturbed", environment={}, **nodes_of(bench, 0, 4))
    run.wait_until_finished()
    assert run.starts() == 1
    return run


@disturbance
def preempted_by_a_higher_partition(bench: Bench) -> Submitted:
    run = bench.submit("preempted", **nodes_of(bench, 4, 2))
    run.wait_for_step(DISTURBED_AT)
    bench.cluster.run("srun", "--partition=urgent", "--exclusive", f"--nodelist={bench.cluster.nodes[5]}", "true")
    run.wait_until_finished()
    return run


@disturbance
def time_limit(bench: Bench) -> Submitted:
    run = bench.submit(
        "limit", time_limit="00:01:00", signal_lead_seconds=25, environment=slow(4, 12, 6.0), **nodes_of(bench, 0, 4)
    )
    run.wait_until_finished()
    return run


@disturbance
def scontrol_requeue(bench: Bench) -> Submitted:
    run = bench.submit("requeue", **nodes_of(bench, 0, 4))
    run.wait_for_step(DISTURBED_AT)
    bench.cluster.run("scontrol", "requeue", run.job_id)
    run.wait_until_finished()
    return run


@disturbance
def scancel_signal(bench: Bench) -> Submitted:
    run = bench.submit("signal", **nodes_of(bench, 0, 4))
    run.wait_for_step(DISTURBED_AT)
    bench.cluster.run("scancel", "--signal=USR2", run.job_id)
    run.wait_for_start(2)
    run.wait_for_step(DISTURBED_AT + 4)
    bench.cluster.run("scancel", "--signal=TERM", "--full", run.job_id)
    run.wait_for_start(3)
    run.wait_until_finished()
    return run


@disturbance
def slurmd_killed(bench: Bench) -> Submitted:
    """Of the second node: its ranks live on and lose nothing but their node's daemon, until SLURM calls the node down."""
    nodes = nodes_of(bench, 6, 3)
    run = bench.submit("slurmd", environment=slow(5, 16, 4.0), **nodes)
    run.wait_for_step(DISTURBED_AT)
    second = run.events("started")[0].nodes[1]
    os.kill(bench.cluster.slurmd_pid(second), signal.SIGKILL)
    run.wait_for_start(2)
    assert second not in run.events("started")[1].nodes
    run.wait_until_finished()
    bench.cluster.restore(second)
    return run


@disturbance
def node_dies(bench: Bench) -> Submitted:
    """The first one, with its daemon, batch script, agent and ranks all at once, as when the power fails."""
    run = bench.submit("node", environment=slow(5, 16, 4.0), **nodes_of(bench, 9, 3))
    run.wait_for_step(DISTURBED_AT)
    first = run.events("started")[0].nodes[0]
    os.kill(bench.cluster.slurmd_pid(first), signal.SIGKILL)
    bench.cluster.kill_steps(first)
    for process in run.processes(""):
        if process.node == first:
            process.kill()
    run.wait_for_start(2)
    assert first not in run.events("started")[1].nodes
    run.wait_until_finished()
    bench.cluster.restore(first)
    return run


@disturbance
def agent_killed(bench: Bench) -> Submitted:
    run = bench.submit("agent", **nodes_of(bench, 0, 4))
    run.wait_for_step(DISTURBED_AT)
    _, second = run.processes("launch.slurm.node ")
    second.kill()
    run.wait_until_finished()
    return run


@disturbance
def batch_script_killed(bench: Bench) -> Submitted:
    run = bench.submit("batch", **nodes_of(bench, 0, 4))
    run.wait_for_step(DISTURBED_AT)
    [script] = run.processes("slurm_script")
    script.kill()
    run.wait_until_finished()
    return run


@disturbance
def no_requeue_allowed(bench: Bench) -> Submitted:
    run = bench.submit("follow-up", requeue=False, **nodes_of(bench, 0, 4))
    run.wait_for_step(DISTURBED_AT)
    bench.cluster.run("scancel", "--signal=USR2", run.job_id)
    run.wait_until_finished()
    assert len({event.job_id for event in run.events("started")}) == 2
    assert [event.event for event in run.events("followed_up", "requeued")] == ["followed_up"]
    return run


@disturbance
def node_cut_off(bench: Bench) -> Submitted:
    if reason := why_no_namespaces():
        pytest.skip(reason)
    run = bench.submit("cut", environment=slow(5, 16, 4.0), **nodes_of(bench, 12, 3))
    run.wait_for_step(DISTURBED_AT)
    second = run.events("started")[0].nodes[1]
    local_cluster("cut", "--name", bench.cluster.name, second)
    run.wait_for_start(2)
    assert second not in run.events("started")[1].nodes
    run.wait_until_finished()
    local_cluster("heal", "--name", bench.cluster.name, second)
    return run


@pytest.fixture(scope="module")
def disturbed(request: pytest.FixtureRequest, bench: Bench) -> Iterator[dict[str, Future[Submitted]]]:
    """Those of the selected tests, by name, at work at the same time."""
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = [name for name in DISTURBANCES if any(each.get("disturbance") == name for each in parameters)]
    threads = ThreadPoolExecutor(AT_THE_SAME_TIME)
    yield {name: threads.submit(DISTURBANCES[name], bench) for name in wanted}
    threads.shutdown(cancel_futures=True)


@pytest.mark.parametrize("disturbance", DISTURBANCES)
def test_a_run_ends_as_if_nothing_had_happened(
    disturbance: str, disturbed: dict[str, Future[Submitted]], bench: Bench
) -> None:
    golden = bench.golden()
    run = disturbed[disturbance].result()
    assert run.problems(golden) == [], run.report()
    assert disturbance == "undisturbed" or run.starts() >= 2, run.report()
    assert run.events()[-1].event == "ended", run.report()
