"""The batch script, word for word: golden files that are read before they are changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from launch.slurm.job import Job, JobDir
from launch.slurm.script import ScriptExecutor, batch_script
from tests.unit.launch.slurm.conftest import Commands, MakeJob

GOLDEN = Path(__file__).parent / "golden"
RUN = Path("/shared/runs/story run")  # a path with a space in it
SITE = {
    "partition": "gpu",
    "account": "my_project",
    "qos": "high",
    "gpus_per_node": 8,
    "cpus_per_task": 64,
    "memory": "0",
    "constraint": "h100&ib",
    "exclude": ("n7", "n9"),
    "exclusive": True,
    "setup": ("module purge", "module load cuda/12.8"),
    "srun_arguments": ("--container-image=/images/a b.sqsh",),
    "environment": {"NCCL_DEBUG": "WARN", "GREETING": "it's here"},
    "signal_lead_seconds": 300,
    "sbatch_arguments": {"mail-type": "FAIL"},
}


def scripts(make_job: MakeJob) -> dict[str, str]:
    array = make_job({"requeue": False, "partition": "batch"}, tasks=(("seed=1",), ("seed=2",), ("seed=3",)))
    return {
        "plain.sh": batch_script(make_job({"cpus_per_task": 2}), Path("/shared/runs/a")),
        "site.sh": batch_script(make_job(SITE, nodes=4, ranks_per_node=8, excluded_nodes=("n9", "n3")), RUN),
        "array.sh": batch_script(array.model_copy(update={"array_parallelism": 2}), RUN),
    }


@pytest.mark.parametrize("name", ["plain.sh", "site.sh", "array.sh"])
def test_the_script_is_the_golden_one(make_job: MakeJob, name: str) -> None:
    assert scripts(make_job)[name] == (GOLDEN / name).read_text()


def test_a_percent_sign_is_no_pattern(make_job: MakeJob) -> None:
    script = batch_script(make_job(), Path("/shared/100%j"))
    assert "#SBATCH --output=/shared/100%%j/slurm/logs/%j.out" in script.splitlines()
    assert "run=/shared/100%j" in script.splitlines()


def test_an_option_without_a_value(make_job: MakeJob) -> None:
    job = make_job({"sbatch_arguments": {"hold": True, "comment": "true"}})
    script = batch_script(Job.model_validate_json(job.model_dump_json()), RUN)
    assert {"#SBATCH --hold", "#SBATCH --comment=true"} <= set(script.splitlines())


@pytest.mark.parametrize("name", ["plain.sh", "site.sh", "array.sh"])
def test_bash_can_read_it(make_job: MakeJob, name: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=scripts(make_job)[name], text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_job_inherits_nothing_of_the_job_that_submits_it(
    tmp_path: Path, make_job: MakeJob, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands({"sbatch": ("", "", 0), "srun": ("", "", 0)})
    seen = tmp_path / "environment"
    (tmp_path / "bin" / "sbatch").write_text(f"#!/bin/sh\n/usr/bin/env > {seen}\necho Submitted batch job 41\n")
    for name in (
        "SLURM_ARRAY_JOB_ID",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_RESTART_COUNT",
        "SLURM_JOB_END_TIME",
        "SLURMD_NODENAME",
    ):
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "5")
    monkeypatch.setenv("NCCL_DEBUG", "WARN")
    JobDir(tmp_path).path.mkdir()
    assert ScriptExecutor(make_job(), tmp_path).submit_script() == "41"
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert {name for name in names if name.startswith("SLURM")} == {"SLURM_CONF"}
    assert "NCCL_DEBUG" in names
    assert not {name for name in names if name.startswith("SBATCH")}  # they would overrule the script


# --- The body, run for real with programs in SLURM's and our modules' place ---


def run_script(
    tmp_path: Path, make_job: MakeJob, *, start: int, ranks: int, srun: str = ""
) -> tuple[int, list[str], str]:
    """Exit code, what was called, and the batch log; ``python`` stands in for our modules."""
    calls = tmp_path / "calls"
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\necho "$2 $4 $5 end=$SLURM_JOB_END_TIME" >> {calls}\n'
        f'case $2 in *start) echo "export SLURM_JOB_END_TIME=99"; exit {start};; *node) exit {ranks};; esac\n'
    )
    program = tmp_path / "srun"
    program.write_text(f'#!/bin/sh\n{srun}\nwhile [ "${{1#--}}" != "$1" ]; do shift; done\nexec "$@"\n')
    for path in (python, program):
        path.chmod(0o755)
    job = make_job({"python": str(python)}, submitter=str(python), directory=str(tmp_path))
    script = batch_script(job, tmp_path / "run")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}
    done = subprocess.run(["bash"], input=script, text=True, env=environment, cwd=tmp_path, timeout=60, check=False)
    log = tmp_path / "run" / "slurm" / "logs" / "7-2" / "batch.out"
    return done.returncode, calls.read_text().splitlines(), log.read_text()


@pytest.mark.parametrize("code", [0, 1, 2, 75])
def test_the_ranks_code_is_asked_about_and_is_the_scripts(tmp_path: Path, make_job: MakeJob, code: int) -> None:
    ended, calls, _ = run_script(tmp_path, make_job, start=0, ranks=code)
    assert ended == code
    assert calls == [
        "launch.slurm.start   end=",
        "launch.slurm.node   end=99",
        f"launch.slurm.afterwards --exit-code {code} end=99",
    ]


def test_a_start_that_is_not_wanted_starts_nothing_and_asks_nothing(tmp_path: Path, make_job: MakeJob) -> None:
    ended, calls, _ = run_script(tmp_path, make_job, start=3, ranks=0)
    assert (ended, calls) == (3, ["launch.slurm.start   end="])


def test_a_start_that_fails_counts_as_a_start(tmp_path: Path, make_job: MakeJob) -> None:
    ended, calls, _ = run_script(tmp_path, make_job, start=1, ranks=0)
    assert (ended, calls[-1]) == (1, "launch.slurm.afterwards --exit-code 1 end=")


def test_the_script_outlives_slurms_signals(tmp_path: Path, make_job: MakeJob) -> None:
    ended, calls, log = run_script(
        tmp_path,
        make_job,
        start=0,
        ranks=75,
        srun="kill -TERM $ZEROSTREAM_BATCH_PID; kill -USR2 $ZEROSTREAM_BATCH_PID; sleep 0.2",
    )
    assert ended == 75
    assert calls[-1] == "launch.slurm.afterwards --exit-code 75 end=99"
    assert log == ""
