from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from launch.slurm.job import JobDir
from tests.unit.launch.slurm.conftest import SCRIPT

MakeRun = Callable[..., JobDir]
RunCli = Callable[..., Any]
Commands = Callable[..., Path]
ROOT = Path(__file__).parents[4]
WITHIN_SECONDS = 60


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


@pytest.fixture
def run(make_run: MakeRun, commands: Commands) -> JobDir:
    """Two starts of two ranks."""
    commands({"squeue": ("", "", 0)})
    job_dir = make_run(step=4)
    for restart in (0, 1):
        job_dir.history.append("started", job_id="12", restart=restart)
        write(job_dir.batch_log("12", restart), f"batch of {restart}\nstep 1\n")
        for number in (0, 1):
            write(job_dir.rank_log("12", restart, number), f"rank {number} of start {restart}\n")
        write(job_dir.node_log("12", restart, 1), "agent\nno line end")
    return job_dir


def test_the_newest_start_is_shown(run: JobDir, run_cli: RunCli) -> None:
    assert run_cli("logs", run.run).out == "batch of 1\nstep 1\n"
    assert run_cli("logs", run.run, "--restart", 0).out == "batch of 0\nstep 1\n"


def test_all_ranks_and_agents_have_their_names(run: JobDir, run_cli: RunCli) -> None:
    assert run_cli("logs", run.run, "--all").out.splitlines() == [
        "[node 1] agent",
        "[rank 0] rank 0 of start 1",
        "[rank 1] rank 1 of start 1",
        "[node 1] no line end",
    ]


def test_starts_count_over_jobs(run: JobDir, run_cli: RunCli) -> None:
    write(run.batch_log("101", 0), "of another job\n")
    assert run_cli("logs", run.run).out == "of another job\n"
    assert run_cli("logs", run.run, "--restart", 2).out == "of another job\n"


def test_a_restart_that_is_not_there_is_refused(run: JobDir, run_cli: RunCli) -> None:
    result = run_cli("logs", run.run, "--restart", 7)
    assert result.code == 2
    assert "0 to 1" in result.last_line


def test_an_array_names_its_tasks(make_run: MakeRun, run_cli: RunCli) -> None:
    sweep = make_run("sweep", tasks=(("seed=1",),))
    result = run_cli("logs", sweep.run)
    assert result.code == 2
    assert "task-000" in result.last_line


def test_a_run_that_waits_has_no_logs_yet(make_run: MakeRun, commands: Commands, run_cli: RunCli) -> None:
    commands({"squeue": (f"12|PENDING|batch|2|1|N/A|N/A||Resources|{SCRIPT}\n", "", 0)})
    result = run_cli("logs", make_run().run)
    assert result.code == 2
    assert "no logs yet (queued: waits for nodes" in result.last_line


@pytest.fixture
def follower(run: JobDir) -> Iterator[tuple[subprocess.Popen[str], Callable[[], str]]]:
    """``zerostream logs -f`` in a process of its own, and its next line."""
    code = "import sys; from launch.cli import main; sys.argv[0] = 'zerostream'; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "logs", "-f", str(run.run)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Ctrl-C is for who sits at a terminal; what a shell starts in the background inherits that it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    lines: Queue[str] = Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    yield process, lambda: lines.get(timeout=WITHIN_SECONDS)
    process.kill()
    process.wait()


def test_following_goes_over_a_requeue_and_ends_with_the_run(
    run: JobDir, follower: tuple[subprocess.Popen[str], Callable[[], str]]
) -> None:
    process, next_line = follower
    run.history.append("requeued", job_id="12", restart=1)
    assert (next_line(), next_line()) == ("batch of 1\n", "step 1\n")
    write(run.batch_log("12", 1), "step 2\nste")
    assert next_line() == "step 2\n"
    write(run.batch_log("12", 1), "p 3\nlast words")
    assert next_line() == "step 3\n"
    write(run.batch_log("12", 2), "went on\n")
    assert (next_line(), next_line()) == ("last words\n", "went on\n")
    run.history.append("ended", job_id="12", restart=2, exit_code=0)
    assert next_line() == ""
    assert process.wait(WITHIN_SECONDS) == 0
    assert process.stderr is not None
    remarks = process.stderr.read().splitlines()
    assert "-- start 2: job 12, restart 2" in remarks
    assert remarks[-1] == "-- finished"


def test_ctrl_c_ends_it_without_a_word(run: JobDir, follower: tuple[subprocess.Popen[str], Callable[[], str]]) -> None:
    process, next_line = follower
    run.history.append("requeued", job_id="12", restart=1)
    assert next_line() == "batch of 1\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(WITHIN_SECONDS) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_a_reader_that_has_enough_is_no_failure(run: JobDir) -> None:
    write(run.batch_log("12", 1), "a line\n" * 100_000)
    code = "import sys; from launch.cli import main; sys.argv[0] = 'zerostream'; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "logs", str(run.run)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"batch of 1\n"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(WITHIN_SECONDS) == 0
