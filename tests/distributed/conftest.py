"""Two starts of real ranks, of 1 and of 2, take all jobs of this folder; the tests look at what they wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from framework.metrics.records import read_json_lines
from tests.conftest import ROOT

ENGINES = ("reference", "zero0", "zero1", "zero2", "zero3")
PRECISIONS = ("fp32", "bf16")
BAD_NUMBERS = ("loss@3#1=nan", "gradient@3#1=inf")
# Every engine's checkpoint is read by another one, and every engine reads another one's.
MOVES = (
    ("reference", "zero3"),
    ("zero3", "zero0"),
    ("zero0", "zero2"),
    ("zero2", "zero1"),
    ("zero1", "reference"),
    ("zero3", "zero1"),
)
STOP_AT = 4
RESUMED_STEPS = 8


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


def resume_jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    """For each engine and precision: undisturbed, and stopped and started again; with dropout."""
    jobs: dict[str, list[str]] = {}
    for engine in ENGINES:
        for precision in PRECISIONS:
            common = [
                *engine_overrides(engine),
                f"engine.precision={precision}",
                "model.dropout=0.1",
                f"train.max_steps={RESUMED_STEPS}",
                "train.eval_every_steps=3",
            ]
            whole, cut = f"whole-{engine}-{precision}", f"cut-{engine}-{precision}"
            jobs[whole] = [str(config), f"run_dir={folder / whole}", *common]
            jobs[f"{cut}-stopped"] = [str(config), f"run_dir={folder / cut}", f"train.stop_at_step={STOP_AT}", *common]
            jobs[cut] = [str(config), f"run_dir={folder / cut}", *common]
    return jobs


def variant_jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    """Ways to compute that must not change the result."""
    variants = {
        "offload-optimizer": ["engine.zero_stage=2", "engine.offload.optimizer=true"],
        "offload-parameters": [
            "engine.zero_stage=3",
            "engine.offload.optimizer=true",
            "engine.offload.parameters=true",
        ],
        "checkpointing": ["engine.zero_stage=1", "engine.activation_checkpointing=true"],
        "checkpointing-zero3": ["engine.zero_stage=3", "engine.activation_checkpointing=true"],
        "accumulation": ["engine.zero_stage=2", "engine.micro_batch_size=2"],
        "profiled": ["train.profile.steps=2", "train.profile.skip_steps=1", "logging.tensorboard=true"],
        "llama": ["model.architecture=llama", "engine.zero_stage=3"],
        "llama-reference": ["model.architecture=llama", "engine.kind=reference"],
    }
    return {
        name: [str(config), f"run_dir={folder / name}", "train.max_steps=6", *more] for name, more in variants.items()
    }


def restart_jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    """Another micro-batch from start to start, and other engines."""
    regrouped = [str(config), f"run_dir={folder / 'regrouped'}", "engine.zero_stage=2"]
    jobs = {
        "regrouped-stopped": [*regrouped, f"train.stop_at_step={STOP_AT}"],
        "regrouped": [*regrouped, "engine.micro_batch_size=1"],
    }
    for before, after in MOVES:
        name = f"moved-{before}-{after}"
        common = [str(config), f"run_dir={folder / name}"]
        jobs[f"{name}-stopped"] = [*common, f"train.stop_at_step={STOP_AT}", *engine_overrides(before)]
        jobs[name] = [*common, *engine_overrides(after)]
    return jobs


def numerics_jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    """Numbers that are not finite, on one rank alone; two micro-batches a step."""
    jobs: dict[str, list[str]] = {}
    for engine in ENGINES:
        for precision in PRECISIONS:
            for fault in BAD_NUMBERS:
                name = f"{engine}-{precision}!{fault}"
                jobs[name] = [
                    str(config),
                    f"run_dir={folder / name}",
                    *engine_overrides(engine),
                    f"engine.precision={precision}",
                    "engine.micro_batch_size=2",
                    "checkpoint.every_steps=1",
                    "train.max_steps=4",
                    "checkpoint.keep=4",
                ]
    return jobs


def skipping_jobs(config: Path, shards: Path, folder: Path) -> dict[str, list[str]]:
    """A bad shard that is left out, in a run that is not interrupted and in one that is stopped and started again."""
    copy = folder / "shards"
    shutil.copytree(shards, copy)
    (copy / "train-000002.tar").unlink()
    common = [f"data.shards_dir={copy}", "data.on_bad_shard=skip", f"train.max_steps={RESUMED_STEPS}"]
    jobs: dict[str, list[str]] = {}
    for engine in ("reference", "zero2"):
        whole, cut = f"skips-{engine}", f"skips-cut-{engine}"
        jobs[whole] = [str(config), f"run_dir={folder / whole}", *common, *engine_overrides(engine)]
        cut_job = [str(config), f"run_dir={folder / cut}", *common, *engine_overrides(engine)]
        jobs[f"{cut}-stopped"] = [*cut_job, f"train.stop_at_step={STOP_AT}"]
        jobs[cut] = cut_job
    return jobs


def refused_jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    """What ranks must refuse together."""
    common = [str(config), f"run_dir={folder / 'reference'}"]
    return {
        "another-seed": [*common, "engine.kind=reference", "seed=7"],
        "nothing-to-do": [*common, "engine.kind=reference", "checkpoint.every_steps=1000"],
        "explodes": [str(config), f"run_dir={folder / 'explodes'}", "optimizer.lr=1e30", "optimizer.clip_norm=0"],
    }


def start_ranks(nproc: int, jobs: dict[str, list[str]], folder: Path) -> Runs:
    jobs_file, outcomes_file = folder / "jobs.json", folder / "outcomes.json"
    jobs_file.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(nproc), "--rdzv-backend", "c10d"]
    command += [
        "--rdzv-endpoint",
        "127.0.0.1:0",
        "--local-addr",
        "127.0.0.1",
        "tests/distributed/ranks.py",
        str(jobs_file),
        str(outcomes_file),
    ]
    # Packages that a test looked for on the path before it asked for ranks are there for the ranks as well.
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr[-5000:]
    return Runs(folder, json.loads(outcomes_file.read_text()))


@pytest.fixture(scope="session")
def two_ranks(tiny_config: Path, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("two_ranks")
    jobs = {
        **oracle_jobs(tiny_config, folder),
        **resume_jobs(tiny_config, folder),
        **variant_jobs(tiny_config, folder),
        **restart_jobs(tiny_config, folder),
        **numerics_jobs(tiny_config, folder),
        **refused_jobs(tiny_config, folder),
        **skipping_jobs(tiny_config, tiny_shards, folder),
    }
    return start_ranks(2, jobs, folder)


@pytest.fixture(scope="session")
def one_rank(tiny_config: Path, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("one_rank")
    jobs = {**oracle_jobs(tiny_config, folder), **skipping_jobs(tiny_config, tiny_shards, folder)}
    return start_ranks(1, jobs, folder)
