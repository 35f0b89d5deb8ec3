"""Real ranks, of which one start takes many jobs, and the user's commands; the tests look at what they wrote."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from framework.metrics.records import read_json_lines
from tests.conftest import ROOT
from tests.starts import Zygote

ENGINES = ("reference", "zero0", "zero1", "zero2", "zero3")
PRECISIONS = ("fp32", "bf16")
# Of a Python.
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
TORCHRUN += ["--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1", "-m", "framework.train"]


@dataclass(frozen=True)
class Runs:
    """Run directories and outcomes of all jobs of one start of ranks."""

    folder: Path
    outcomes: dict[str, dict[str, Any]]

    def path(self, name: str) -> Path:
        return self.folder / name

    def metrics(self, name: str) -> list[dict[str, Any]]:
        assert self.outcomes[name]["exit_code"] == 0, self.outcomes[name]["message"]
        return read_json_lines(self.folder / name / "metrics.jsonl")


def engine_overrides(engine: str) -> list[str]:
    if engine == "reference":
        return ["engine.kind=reference"]
    return ["engine.kind=deepspeed", f"engine.zero_stage={engine.removeprefix('zero')}"]


def oracle_jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    return {
        engine: [str(config), f"run_dir={folder / engine}", "checkpoint.every_steps=1000", *engine_overrides(engine)]
        for engine in ENGINES
    }


StartRanks = Callable[..., Runs]
RunZerostream = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def start_ranks(zygote: Zygote) -> StartRanks:
    """Starts so many ranks, which take all jobs, and waits for them; they write below ``folder``."""

    def start(nproc: int, jobs: dict[str, list[str]], folder: Path, environment: dict[str, str] | None = None) -> Runs:
        jobs_file, outcomes_file = folder / "jobs.json", folder / "outcomes.json"
        jobs_file.write_text(json.dumps(jobs))
        ended = zygote.start(
            [str(jobs_file), str(outcomes_file)],
            nproc,
            folder / "ranks",
            environment or {},
            module="tests.distributed.ranks",
        ).wait(900)
        assert ended.exit_code == 0, ended.text[-5000:]
        return Runs(folder, json.loads(outcomes_file.read_text()))

    return start


@pytest.fixture(scope="session")
def zerostream(zygote: Zygote) -> RunZerostream:
    """``zerostream ARGUMENTS``, in a process that the zygote forks unless another ``python`` is named."""

    def run(
        *arguments: object, expect: int = 0, python: str | Path = zygote.python
    ) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-m", "launch.cli", *map(str, arguments)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert result.returncode == expect, (
            f"exit code {result.returncode}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
        )
        return result

    return run
