"""A real SLURM on this machine comes up, runs jobs, loses and regains nodes, and leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.local_cluster import LocalCluster, local_cluster, wait_for, why_no_namespaces, why_there_is_none

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(why_there_is_none()), reason=why_there_is_none())]

NAME = f"t{os.getpid():x}x"  # nobody else's, should tests run twice at the same time


@pytest.fixture(scope="module")
def small() -> Iterator[LocalCluster]:
    """Two nodes that share this machine's network."""
    with LocalCluster(NAME, 2) as cluster:
        yield cluster


def processes_of(cluster: LocalCluster) -> list[Path]:
    """What carries its mark, or runs inside one of its jobs."""
    marks = {
        f"ZEROSTREAM_LOCAL_CLUSTER={cluster.state['state_dir']}".encode(),
        f"IN_JOB_OF={cluster.name}".encode(),
    }
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if marks & set((entry / "environ").read_bytes().split(b"\0")):
                found.append(entry)
        except OSError:  # it has just ended
            continue
    return found


def test_down_leaves_nothing(tmp_path: Path) -> None:
    hosts = Path("/etc/hosts").read_text().splitlines()
    with LocalCluster(f"{NAME}z", 1) as cluster:
        state_dir = Path(cluster.state["state_dir"])
        assert f"127.0.0.1 {cluster.nodes[0]}" in Path("/etc/hosts").read_text().splitlines()
        script = tmp_path / "job.sh"
        script.write_text(f"#!/bin/bash\nexport IN_JOB_OF={cluster.name}\nsetsid sleep 600 &\nsrun sleep 600\n")
        job_id = cluster.run("sbatch", "--parsable", f"--output={tmp_path}/out", script)
        wait_for("the job runs", lambda: cluster.job_state(job_id) == "RUNNING", seconds=30)
        wait_for("its processes run", lambda: len(processes_of(cluster)) >= 7, seconds=30)
    assert processes_of(cluster) == []
    assert not state_dir.exists()
    assert Path("/etc/hosts").read_text().splitlines() == hosts
    assert "not there" in local_cluster("down", "--name", cluster.name).stdout
    assert "no cluster" in local_cluster("status", "--name", cluster.name, expect=1).stdout


def test_a_job_runs_on_all_nodes(small: LocalCluster) -> None:
    said = small.run(
        "srun", "--nodes=2", "--ntasks=2", "sh", "-c", "echo $SLURMD_NODENAME; getent hosts $SLURMD_NODENAME"
    )
    assert sorted(line for line in said.splitlines() if " " not in line) == small.nodes
    assert sorted(line.split()[1] for line in said.splitlines() if " " in line) == small.nodes


def test_up_is_repeated_without_harm_and_starts_what_is_missing(small: LocalCluster) -> None:
    before = small.status()
    local_cluster("up", "--name", NAME, "--nodes", "2")
    assert small.status() == before
    os.kill(small.slurmd_pid(small.nodes[1]), signal.SIGKILL)
    local_cluster("up", "--name", NAME)
    after = small.status()
    assert after["ready"]
    assert after["nodes"][0] == before["nodes"][0]
    assert after["nodes"][1]["slurmd_pid"] not in (None, before["nodes"][1]["slurmd_pid"])
    assert small.run("srun", f"--nodelist={small.nodes[1]}", "echo", "here") == "here"


def test_the_urgent_partition_takes_nodes_from_the_other(small: LocalCluster, tmp_path: Path) -> None:
    log = tmp_path / "out"
    wrapped = "--wrap=trap 'echo told; exit 0' TERM; echo start; sleep 600 & wait"
    options = ("--parsable", "--exclusive", f"--nodelist={small.nodes[0]}", "--open-mode=append", f"--output={log}")
    victim = small.run("sbatch", *options, wrapped)
    wait_for("the victim runs", lambda: log.exists() and "start" in log.read_text(), seconds=30)
    small.run("srun", "--partition=urgent", "--exclusive", f"--nodelist={small.nodes[0]}", "true")
    expected = ["start", "told", "start"]
    wait_for("it runs again", lambda: re.findall("^(?:start|told)$", log.read_text(), re.M) == expected, seconds=60)
    assert small.run("scontrol", "show", "job", victim).count("Restarts=1") == 1
    small.run("scancel", victim)


@pytest.mark.skipif(bool(why_no_namespaces()), reason=why_no_namespaces())
def test_a_node_with_a_network_of_its_own_is_cut_off_and_comes_back() -> None:
    with LocalCluster(f"{NAME}n", 2, namespaces=True) as cluster:
        first, second = cluster.state["nodes"]
        assert sorted(cluster.run("srun", "--nodes=2", "hostname").split()) == cluster.nodes
        address = (second["address"], second["port"])
        socket.create_connection(address, timeout=10).close()
        local_cluster("cut", "--name", cluster.name, second["name"])
        assert [node["connected"] for node in cluster.status()["nodes"]] == [True, False]
        with pytest.raises(OSError):  # noqa: PT011  no route to it, or no answer
            socket.create_connection(address, timeout=2)
        socket.create_connection((first["address"], first["port"]), timeout=10).close()
        local_cluster("heal", "--name", cluster.name, second["name"])
        assert cluster.run("srun", f"--nodelist={second['name']}", "hostname") == second["name"]
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, timeout=10, check=True).stdout
    assert cluster.name not in links
    assert not Path("/run/netns", second["name"]).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("up", "--name", NAME, "--nodes", "3"), "with --nodes 2"),
        (("up", "--name", NAME, "--network-namespaces"), "--network-namespaces False"),
        (("up", "--name", f"{NAME}y", "--nodes", "0"), "take 1 to 64"),
        (("up", "--name", "Not-A-Name"), "small letters and digits"),
        (("up", "--name", f"{NAME}y", "--state-dir", "/etc"), "take another --state-dir"),
        (("cut", "--name", NAME, f"{NAME}1"), "--network-namespaces"),
        (("env", "--name", f"{NAME}y"), "slurm/local-cluster up"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_remedy(
    small: LocalCluster, arguments: tuple[str, ...], words: str
) -> None:
    refused = local_cluster(*arguments, expect=2)
    assert words in refused.stderr
    assert "To fix it" in refused.stderr
    assert small.status()["ready"]


def test_names_of_another_cluster_are_left_alone(small: LocalCluster) -> None:
    hosts = Path("/etc/hosts").read_text()
    refused = local_cluster("up", "--name", NAME, "--state-dir", f"/var/tmp/{NAME}-other", expect=2)
    assert "another --name" in refused.stderr
    assert Path("/etc/hosts").read_text() == hosts
    assert not Path(f"/var/tmp/{NAME}-other").exists()
