"""Starts the ranks of one machine through torchrun's own agent, and tells the exit code that the ranks agreed on."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from framework.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_REFUSED

_RANK_MODULE = "framework.train"
_FIX = "To fix it"


def launch_ranks(config_path: Path, overrides: Sequence[str], nproc: int) -> int:
    """Runs ``torchrun --nproc-per-node nproc -m framework.train`` and returns 0, 1, 2 or 75.

    ``torchrun`` itself ends with 1 whatever its ranks say; asking its agent keeps their exit codes apart.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _prepare_environment(nproc)
    launch = elastic_launch(
        LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=nproc,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            max_restarts=0,
            monitor_interval=0.1,
            local_addr="127.0.0.1",  # the machine's own name may not resolve, and ranks would wait for it in silence
        ),
        sys.executable,
    )
    try:
        launch("-u", "-m", _RANK_MODULE, str(config_path), *overrides)
    except SignalException as error:
        fix = "start the same command again: it goes on from the last checkpoint"
        print(f"zerostream: {error}. {_FIX}: {fix}.", file=sys.stderr, flush=True)
        return EXIT_FAILED
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        rank_0 = error.failures.get(0)
        rank_0_has_said_it = rank_0 is not None and rank_0.exitcode > 0
        if not (rank_0_has_said_it and _FIX in str(failure.message)):
            _say_last_words(rank, failure.exitcode, str(failure.message))
        return int(failure.exitcode) if failure.exitcode in (EXIT_REFUSED, EXIT_PREEMPTED) else EXIT_FAILED
    return EXIT_FINISHED


def _say_last_words(rank: int, exit_code: int, message: str) -> None:
    """Only rank 0 speaks for itself: what ended another rank alone, or killed one, is said here."""
    if _FIX in message:
        print(f"zerostream: rank {rank}: {message}", file=sys.stderr, flush=True)
        return
    if exit_code < 0:
        cause = f"rank {rank} was killed by signal {-exit_code}"
        fix = "look for the out-of-memory killer in the system's log, then start the same command again: it goes on"
    else:
        cause = f"rank {rank} failed with exit code {exit_code}"
        fix = "read its error above; the same command goes on from the last checkpoint"
    print(f"zerostream: {cause}. {_FIX}: {fix}.", file=sys.stderr, flush=True)


def _prepare_environment(nproc: int) -> None:
    # torchrun would set one thread a rank; torch.compile and DeepSpeed look for ninja beside the interpreter.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // nproc)))
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    # The agent's own log repeats, at length, what the rank's last line says.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
