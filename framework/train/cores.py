"""How many cores this process may use. Standard library only."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Cores of this process: those it is bound to, and no more than SLURM has given the job on this machine.

    Sites without core binding give a job some cores of a machine and let its processes run on all of them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(cores, int(given)) if given.isdigit() and int(given) > 0 else cores
