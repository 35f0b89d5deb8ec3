"""Runs that end before their time: killed, told to stop, out of time, or standing still."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from framework.metrics.records import read_json_lines
from tests.conftest import ROOT
from tests.distributed.conftest import TORCHRUN, RunZerostream
from tests.starts import Zygote

pytestmark = pytest.mark.distributed


def test_a_killed_run_goes_on_and_loses_nothing(tiny_config: Path, tmp_path: Path, zerostream: RunZerostream) -> None:
    common = [
        str(tiny_config),
        "engine.zero_stage=2",
        "checkpoint.every_steps=5",
        "train.max_steps=400",
        "model.dropout=0.1",
    ]
    common += ["train.eval_every_steps=1000", f"run_dir={tmp_path / 'run'}"]
    process = subprocess.Popen(
        [sys.executable, *TORCHRUN, *common],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(lambda: len(read_json_lines(metrics)) > 12, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kill_ranks_of(tmp_path)
    before = read_json_lines(metrics)
    saved = max(int(path.name[5:]) for path in (tmp_path / "run" / "checkpoints").glob("step-????????"))
    assert 5 <= saved <= before[-1]["step"]
    stop = saved + 10
    zerostream("train", *common, f"train.stop_at_step={stop}", "--nproc", "2", expect=75)
    after = read_json_lines(metrics)
    assert [line["step"] for line in after] == list(range(1, stop + 1))
    both = min(len(before), len(after))
    for key in ("batch_digest", "loss", "grad_norm", "tokens", "lr"):
        assert [line[key] for line in after[:both]] == [line[key] for line in before[:both]], key


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_to_the_command_saves_and_asks_to_go_on(
    number: signal.Signals, tiny_config: Path, tmp_path: Path, zygote: Zygote
) -> None:
    run_dir = tmp_path / "run"
    common = [str(tiny_config), "engine.kind=reference", "train.max_steps=2000", "train.eval_every_steps=5000"]
    forked = [zygote.python, "-m", "launch.cli", "train", *common, f"run_dir={run_dir}", "--nproc", "2"]
    command = [sys.executable, *forked[1:]] if number == signal.SIGTERM else forked
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(read_json_lines(run_dir / "metrics.jsonl")) > 3, process)
    second = subprocess.run(forked, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert second.returncode == 2
    assert "another start of this run is alive" in second.stderr.splitlines()[-1]
    process.send_signal(number)
    time.sleep(0.05)
    process.send_signal(number)  # a second one disturbs nothing
    _, said = process.communicate(timeout=600)
    assert process.returncode == 75, said
    last = read_json_lines(run_dir / "metrics.jsonl")[-1]["step"]
    assert f"stopped at step {last} of 2000 ({number.name} was received), saved" in said.splitlines()[-1]
    assert max(path.name for path in (run_dir / "checkpoints").iterdir()) == f"step-{last:08d}"
    assert not (run_dir / "run.lock").exists()
    assert not any((run_dir / name).exists() and any((run_dir / name).iterdir()) for name in ("stacks", "heartbeats"))


def test_a_time_limit_saves_before_it(tiny_config: Path, tmp_path: Path, zerostream: RunZerostream) -> None:
    common = [tiny_config, f"run_dir={tmp_path / 'run'}", "engine.kind=reference", "train.max_steps=100000"]
    common += ["train.eval_every_steps=100000", "train.time_limit_seconds=4"]
    stopped = zerostream("train", *common, expect=75)
    assert "(the time is nearly up), saved" in stopped.stderr.splitlines()[-1]
    assert list((tmp_path / "run" / "checkpoints").glob("step-????????"))


def test_a_rank_that_stands_still_is_given_up_with_all_stacks(
    tiny_config: Path, tmp_path: Path, zygote: Zygote
) -> None:
    run_dir = tmp_path / "run"
    common = [str(tiny_config), "engine.kind=reference", "train.step_timeout_seconds=5", f"run_dir={run_dir}"]
    command = [zygote.python, "-m", "launch.cli", "train", *common, "--nproc", "2"]
    environment = {**os.environ, "ZEROSTREAM_FAILPOINTS": "backward@4#1=hang"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 1, ended.stderr
    assert "rank 0, 1 missed a deadline" in ended.stderr.splitlines()[-1]
    stacks = [(run_dir / "stacks" / f"rank-{rank:05d}.txt").read_text() for rank in range(2)]
    assert "failpoints.py" in stacks[1]
    assert "all_reduce" in stacks[0]


def wait_for(condition: Any, process: subprocess.Popen[bytes], deadline_seconds: float = 600) -> None:
    end = time.monotonic() + deadline_seconds
    while not condition():
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < end, "the run took no steps"
        time.sleep(0.05)


def kill_ranks_of(folder: Path) -> None:
    """Ranks are in sessions of their own: those that a killed agent left behind are found by their arguments."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in entry.read_bytes():
                os.kill(int(entry.parent.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue
