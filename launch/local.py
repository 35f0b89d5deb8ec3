"""Starts the ranks of one machine through torchrun's own agent, and tells the exit code that the ranks agreed on.

The machine may be alone (``zerostream train``) or a node among others (``launch.slurm.node``).
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from framework.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_REFUSED
from framework.run_dir import RunDir
from framework.train.cores import available_cores
from framework.train.watch import ranks_that_hung

if TYPE_CHECKING:
    import psutil
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

_RANK_MODULE = "framework.train"
_FIX = "To fix it"
# glibc gives each large tensor back to the kernel and takes it again in the next step, page by page: a seventh of a small model's
# step on a CPU (docs/experiments.md). With these it keeps them.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31)}
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
_SECONDS_TO_SIGKILL = 10  # for ranks that still live when another has failed


def launch_ranks(config_path: Path, overrides: Sequence[str], nproc: int, run_dir: RunDir) -> int:
    """Runs ``torchrun --nproc-per-node nproc -m framework.train`` and returns 0, 1, 2 or 75.

    ``torchrun`` itself ends with 1 whatever its ranks say; asking its agent keeps their exit codes apart. SIGTERM, SIGINT and
    SIGUSR2 are handed on to the ranks, which save and end; torchrun would kill them 30 seconds after the first two.
    """
    shutil.rmtree(run_dir.stacks(0).parent, ignore_errors=True)  # of an earlier start
    return run_ranks([_RANK_MODULE, str(config_path), *overrides], nproc, run_dir)


@dataclass(frozen=True)
class Placement:
    """One node among others, all of which start as many ranks; ``address`` and ``port`` are where the first one listens."""

    nodes: int
    node: int
    address: str
    port: int
    run_id: str


def run_ranks(
    arguments: Sequence[str],
    nproc: int,
    run_dir: RunDir,
    placement: Placement | None = None,
    on_signal: Callable[[int], None] = lambda number: None,
) -> int:
    """Starts ``python -u -m arguments`` on each of this machine's ranks, waits for their end and returns 0, 1, 2 or 75.

    Args:
        arguments: a module and its arguments; among them the module that trains.
        nproc: ranks of this machine.
        run_dir: where ranks leave the stacks of a deadline that was missed.
        placement: where this machine stands among others; None if it is alone.
        on_signal: is told of each signal before it is handed on.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    prepare_environment(nproc)
    launch = elastic_launch(_launch_config(nproc, placement), sys.executable)
    signals = _HandOn(on_signal)
    try:
        with signals:
            launch("-u", "-m", *arguments)
    except _StoppedBeforeRanksError:
        print(f"zerostream: stopped before any rank had started. {_FIX}: start it again.", file=sys.stderr, flush=True)
        return EXIT_PREEMPTED
    except ChildFailedError as error:
        if hung := ranks_that_hung(run_dir):
            _say_who_hung(hung, nproc * (placement.nodes if placement else 1), run_dir)
            return EXIT_FAILED
        rank, failure = _root_cause(error.failures)
        if -failure.exitcode in signals.handed_on:  # from its first step to its end a rank does not die of these
            cause = f"stopped before rank {rank} was up"
            print(f"zerostream: {cause}. {_FIX}: start it again.", file=sys.stderr, flush=True)
            return EXIT_PREEMPTED
        rank_0 = error.failures.get(0)
        rank_0_has_said_it = rank == 0 or (rank_0 is not None and rank_0.exitcode == failure.exitcode)
        if not (rank_0_has_said_it and _FIX in _message(failure)):
            _say_last_words(rank, failure.exitcode, _message(failure))
        return int(failure.exitcode) if failure.exitcode in (EXIT_REFUSED, EXIT_PREEMPTED) else EXIT_FAILED
    return EXIT_FINISHED


def _launch_config(nproc: int, placement: Placement | None) -> LaunchConfig:
    from torch.distributed.launcher.api import LaunchConfig

    if placement is None:
        where: dict[str, Any] = {
            "run_id": uuid.uuid4().hex,
            "rdzv_backend": "c10d",
            "rdzv_endpoint": "127.0.0.1:0",
            "local_addr": "127.0.0.1",  # the machine's own name may not resolve, and ranks would wait for it in silence
        }
    else:
        host = f"[{placement.address}]" if ":" in placement.address else placement.address
        where = {
            "run_id": placement.run_id,
            "rdzv_backend": "static",
            "rdzv_endpoint": f"{host}:{placement.port}",
            "rdzv_configs": {"rank": placement.node},
            "local_addr": placement.address,
        }
    nodes = placement.nodes if placement else 1
    return LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=nproc,
        max_restarts=0,
        monitor_interval=0.1,
        signals_to_handle="SIGQUIT",  # the others are handed on by _HandOn
        shutdown_timeout=_SECONDS_TO_SIGKILL,
        **where,
    )


