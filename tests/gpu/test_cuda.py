"""What only a GPU can show. Skips, with the reason, where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from framework.metrics.records import read_json_lines
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
]


def losses(config: Path, run_dir: Path, *overrides: str) -> list[float]:
    command = [
        sys.executable,
        "-m",
        "framework.train",
        str(config),
        f"run_dir={run_dir}",
        "train.max_steps=8",
        *overrides,
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-4000:]
    return [line["loss"] for line in read_json_lines(run_dir / "metrics.jsonl")]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 5e-3), ("fp16", 5e-3)])
def test_zero_on_a_gpu_follows_the_oracle(
    stage: int, precision: str, tolerance: float, tiny_config: Path, tmp_path: Path
) -> None:
    oracle = losses(tiny_config, tmp_path / "oracle", "engine.kind=reference")
    zero = losses(tiny_config, tmp_path / "zero", f"engine.zero_stage={stage}", f"engine.precision={precision}")
    assert zero == pytest.approx(oracle, rel=tolerance)
