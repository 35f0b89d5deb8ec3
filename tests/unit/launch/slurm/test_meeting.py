"""Agents that meet over a real store: each node is a thread here, with connections of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from framework.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_REFUSED
from launch.rendezvous import Endpoint
from launch.slurm.context import Start
from launch.slurm.job import Job, JobDir
from launch.slurm.meeting import Meeting, join, open_meeting
from tests.unit.launch.slurm.conftest import MakeJob

T = TypeVar("T")
START = Start("7", 0)
NAMES = ("n1", "n2", "n3")


def on_all_nodes(path: Path, work: Callable[[int, Meeting], T], nodes: int = 3) -> list[T | BaseException]:
    """What ``work`` gives or raises on each node."""
    results: list[T | BaseException | None] = [None] * nodes

    def run(number: int) -> None:
        try:
            if number == 0:
                meeting = open_meeting(path, Endpoint("localhost", "127.0.0.1", 0), NAMES[:nodes], 60)
            else:
                meeting = join(path, number, NAMES[:nodes], 60)
            with meeting:
                results[number] = work(number, meeting)
        except BaseException as error:  # shown by the test
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(nodes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert all(result is not None for result in results), results
    return results  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("codes", "agreed"),
    [
        ((0, 0, 0), EXIT_FINISHED),
        ((75, 75, 75), EXIT_PREEMPTED),
        ((0, 75, 75), EXIT_PREEMPTED),
        ((75, 1, 75), EXIT_FAILED),
        ((1, 75, 75), EXIT_FAILED),
        ((1, 2, 75), EXIT_REFUSED),
        ((0, 0, 1), EXIT_FAILED),
    ],
)
def test_all_nodes_end_with_the_code_that_explains_most(tmp_path: Path, codes: tuple[int, ...], agreed: int) -> None:
    assert on_all_nodes(tmp_path / "7-0.json", lambda node, meeting: meeting.agree(codes[node])) == [agreed] * 3


def test_one_node_agrees_with_itself(tmp_path: Path) -> None:
    assert on_all_nodes(tmp_path / "7-0.json", lambda _, meeting: meeting.agree(75), nodes=1) == [75]


def test_the_port_is_one_that_the_first_node_holds(tmp_path: Path) -> None:
    ports = on_all_nodes(tmp_path / "7-0.json", lambda _, meeting: meeting.agree(0) or meeting.port)
    assert ports == [json.loads((tmp_path / "7-0.json").read_text())["port"]] * 3


def test_nobody_starts_before_the_first_node_says_so(tmp_path: Path) -> None:
    order: list[str] = []

    def work(node: int, meeting: Meeting) -> int:
        if node == 0:
            order.append("first")
        meeting.wait_for_go()
        order.append(f"go {node}")
        return meeting.agree(0)

    assert on_all_nodes(tmp_path / "7-0.json", work) == [0, 0, 0]
    assert order[0] == "first"
    assert sorted(order[1:]) == ["go 0", "go 1", "go 2"]


def test_a_failure_is_heard_by_other_nodes_while_their_ranks_run(tmp_path: Path) -> None:
    heard: list[str | None] = []
    failed = threading.Event()

    def work(node: int, meeting: Meeting) -> int:
        if node == 2:
            code = meeting.agree(EXIT_FAILED)
            return code
        ask = meeting.failure_elsewhere()
        for _ in range(600):
            reason = ask()
            if reason is not None:
                break
            failed.wait(0.1)
        heard.append(reason)
        return meeting.agree(EXIT_PREEMPTED)

    assert on_all_nodes(tmp_path / "7-0.json", work) == [EXIT_FAILED] * 3
    assert heard == ["ranks of node n3 have failed"] * 2


# --- Health ---


def health_of(
    tmp_path: Path, job: Job, says: list[str], look: Callable[[int, Job], Job] = lambda _, job: job
) -> list[bool | BaseException]:
    job_dir = JobDir(tmp_path / "run")
    job_dir.run.mkdir(exist_ok=True)

    def work(node: int, meeting: Meeting) -> bool:
        is_healthy = meeting.check_health(look(node, job), job_dir, START, says.append)
        meeting.agree(0)
        return is_healthy

    return on_all_nodes(tmp_path / "7-0.json", work)


def test_healthy_nodes_may_start_and_leave_their_reports(tmp_path: Path, make_job: MakeJob) -> None:
    says: list[str] = []
    assert health_of(tmp_path, make_job(), says) == [True] * 3
    assert says == []
    reports = [json.loads(JobDir(tmp_path / "run").health("7", 0, node).read_text()) for node in range(3)]
    assert [report["node"] for report in reports] == list(NAMES)
    assert all(report["problems"] == [] for report in reports)
    assert all(report["megabytes_per_second"] > 0 for report in reports[1:])


def test_one_bad_node_keeps_all_from_starting_and_is_named(tmp_path: Path, make_job: MakeJob) -> None:
    says: list[str] = []
    bad = make_job({"scratch": str(tmp_path / "away")})
    assert health_of(tmp_path, make_job(), says, lambda node, job: bad if node == 1 else job) == [False] * 3
    assert says == [f"node n2 is not healthy: {tmp_path}/away is not there"]
    report = json.loads(JobDir(tmp_path / "run").health("7", 0, 1).read_text())
    assert report["problems"] == [f"{tmp_path}/away is not there"]


def test_a_slow_link_is_found(tmp_path: Path, make_job: MakeJob) -> None:
    says: list[str] = []
    job = make_job({"minimum_megabytes_per_second": 1e9})
    assert health_of(tmp_path, job, says) == [False] * 3
    assert [line.split(":")[0] for line in says] == ["node n2 is not healthy", "node n3 is not healthy"]


def test_a_node_that_hangs_is_the_one_that_is_named(tmp_path: Path, make_job: MakeJob) -> None:
    job_dir = JobDir(tmp_path / "run")
    job_dir.run.mkdir()
    says: list[str] = []
    job = make_job({"health_timeout_seconds": 2})
    done = threading.Event()

    def work(node: int, meeting: Meeting) -> bool:
        if node == 1:  # hangs before it has looked at anything
            done.wait(60)
            return False
        try:
            return meeting.check_health(job, job_dir, START, says.append)
        finally:
            if node == 2:
                done.set()
            else:
                done.wait(60)

    assert on_all_nodes(tmp_path / "7-0.json", work) == [False] * 3
    assert says == ["node n2 is not healthy: did not report within 2 s"]
