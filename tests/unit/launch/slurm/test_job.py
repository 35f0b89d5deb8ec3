from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from framework.errors import RunDirError
from framework.run_dir import RunDir
from launch.slurm.job import JobDir
from launch.slurm.planning import task_job
from tests.unit.launch.slurm.conftest import MakeJob


def test_a_job_comes_back_as_it_was_written(tmp_path: Path, make_job: MakeJob) -> None:
    job = make_job(job_id="12", tasks=(("seed=1",), ("seed=2",)), excluded_nodes=("n3",), submitted_at=1.5)
    JobDir(tmp_path).write(job)
    assert JobDir(tmp_path).read() == job
    assert not list(tmp_path.glob("**/*.tmp"))


def test_everything_lies_below_the_slurm_folder_of_the_run(tmp_path: Path) -> None:
    job_dir = JobDir(tmp_path)
    paths = (
        job_dir.job, job_dir.config, job_dir.code, job_dir.script, job_dir.cancel_request, job_dir.current,
        job_dir.batch_log("7", 0), job_dir.node_log("7", 0, 1), job_dir.rank_log("7", 0, 12), job_dir.rendezvous("7", 0),
        job_dir.health("7", 0, 1), job_dir.signals("7", 0),
    )  # fmt: skip
    assert all(path.is_relative_to(RunDir(tmp_path).slurm) for path in paths)
    assert len(set(paths)) == len(paths)
    assert job_dir.rank_log("7", 3, 12) == tmp_path / "slurm" / "logs" / "7-3" / "rank-00012.out"


def test_the_history_orders_starts(tmp_path: Path) -> None:
    job_dir = JobDir(tmp_path)
    for job_id, restart in (("9", 0), ("1", 0), ("9", 2), ("9", 10), ("10", 0), ("1", 0)):  # the last on a new cluster
        job_dir.logs(job_id, restart).mkdir(parents=True, exist_ok=True)
        job_dir.history.append("started", job_id=job_id, restart=restart)
    os.utime(job_dir.logs("9", 2), (0, 0))
    unheard = job_dir.logs("2", 0)  # it has not yet told that it began
    unheard.mkdir()
    in_a_minute = (
        time.time() + 60
    )  # a file system's clock may tick behind time.time() by milliseconds; starts are seconds apart
    os.utime(unheard, (in_a_minute, in_a_minute))
    (job_dir.all_logs / "9.out").write_text("")
    assert [path.name for path in job_dir.starts()] == ["9-0", "9-2", "9-10", "10-0", "1-0", "2-0"]


def test_a_run_that_was_never_submitted_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="was not submitted to SLURM") as refused:
        JobDir(tmp_path).read()
    assert "zerostream submit" in refused.value.fix


@pytest.mark.parametrize("content", [b"", b"{", b'{"kind": "train"}', b"\xff"])
def test_a_damaged_job_is_named(tmp_path: Path, content: bytes) -> None:
    JobDir(tmp_path).path.mkdir()
    JobDir(tmp_path).job.write_bytes(content)
    with pytest.raises(RunDirError, match=r"job\.json cannot be read"):
        JobDir(tmp_path).read()


def test_a_task_is_a_job_of_its_own(tmp_path: Path, make_job: MakeJob) -> None:
    array = make_job(job_id="12", tasks=(("seed=1",), ("seed=2", "optimizer.lr=1e-3")))
    task = task_job(array, tmp_path, 1)
    assert task.tasks is None
    assert (task.job_id, task.array) == ("12_1", str(tmp_path))
    assert task.command == (*array.command, "seed=2", "optimizer.lr=1e-3", f"run_dir={tmp_path}/task-001")
    assert task_job(make_job(kind="prepare", tasks=(("--part", "1/2"),)), tmp_path, 0).command[-2:] == ("--part", "1/2")
