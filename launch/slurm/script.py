"""The batch script: submitit's header and call of sbatch, our own body.

The body is short on purpose. It says where logs go, asks whether this start is wanted (``launch.slurm.start``), lets srun start
one agent a node (``launch.slurm.node``), and asks what comes next (``launch.slurm.afterwards``).
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from launch.slurm.context import BATCH_PROCESS
from launch.slurm.job import Job, JobDir
from launch.slurm.profile import time_limit_seconds
from launch.slurm.scheduler import SchedulerError, require_commands
from launch.slurm.start import EXIT_NOT_WANTED

_SBATCH_SECONDS = 60


def batch_script(job: Job, run_dir: Path) -> str:
    """The exact text that sbatch gets.

    Args:
        job: complete but for its id.
        run_dir: absolute; of the array, for an array.
    """
    return str(
        _make_sbatch_string(
            command=_body(job),
            folder=JobDir(run_dir).path,
            setup=_prelude(job, run_dir),
            map_count=len(job.tasks) if job.tasks else None,
            array_parallelism=job.array_parallelism or len(job.tasks or ()),
            stderr_to_stdout=True,
            use_srun=False,
            **_parameters(job, run_dir),
        )
    )


class ScriptExecutor(SlurmExecutor):
    """submitit's executor for SLURM with a script of ours in place of a pickled function."""

    def __init__(self, job: Job, run_dir: Path, depends_on: str | None = None) -> None:
        require_commands("sbatch", "srun")
        super().__init__(folder=JobDir(run_dir).path)
        self._job, self._run_dir, self._depends_on = job, run_dir, depends_on

    def submit_script(self) -> str:
        """Writes the script, hands it to sbatch, and returns the job's id.

        Raises:
            SchedulerError: sbatch refuses or does not answer; its own words are in the message.
        """
        path = JobDir(self._run_dir).script
        path.write_text(self._make_submission_file_text("", ""), encoding="utf-8")
        command = self._make_submission_command(path)
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SBATCH_SECONDS, check=False, env=_environment()
            )
        except FileNotFoundError:
            raise SchedulerError(
                "sbatch is not on the path, so nothing can be submitted here",
                fix="log in to a node of the cluster where jobs are submitted, or load its SLURM module",
            ) from None
        except subprocess.TimeoutExpired:
            raise SchedulerError(
                f"sbatch did not answer within {_SBATCH_SECONDS} s",
                fix="look with `squeue --me` whether the job is there, before you submit it again",
            ) from None
        if done.returncode:
            words = " ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in done.stderr.splitlines())
            raise SchedulerError(
                f"SLURM refused the job: {words}", fix="correct what it names in the profile or on the command line"
            )
        return str(self._get_job_id_from_submission_command(done.stdout))

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return batch_script(self._job, self._run_dir)

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        depends = [f"--dependency=afterany:{self._depends_on}"] if self._depends_on else []
        return ["sbatch", *depends, str(submission_file_path)]


def _environment() -> dict[str, str]:
    """What the job inherits: nothing of a job that submits it, such as its count of restarts, and none of the user's SBATCH_...

    Those would overrule the script, and with it the profile and what was typed.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or not name.startswith(("SLURM_", "SLURMD_", "SBATCH_"))
    }


def _parameters(job: Job, run_dir: Path) -> dict[str, Any]:
    """submitit's names for what the header says."""
    profile = job.profile
    exclude = ",".join(dict.fromkeys((*profile.exclude, *job.excluded_nodes)))
    given = {
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "gpus_per_node": profile.gpus_per_node,
        "gres": profile.gres,
        "cpus_per_task": profile.cpus_per_task,
        "mem": profile.memory,
        "constraint": profile.constraint,
        "exclude": exclude or None,
        "exclusive": profile.exclusive or None,
    }
    log = "%A_%a.out" if job.tasks else "%j.out"
    more = {
        # SLURM's own words. What the job says goes to a file for each start, which only the script can name.
        "output": str(JobDir(run_dir).all_logs).replace("%", "%%") + f"/{log}",
        "chdir": str(job.directory),
        "requeue" if profile.requeue else "no_requeue": True,
        **profile.sbatch_arguments,
    }
    return {
        **{name: value for name, value in given.items() if value is not None},
        "job_name": job.name,
        "time": _limit(job.time_limit),
        "nodes": job.nodes,
        "ntasks_per_node": 1,
        "signal_delay_s": profile.signal_lead_seconds,
        "wckey": None,
        "additional_parameters": more,
    }


def _prelude(job: Job, run_dir: Path) -> list[str]:
    """Before the profile's own set-up lines."""
    task = '/"$(printf task-%03d "$SLURM_ARRAY_TASK_ID")"' if job.tasks else ""
    start = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" if job.tasks else "${SLURM_JOB_ID}"
    lines = [
        f"run={shlex.quote(str(run_dir))}{task}",
        f'logs="$run/slurm/logs/{start}-${{SLURM_RESTART_COUNT:-0}}"',
        'mkdir -p "$logs"',
        'exec >>"$logs/batch.out" 2>&1',
        "# SLURM's signals are for the ranks, which save; this script lives on to ask what comes next.",
        "trap : TERM INT USR1 USR2",
        f"export {BATCH_PROCESS}=$$",
        f"export PYTHONPATH={shlex.quote(str(JobDir(run_dir).code))} PYTHONUNBUFFERED=1",
        *(f"export {name}={shlex.quote(value)}" for name, value in job.profile.environment.items()),
    ]
    return [*lines, *job.profile.setup]


def _body(job: Job) -> str:
    python, here = shlex.quote(job.profile.python), shlex.quote(job.submitter)
    srun = [
        "srun",
        "--kill-on-bad-exit=1",
        "--mpi=none",
        f"--nodes={job.nodes}",
        f"--ntasks={job.nodes}",
        "--ntasks-per-node=1",
    ]
    if job.profile.cpus_per_task is not None:
        srun.append(
            f"--cpus-per-task={job.profile.cpus_per_task}"
        )  # sbatch's own does not reach srun since SLURM 22.05
    srun += [shlex.quote(word) for word in (*job.profile.srun_arguments, *job.profile.container)]
    return "\n".join(
        (
            f'known=$({here} -m launch.slurm.start "$run")',
            "code=$?",
            f"if ((code == {EXIT_NOT_WANTED})); then",
            '    exit "$code"',
            "fi",
            "if ((code == 0)); then",
            '    eval "$known"',
            f'    {" ".join(srun)} {python} -m launch.slurm.node "$run"',
            "    code=$?",
            "fi",
            f'{here} -m launch.slurm.afterwards "$run" --exit-code "$code"',
            'exit "$code"',
        )
    )


def _limit(text: str) -> str:
    """In the one form that is always understood."""
    minutes, seconds = divmod(time_limit_seconds(text), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
