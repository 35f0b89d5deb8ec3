#!/bin/bash

# Parameters
#SBATCH --account=my_project
#SBATCH --chdir=/home/user/project
#SBATCH --constraint='h100&ib'
#SBATCH --cpus-per-task=64
#SBATCH --exclude=n7,n9,n3
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --job-name=zs-run
#SBATCH --mail-type=FAIL
#SBATCH --mem=0
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output='/shared/runs/story run/slurm/logs/%j.out'
#SBATCH --partition=gpu
#SBATCH --qos=high
#SBATCH --requeue
#SBATCH --signal=USR2@300
#SBATCH --time=1:00:00

# setup
run='/shared/runs/story run'
logs="$run/slurm/logs/${SLURM_JOB_ID}-${SLURM_RESTART_COUNT:-0}"
mkdir -p "$logs"
exec >>"$logs/batch.out" 2>&1
# SLURM's signals are for the ranks, which save; this script lives on to ask what comes next.
trap : TERM INT USR1 USR2
export ZEROSTREAM_BATCH_PID=$$
export PYTHONPATH='/shared/runs/story run/slurm/code' PYTHONUNBUFFERED=1
export NCCL_DEBUG=WARN
export GREETING='it'"'"'s here'
module purge
module load cuda/12.8

# command
export SUBMITIT_EXECUTOR=slurm
known=$(/opt/venv/bin/python -m launch.slurm.start "$run")
code=$?
if ((code == 3)); then
    exit "$code"
fi
if ((code == 0)); then
    eval "$known"
    srun --kill-on-bad-exit=1 --mpi=none --nodes=4 --ntasks=4 --ntasks-per-node=1 --cpus-per-task=64 '--container-image=/images/a b.sqsh' /opt/venv/bin/python -m launch.slurm.node "$run"
    code=$?
fi
/opt/venv/bin/python -m launch.slurm.afterwards "$run" --exit-code "$code"
exit "$code"