def _root_cause(failures: Mapping[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """The rank whose end made the others end.

    Agent and ranks tell the time in whole seconds, and a rank that lost its connection to a killed one may be seen first. Of all
    that ended before the agent would have killed them, a signal explains more than an exit code, a refusal more than an error, an
    error more than a rank that was told to stop because of it; and SIGTERM is what the agent itself tells them with.
    """
    began = min(failure.timestamp for failure in failures.values())
    codes = (EXIT_REFUSED, EXIT_FAILED, EXIT_PREEMPTED, -signal.SIGTERM)

    def order(item: tuple[int, ProcessFailure]) -> tuple[bool, int, int]:
        rank, failure = item
        code = failure.exitcode
        weight = codes.index(code) if code in codes else -1 if code < 0 else codes.index(EXIT_FAILED)
        return failure.timestamp >= began + _SECONDS_TO_SIGKILL - 1, weight, rank

    return min(failures.items(), key=order)


def _message(failure: ProcessFailure) -> str:
    """What the rank wrote down before it ended, or torch's own words."""
    message: Any = failure.message
    return str(message["message"] if isinstance(message, dict) else message)


class _StoppedBeforeRanksError(Exception):
    """A signal came while there was nobody to hand it on to."""


class _HandOn:
    """Hands signals on to every rank while ranks run: one that a terminal or scheduler sent to this process alone is meant for
    the run. Afterwards they are ignored: the outcome is known, and has to be told.
    """

    def __init__(self, on_signal: Callable[[int], None] = lambda number: None) -> None:
        import psutil  # here: a second signal would find it half imported by the first

        self._this_process = psutil.Process()
        self._on_signal = on_signal
        self._in_hand: set[int] = set()
        self.handed_on: set[int] = set()

    def __enter__(self) -> None:
        self._faults_before = _page_faults_of_the_dead()
        for number in _SIGNALS:
            signal.signal(number, self._hand_on)

    def __exit__(self, *exc_info: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        if number in self._in_hand:  # a storm of signals would nest without end
            return
        self._in_hand.add(number)
        try:
            self._on_signal(number)
            self._tell_ranks(number)
        finally:
            self._in_hand.discard(number)

    def _tell_ranks(self, number: int) -> None:
        children = _children_of(self._this_process)
        for child in children:
            if _RANK_MODULE in " ".join(_command_of(child)):
                self.handed_on.add(number)
                with suppress(ProcessLookupError):
                    os.kill(child.pid, number)
        # All ranks may have ended, whether the agent has noticed that or not: then there is nothing to stop any more.
        if not children and _page_faults_of_the_dead() == self._faults_before:
            raise _StoppedBeforeRanksError


def _children_of(this_process: psutil.Process) -> list[psutil.Process]:
    """Children of this process, those that have ended and are not yet reaped among them; psutil alone would read all of /proc."""
    import psutil

    lists = list(Path("/proc/self/task").glob("*/children"))
    if not lists:
        found: list[psutil.Process] = this_process.children()
        return found
    children = []
    for path in lists:
        with suppress(OSError):  # a thread that has just ended
            for number in path.read_text().split():
                with suppress(psutil.Error):
                    children.append(psutil.Process(int(number)))
    return children


def _page_faults_of_the_dead() -> int:
    """Grows with every child that has ended and been waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt


def _command_of(process: psutil.Process) -> list[str]:
    import psutil

    try:
        command: list[str] = process.cmdline()
    except psutil.Error:  # it has just ended
        return []
    return command


def _say_who_hung(ranks: list[int], nproc: int, run_dir: RunDir) -> None:
    silent = sorted(set(range(nproc)) - set(ranks))
    cause = f"rank {_list(ranks)} missed a deadline and wrote down where it stood"
    if silent:
        cause += f"; rank {_list(silent)} did not even do that, and may be stopped or cut off"
    fix = (
        f"read {run_dir.stacks(0).parent}, or raise train.step_timeout_seconds or train.start_timeout_seconds if it was only "
        "slow; the same command goes on from the last checkpoint"
    )
    print(f"zerostream: {cause}. {_FIX}: {fix}.", file=sys.stderr, flush=True)


def _list(ranks: Sequence[int]) -> str:
    return ", ".join(map(str, ranks))


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


def prepare_environment(nproc: int) -> None:
    """What ranks inherit: an even share of the cores, ninja on their path, and an agent that keeps quiet."""
    # torchrun would set one thread a rank; torch.compile and DeepSpeed look for ninja beside the interpreter.
    cores = available_cores()
    for name, value in _MALLOC.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // nproc)))
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    # The agent's own log repeats, at length, what the rank's last line says.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
