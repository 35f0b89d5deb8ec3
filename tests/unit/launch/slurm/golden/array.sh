#!/bin/bash

# Parameters
#SBATCH --array=0-2%2
#SBATCH --chdir=/home/user/project
#SBATCH --job-name=zs-run
#SBATCH --no-requeue
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output='/shared/runs/story run/slurm/logs/%A_%a.out'
#SBATCH --partition=batch
#SBATCH --signal=USR2@120
#SBATCH --time=1:00:00

# setup
run='/shared/runs/story run'/"$(printf task-%03d "$SLURM_ARRAY_TASK_ID")"
logs="$run/slurm/logs/${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}-${SLURM_RESTART_COUNT:-0}"
mkdir -p "$logs"
exec >>"$logs/batch.out" 2>&1
# SLURM's signals are for the ranks, which save; this script lives on to ask what comes next.
trap : TERM INT USR1 USR2
export ZEROSTREAM_BATCH_PID=$$
export PYTHONPATH='/shared/runs/story run/slurm/code' PYTHONUNBUFFERED=1

# command
export SUBMITIT_EXECUTOR=slurm
known=$(/opt/venv/bin/python -m launch.slurm.start "$run")
code=$?
if ((code == 3)); then
    exit "$code"
fi
if ((code == 0)); then
    eval "$known"
    srun --kill-on-bad-exit=1 --mpi=none --nodes=2 --ntasks=2 --ntasks-per-node=1 /opt/venv/bin/python -m launch.slurm.node "$run"
    code=$?
fi
/opt/venv/bin/python -m launch.slurm.afterwards "$run" --exit-code "$code"
exit "$code"
