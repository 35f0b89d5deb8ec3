"""A smoke run of the benchmarks that start training: they answer, and their answers are whole. Nothing is timed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.records import read_records
from framework.planner.calibrate import read_measured
from framework.planner.devices import device_named
from tests.conftest import ROOT
from tests.starts import Zygote

pytestmark = pytest.mark.distributed


def ask(python: str | Path, *arguments: str) -> None:
    command = [str(python), "-m", "benchmarks", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]


def test_throughput_measures_and_splits_a_step(tmp_path: Path, zygote: Zygote) -> None:
    file = tmp_path / "lines.jsonl"
    options = [
        "--context",
        "32",
        "--micro-batch",
        "1",
        "--ranks",
        "2",
        "--steps",
        "2",
        "--warmup",
        "1",
        "--profiled",
        "1",
    ]
    ask(zygote.python, "throughput", *options, "--append", str(file))
    (record,) = read_records(file)
    values = record["values"]
    assert values["outcome"] == "measured", values
    assert len(values["tokens_per_second"]["of_each"]) == 2
    assert 0 < values["model_flops_utilisation"] < 1
    assert {"forward", "backward", "optimizer", "communication"} <= set(values["split_seconds"])
    assert values["measured_peak_bytes"] > 10**8
    # The planner is calibrated with such lines.
    (measured,) = read_measured(file, device_named("cpu"))
    assert measured.tokens_per_second == values["tokens_per_second"]["median"]
    assert (measured.ranks_per_node, measured.config.model.context_length) == (2, 32)


def test_two_trees_of_one_revision_are_compared(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    options = ["--starts", "1", "--turns", "2", "--steps", "1", "--warmup", "1", "model.context_length=32"]
    ask(sys.executable, "compare", str(ROOT), str(ROOT), *options, "--append", str(file))
    (record,) = read_records(file)
    assert record["values"]["verdict"] in ("faster", "slower", "noise")
    assert record["values"]["processor"]["low"] <= record["values"]["processor"]["median"]
