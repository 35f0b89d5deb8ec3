"""A thread beside the agent, while ranks run: it ends them when they have no future, and decides when SLURM ends the job."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from framework.errors import ZerostreamError
from launch.slurm import scheduler
from launch.slurm.afterwards import conclude
from launch.slurm.context import BATCH_PROCESS, current_start

if TYPE_CHECKING:
    import psutil

    from launch.slurm.node import Node

_SCRIPT_NAME = "slurm_script"  # slurmd's name for a batch script
_WATCH_SECONDS = 1.0
_SECONDS_TO_SIGKILL = 10.0


class Watcher:
    """While ranks run: ends them when another node's have failed, or when a newer start of the run was announced.

    On the first node it also notices when SLURM ends the job: what comes next is then decided before it kills this agent, as the
    ranks may take longer to save than it waits.
    """

    def __init__(self, node: Node, failed_elsewhere: Callable[[], str | None]) -> None:
        self._node = node
        self._failed_elsewhere = failed_elsewhere
        self._done = threading.Event()
        self._has_asked = False
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()

    def _watch(self) -> None:
        batch = self._node.batch
        is_decided = self._node.number > 0 or not batch.is_known
        while not self._done.wait(_WATCH_SECONDS):
            if not is_decided and (batch.has_gone or self._is_ended_by_slurm()):
                is_decided = True
                decide_in_its_place(self._node, None)
            newer = current_start(self._node.job_dir)
            if newer is not None and newer != self._node.start:
                # They can save: nothing is wrong with them, and the newer start waits.
                seconds = self._node.job.profile.rendezvous_timeout_seconds / 2
                self._end_ranks(f"a newer start of this run was announced ({newer.name}): this one ends", seconds)
                return
            reason = self._failed_elsewhere()
            if reason is not None:
                # A rank that is about to end by itself says more than one that was killed.
                if not self._done.wait(3 * _WATCH_SECONDS):
                    self._end_ranks(f"{reason}: this node's ranks end as well", _SECONDS_TO_SIGKILL)
                return

    def _is_ended_by_slurm(self) -> bool:
        """Whether a SIGTERM came with the job's end (time limit, preemption, requeue), and not alone from a user."""
        if not self._node.was_terminated or self._has_asked:
            return False
        self._has_asked = True
        try:
            seen = scheduler.read_job(self._node.start.job_id)
        except ZerostreamError:
            return False
        return seen is not None and seen.state != "RUNNING"

    def _end_ranks(self, reason: str, patience_seconds: float) -> None:
        import psutil

        self._node.say(reason)
        ranks = psutil.Process().children()
        for number, seconds in ((signal.SIGTERM, patience_seconds), (signal.SIGKILL, 0.0)):
            for rank in ranks:
                with suppress(psutil.Error):
                    rank.send_signal(number)
            if self._done.wait(seconds):
                return


class BatchScript:
    """What decides after this start, as long as it lives; seen from the first node's agent.

    In a container it may be invisible, or SLURM's commands may be missing: then it is taken for alive, and nobody decides in its
    place.
    """

    def __init__(self) -> None:
        import psutil

        self._process: psutil.Process | None = None
        number = os.environ.get(BATCH_PROCESS, "")
        if not number.isdigit() or shutil.which("scontrol") is None:
            return
        with suppress(psutil.Error):
            process = psutil.Process(int(number))
            if _SCRIPT_NAME in " ".join(process.cmdline()):
                self._process = process

    @property
    def has_gone(self) -> bool:
        import psutil

        if self._process is None:
            return False
        try:
            return not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False

    @property
    def is_known(self) -> bool:
        return self._process is not None


def decide_in_its_place(node: Node, code: int | None) -> None:
    """``code`` is the ranks' together; None while they live: then only going on is decided."""
    try:
        decision = conclude(node.job_dir, node.start, code)
    except ZerostreamError as error:
        node.say(f"zerostream: {error}")
    else:
        if decision is not None:
            node.say(f"SLURM ends this start, {decision.action.replace('_', ' ')}: {decision.reason}")
