"""Submitted runs made by hand, and programs that stand in SLURM's place on the path and print what it has printed."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from framework.run_dir import RunDir
from launch.slurm.job import Job, JobDir
from launch.slurm.profile import Profile

SCRIPT = Path("/runs/run/slurm/script.sh")
"""Of every job that is made by hand: what `squeue` prints as the last field of a line."""
Commands = Callable[[Mapping[str, tuple[str, str, int]]], Path]
MakeRun = Callable[..., JobDir]
MakeJob = Callable[..., Job]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Puts programs on the path that print (output, complaint) and end with a code; others of SLURM's are not there."""

    def put(answers: Mapping[str, tuple[str, str, int]]) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        calls = tmp_path / "calls"
        for name, (output, complaint, code) in answers.items():
            program = folder / name
            program.write_text(
                f"#!{sys.executable}\nimport sys\nopen({str(calls)!r}, 'a').write(' '.join([{name!r}, *sys.argv[1:]]) + '\\n')\n"
                f"sys.stdout.write({output!r})\nsys.stderr.write({complaint!r})\nsys.exit({code})\n"
            )
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder))
        return calls

    return put


@pytest.fixture
def make_job() -> MakeJob:
    """A job of two nodes as `zerostream submit` plans it; keywords replace what it has."""

    def make(profile: Mapping[str, object] | None = None, **values: object) -> Job:
        given: dict[str, object] = {
            "kind": "train",
            "name": "zs-run",
            "command": ("train", "/shared/run/slurm/config.yaml", "train.max_steps=50"),
            "profile": Profile.model_validate({"python": "/opt/venv/bin/python", **(profile or {})}),
            "nodes": 2,
            "ranks_per_node": 1,
            "time_limit": "1:00:00",
            "submitter": "/opt/venv/bin/python",
            "directory": "/home/user/project",
            **values,
        }
        return Job.model_validate(given)

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A submitted run's directory: the job, how far it is, and its history."""

    def make(
        name: str = "run",
        *,
        job_id: str | None = "12",
        step: int = 0,
        beats: bool = False,
        result: bool = False,
        **job: Any,
    ) -> JobDir:
        job_dir = JobDir(tmp_path / name)
        job_dir.write(
            Job(
                kind=job.pop("kind", "train"),
                name=name,
                command=("train", "config.yaml"),
                profile=Profile(),
                nodes=2,
                ranks_per_node=1,
                time_limit="1:00:00",
                submitter=sys.executable,
                directory=tmp_path,
                job_id=job_id,
                script=job.pop("script", SCRIPT),
                submitted_at=time.time() - 100,
                **job,
            )
        )
        run_dir = RunDir(job_dir.run)
        run_dir.config.write_text("train: {max_steps: 20}\n")
        write_steps(run_dir, step)
        if beats:
            run_dir.heartbeat(0).parent.mkdir()
            for rank, age in enumerate((1.0, 4.0)):
                beat = {"step": step, "time": time.time() - age, "deadline": time.time() + 60}
                run_dir.heartbeat(rank).write_text(json.dumps(beat))
        if result:
            run_dir.result.write_text(json.dumps({"status": "finished", "step": step}))
        return job_dir

    return make


def write_steps(run_dir: RunDir, step: int, loss: float = 2.0) -> None:
    """Metrics of so many steps, and an evaluation at the last one."""
    if not step:
        return
    lines = [
        {"step": number, "loss": loss + 1 / number, "step_seconds": 0.5, "tokens_per_second": 1000.0}
        for number in range(1, step + 1)
    ]
    run_dir.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluation = {"step": step, "loss": loss, "perplexity": 7.0, "bits_per_byte": loss / 2}
    run_dir.evaluations.write_text(json.dumps(evaluation) + "\n")


@pytest.fixture(autouse=True)
def _no_slurm_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that this machine may have is not asked."""
    for name in [name for name in os.environ if name.startswith(("SLURM", "SQUEUE"))]:
        monkeypatch.delenv(name)
