"""What the thread beside an agent does, with real processes in the place of ranks and batch scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from launch.slurm import watcher
from launch.slurm.context import BATCH_PROCESS, Start, announce
from launch.slurm.node import Node
from launch.slurm.watcher import BatchScript, Watcher
from tests.unit.launch.slurm.conftest import Commands, MakeRun

SLEEPER = "import time\ntime.sleep(600)\n"
SHOW = "JobId=12 JobState={} Reason={} Restarts=0 PreemptTime=None NodeList=n1\n"


@pytest.fixture
def batch_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like slurmd's batch script, and is known to agents."""
    path = tmp_path / "slurm_script"
    path.write_text(SLEEPER)
    process = subprocess.Popen([sys.executable, str(path)])
    monkeypatch.setenv(BATCH_PROCESS, str(process.pid))
    while "slurm_script" not in " ".join(psutil.Process(process.pid).cmdline()):
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def rank() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SLEEPER])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def node(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Node]:
    """The only node of a run's first start; its clock is fast."""
    run = make_run()
    run.history.append("started", job_id="12")
    announce(run, Start("12", 0))
    monkeypatch.setattr(watcher, "_WATCH_SECONDS", 0.05)
    monkeypatch.setattr(watcher, "_SECONDS_TO_SIGKILL", 0.5)
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    return lambda: Node(run, run.read(), Start("12", 0))


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- The batch script, seen from an agent ---


def test_a_batch_script_that_is_killed_has_gone(batch_script: subprocess.Popen[bytes], commands: Commands) -> None:
    commands({"scontrol": ("", "", 0)})
    seen = BatchScript()
    assert (seen.is_known, seen.has_gone) == (True, False)
    batch_script.kill()
    until(lambda: seen.has_gone)  # a zombie, as slurmd's may be for a moment
    batch_script.wait()
    assert seen.has_gone


def test_what_cannot_be_seen_is_taken_for_alive(
    batch_script: subprocess.Popen[bytes], commands: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands({"sinfo": ("", "", 0)})  # no scontrol, as in a container
    unseen = [BatchScript()]
    commands({"scontrol": ("", "", 0)})
    for value in (str(os.getpid()), "4194000", "", "x"):  # another process of the container, none, unset
        monkeypatch.setenv(BATCH_PROCESS, value)
        unseen.append(BatchScript())
    batch_script.kill()
    batch_script.wait()
    assert [(each.is_known, each.has_gone) for each in unseen] == [(False, False)] * len(unseen)


# --- While ranks run ---


def test_a_killed_batch_script_is_answered_for(
    batch_script: subprocess.Popen[bytes], commands: Commands, node: Callable[[], Node]
) -> None:
    calls = commands({"scontrol": (SHOW.format("COMPLETING", "JobLaunchFailure"), "", 0)})
    mine = node()
    with Watcher(mine, lambda: None):
        batch_script.kill()
        until(lambda: mine.job_dir.history.read()[-1].event == "requeued")
    assert "scontrol requeue 12" in calls.read_text()


@pytest.mark.parametrize(
    ("state", "reason", "event"),
    [
        ("COMPLETING", "TimeLimit", "requeued"),
        ("COMPLETING", "None", "started"),  # scancel
        ("RUNNING", "None", "started"),  # a user's signal: the ranks save, and the batch script asks
    ],
)
def test_a_time_limit_is_answered_for_before_slurm_kills(
    batch_script: subprocess.Popen[bytes],
    commands: Commands,
    node: Callable[[], Node],
    state: str,
    reason: str,
    event: str,
) -> None:
    calls = commands({"scontrol": (SHOW.format(state, reason), "", 0)})
    mine = node()
    with Watcher(mine, lambda: None):
        mine.note_signal(signal.SIGTERM)
        until(lambda: calls.exists() and "show job" in calls.read_text())
        if event == "requeued":
            until(lambda: mine.job_dir.history.read()[-1].event == "requeued")
    assert mine.job_dir.history.read()[-1].event == event
    assert mine.job_dir.signals("12", 0).read_text() == "SIGTERM\n"


def test_ranks_end_when_others_have_failed(node: Callable[[], Node], rank: subprocess.Popen[bytes]) -> None:
    mine = node()
    with Watcher(mine, lambda: "ranks of node n2 have failed"):
        assert rank.wait(60) == -signal.SIGTERM
    assert "ranks of node n2 have failed" in mine.job_dir.node_log("12", 0, 0).read_text()


def test_a_rank_that_does_not_listen_is_killed(
    node: Callable[[], Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"
    deaf = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen({str(ready)!r}, 'w').close()\n{SLEEPER}"
    process = subprocess.Popen([sys.executable, "-c", deaf])
    until(ready.exists)
    with Watcher(node(), lambda: "ranks of node n2 have failed"):
        assert process.wait(60) == -signal.SIGKILL


def test_ranks_end_when_a_newer_start_was_announced(node: Callable[[], Node], rank: subprocess.Popen[bytes]) -> None:
    mine = node()
    with Watcher(mine, lambda: None):
        time.sleep(0.2)
        assert rank.poll() is None
        announce(mine.job_dir, Start("12", 1))
        assert rank.wait(60) == -signal.SIGTERM
    assert "a newer start of this run was announced (12-1)" in mine.job_dir.node_log("12", 0, 0).read_text()
