"""Jobs as `zerostream submit` would make them, and SLURM's commands as recorded from a real one (22.05)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.slurm.job import Job, JobDir
from launch.slurm.profile import Profile

MakeJob = Callable[..., Job]
Recorded = Callable[..., None]

SINFO = """\
batch|batch*|up|1:00:00|n1|127.0.0.1|4000|2|(null)|idle
urgent|urgent|up|infinite|n1|127.0.0.1|4000|2|(null)|idle
batch|batch*|up|1:00:00|n2|127.0.0.1|8000|2|(null)|alloc
urgent|urgent|up|infinite|n2|127.0.0.1|8000|2|(null)|alloc
gpu|gpu|up|2-00:00:00|g1|127.0.0.1|900000|64|gpu:h100:8(S:0-1)|mix
gpu|gpu|up|2-00:00:00|g2|no-such-host.invalid|900000|64|gpu:h100:8(S:0-1)|idle
closed|closed|down|1:00:00|n1|127.0.0.1|4000|2|(null)|idle
"""


@pytest.fixture
def make_job() -> MakeJob:
    """A job of two nodes; keywords replace what it has."""

    def make(profile: dict[str, object] | None = None, **values: object) -> Job:
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
def job_dir(tmp_path: Path, make_job: MakeJob) -> JobDir:
    """A submitted job."""
    found = JobDir(tmp_path / "run")
    found.write(make_job(job_id="7"))
    return found


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Puts commands of SLURM on the path that answer with what a real one has said; ``calls`` keeps how they were called."""
    folder = tmp_path / "slurm-commands"
    folder.mkdir()
    for name in ("sbatch", "srun", "sinfo", "scontrol", "squeue", "scancel"):
        (folder / name).write_text("#!/bin/sh\nexit 0\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join((str(folder), os.environ["PATH"])))

    def answer(name: str, out: str = "", err: str = "", code: int = 0) -> None:
        (folder / f"{name}.out").write_text(out)
        (folder / f"{name}.err").write_text(err)
        lines = (
            "#!/bin/sh",
            f'echo {name} "$@" >> {folder}/calls',
            f"cat {folder}/{name}.out",
            f"cat {folder}/{name}.err >&2",
            f"exit {code}",
        )
        (folder / name).write_text("\n".join(lines) + "\n")

    answer("sinfo", SINFO)
    return answer


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    """How the recorded commands were called."""
    path = tmp_path / "slurm-commands" / "calls"
    return lambda: path.read_text().splitlines() if path.exists() else []
