#!/bin/bash

# Parameters
#SBATCH --chdir=/home/user/project
#SBATCH --cpus-per-task=2
#SBATCH --job-name=zs-run
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/a/slurm/logs/%j.out
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=1:00:00

# setup
run=/shared/runs/a
logs="$run/slurm/logs/${SLURM_JOB_ID}-${SLURM_RESTART_COUNT:-0}"
mkdir -p "$logs"
exec >>"$logs/batch.out" 2>&1
# SLURM's signals are for the ranks, which save; this script lives on to ask what comes next.
trap : TERM INT USR1 USR2
export ZEROSTREAM_BATCH_PID=$$
export PYTHONPATH=/shared/runs/a/slurm/code PYTHONUNBUFFERED=1

# command
export SUBMITIT_EXECUTOR=slurm
known=$(/opt/venv/bin/python -m launch.slurm.start "$run")
code=$?
if ((code == 3)); then
    exit "$code"
fi
if ((code == 0)); then
    eval "$known"
    srun --kill-on-bad-exit=1 --mpi=none --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=2 /opt/venv/bin/python -m launch.slurm.node "$run"
    code=$?
fi
/opt/venv/bin/python -m launch.slurm.afterwards "$run" --exit-code "$code"
exit "$code"
