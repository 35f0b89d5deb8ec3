"""Job arrays on a real cluster, against the same runs one after the other on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from framework.data.manifest import load_manifest
from framework.metrics.records import read_json_lines
from framework.run_dir import RunDir
from launch.slurm.comparison import JSON_NAME, MARKDOWN_NAME
from launch.slurm.job import JobDir
from tests.conftest import ROOT
from tests.slurm.local_cluster import wait_for, why_there_is_none
from tests.slurm.submitted import Bench

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_there_is_none()), reason=why_there_is_none()),
]
STEPS = 6
SHORT = (f"train.max_steps={STEPS}", "schedule.warmup_steps=2", f"train.eval_every_steps={STEPS}")
SECONDS = 300


def of_these_tests(bench: Bench, **changes: Any) -> Path:
    """A profile that keeps to the nodes which no test takes away."""
    return bench.profile("arrays", exclude=bench.all_but(*bench.cluster.nodes[:4]), **changes)


def submit(bench: Bench, *arguments: object) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(bench.zerostream("submit", *map(str, arguments), "--json").stdout)
    return said


def wait_until_over(bench: Bench, run_dir: Path) -> dict[str, Any]:
    """The status of the array when no task waits or runs."""
    report: dict[str, Any] = {}

    def is_over() -> bool:
        report.update(json.loads(bench.zerostream("status", str(run_dir), "--json").stdout))
        return bool(report["is_over"])

    try:
        wait_for(f"{run_dir.name} is over", is_over, seconds=SECONDS)
    except AssertionError as error:
        logs = [
            path.read_text(errors="replace")[-1500:] for path in sorted(run_dir.glob("task-*/slurm/logs/*/batch.out"))
        ]
        raise AssertionError("\n".join([str(error), json.dumps(report)[:2000], *logs])) from None
    return report


def train_alone(bench: Bench, *overrides: str) -> None:
    """On this machine, on one core as a task has: how many cores share a sum decides its last digit."""
    core = str(min(os.sched_getaffinity(0)))
    command = [
        "taskset",
        "--cpu-list",
        core,
        sys.executable,
        "-m",
        "launch.cli",
        "train",
        str(bench.config),
        *overrides,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=SECONDS)


def without_times(path: Path) -> list[dict[str, Any]]:
    timed = ("step_seconds", "tokens_per_second", "data_wait_seconds", "peak_memory_bytes")
    return [{key: value for key, value in line.items() if key not in timed} for line in read_json_lines(path)]


def test_a_sweep_of_four_equals_four_runs(bench: Bench, tmp_path: Path) -> None:
    sweep = bench.folder / "runs" / "sweep"
    said = submit(
        bench, bench.config, "--cluster", of_these_tests(bench), f"run_dir={sweep}", *SHORT,
        "--sweep", "optimizer.lr=1e-3,4e-3", "--sweep", "seed=1,2",
    )  # fmt: skip
    assert said["run_dir"] == str(sweep)
    report = wait_until_over(bench, sweep)
    assert report["states"] == {"finished": 4}, report
    found = json.loads((sweep / JSON_NAME).read_text())["runs"]
    assert {(row["parameters"]["optimizer.lr"], row["parameters"]["seed"]) for row in found} == {
        ("1e-3", "1"), ("1e-3", "2"), ("4e-3", "1"), ("4e-3", "2"),
    }  # fmt: skip
    losses = [row["validation"]["loss"] for row in found]
    assert losses == sorted(losses)
    assert len(set(losses)) == 4
    for row in found:
        alone = RunDir(tmp_path / Path(row["run_dir"]).name)
        overrides = [f"{key}={value}" for key, value in row["parameters"].items()]
        train_alone(bench, *SHORT, *overrides, f"run_dir={alone.path}")
        mine = RunDir(Path(row["run_dir"]))
        assert without_times(mine.metrics) == without_times(alone.metrics)
        assert read_json_lines(mine.evaluations) == read_json_lines(alone.evaluations)
        [evaluation] = read_json_lines(alone.evaluations)
        assert row["validation"] == {key: value for key, value in evaluation.items() if key != "step"}
        assert (row["state"], row["step"]) == ("finished", STEPS)
    page = (sweep / MARKDOWN_NAME).read_text()
    assert page.count("| finished | 6 |") == 4
    assert "optimizer.lr" in bench.zerostream("status", str(sweep)).stdout
    assert "task-000" in bench.zerostream("logs", str(sweep), expect=2).stderr
    assert "finished 6 steps" in bench.zerostream("logs", str(sweep / "task-003")).stdout


def test_what_a_sweep_could_not_finish_is_submitted_again(bench: Bench) -> None:
    """The tasks are refused when they start; then what they lacked is there."""
    sweep = bench.folder / "runs" / "half"
    broken = of_these_tests(
        bench, environment={"ZEROSTREAM_FAILPOINTS": "forward@2#0=raise"}, max_starts_without_progress=1
    )
    submit(
        bench, bench.config, "--cluster", broken, f"run_dir={sweep}", *SHORT, "--sweep", "seed=1,2",
    )  # fmt: skip
    assert wait_until_over(bench, sweep)["states"] == {"gave up": 2}
    assert [row["state"] for row in json.loads((sweep / JSON_NAME).read_text())["runs"]] == ["gave up", "gave up"]
    bench.zerostream("resubmit", str(sweep), "--cluster", str(of_these_tests(bench)))
    assert wait_until_over(bench, sweep)["states"] == {"finished": 2}
    assert [row["state"] for row in json.loads((sweep / JSON_NAME).read_text())["runs"]] == ["finished", "finished"]
    assert "all tasks have finished" in bench.zerostream("resubmit", str(sweep), expect=2).stderr


def test_prepare_in_four_tasks_equals_prepare(bench: Bench) -> None:
    values = yaml.safe_load(bench.config.read_text())
    alone = Path(values["data"]["shards_dir"])
    together = bench.folder / "shards-of-four"
    said = submit(
        bench, bench.config, "--cluster", of_these_tests(bench), f"data.shards_dir={together}",
        "--command", "prepare", "--tasks", "4",
    )  # fmt: skip
    run_dir = Path(said["run_dir"])
    report = wait_until_over(bench, run_dir)
    assert report["states"] == {"finished": 4}, report
    assert load_manifest(together).data_fingerprint == load_manifest(alone).data_fingerprint
    assert files(together) == files(alone)
    assert len(JobDir(run_dir).tasks()) == 4
    assert f"the shards are ready: {together.name}\n" in bench.zerostream("status", str(run_dir)).stdout


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
