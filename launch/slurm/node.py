"""What srun starts on each node: finds the others, looks at the node's health, then runs torchrun's agent for this node's ranks.

``python -m launch.slurm.node RUN_DIR`` ends with the exit code that all nodes agreed on.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from framework.durable import is_locked, write_durably
from framework.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_REFUSED, ZerostreamError
from framework.run_dir import RunDir
from launch.rendezvous import (
    Endpoint,
    RendezvousError,
    address_of_interface,
    interface_of,
    is_loopback,
    local_address_to,
    resolve,
)
from launch.slurm import scheduler
from launch.slurm.context import Start, append_line, this_start
from launch.slurm.job import Job, JobDir
from launch.slurm.meeting import Meeting, join, open_meeting
from launch.slurm.watcher import BatchScript, Watcher, decide_in_its_place


class _StoppedError(Exception):
    """A signal came before there were ranks to hand it on to."""


class Node:
    """This node in one start of a job."""

    def __init__(self, job_dir: JobDir, job: Job, start: Start) -> None:
        self.job_dir, self.job, self.start = job_dir, job, start
        self.was_terminated = False
        self.batch = BatchScript()
        self.number = int(os.environ.get("SLURM_NODEID", "0"))
        self.count = int(os.environ.get("SLURM_STEP_NUM_NODES") or os.environ.get("SLURM_JOB_NUM_NODES") or 1)
        self.name = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
        self.names = scheduler.expand_nodes(os.environ.get("SLURM_STEP_NODELIST") or self.name)

    def say(self, text: str) -> None:
        """To the batch log, and to the node's own."""
        print(f"{self.name}: {text}" if self.count > 1 else text, file=sys.stderr, flush=True)
        append_line(self.job_dir.node_log(self.start.job_id, self.start.restart, self.number), text)

    def note_signal(self, number: int) -> None:
        """On disk at once: this process may be killed before it could tell."""
        if number == signal.SIGTERM:
            self.was_terminated = True
        if self.number == 0:
            append_line(self.job_dir.signals(self.start.job_id, self.start.restart), signal.Signals(number).name)

    # --- One start ---

    def run(self) -> int:
        """Exit code of all nodes together."""
        self.prepare()
        if self.job.kind != "train":
            return self._run_command()
        with ExitStack() as stack:
            meeting = stack.enter_context(self._meet())
            if not meeting.check_health(self.job, self.job_dir, self.start, self.say):
                return meeting.agree(EXIT_FAILED)
            if self.number == 0:
                self._wait_for_older_start()
                shutil.rmtree(RunDir(self.job_dir.run).stacks(0).parent, ignore_errors=True)  # of an earlier start
            meeting.wait_for_go()
            code = self._run_ranks(meeting)
            agreed = meeting.agree(code)
            if agreed != code:
                self.say(f"this node's ranks ended with {code}; the run's exit code is {agreed}")
        return agreed

    def prepare(self) -> None:
        """Environment of everything that this node starts."""
        profile = self.job.profile
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # c10d warns of each address that has no name
        if profile.network_interface is not None:
            for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                os.environ.setdefault(name, profile.network_interface)
        if profile.scratch is not None:
            os.environ["TMPDIR"] = str(profile.scratch)

    def address(self) -> str:
        """Under which other nodes reach this one.

        Raises:
            RendezvousError: the profile names an interface that is not here, or the node's name does not resolve.
        """
        known = self.name
        with suppress(ZerostreamError):
            known = scheduler.node_address(self.name)
        interface = self.job.profile.network_interface
        if interface is not None:
            found = address_of_interface(interface)
            if found is None:
                raise RendezvousError(
                    f"node {self.name} has no network interface {interface}",
                    fix="set network_interface in the cluster profile to one that `ip address` shows on all nodes",
                )
            if is_loopback(found) and not is_loopback(resolve(known) or ""):
                raise RendezvousError(
                    f"network_interface {interface} of node {self.name} has address {found}, which no other node can reach",
                    fix="name one in the cluster profile that leads to other nodes, or leave it out: the route then tells",
                )
            return found
        found = resolve(known) or resolve(self.name)
        if found is None:
            raise RendezvousError(
                f"the name of the first node does not resolve: host {known}, on {self.name} itself",
                fix="ask the site to add it to DNS or /etc/hosts, or set network_interface in the cluster profile",
            )
        return found

    def _meet(self) -> Meeting:
        path = self.job_dir.rendezvous(self.start.job_id, self.start.restart)
        seconds = self.job.profile.rendezvous_timeout_seconds
        if self.number == 0:
            address = self.address() if self.count > 1 else "127.0.0.1"
            meeting = open_meeting(path, Endpoint(self.name, address, 0), self.names, seconds)
        else:
            meeting = join(path, self.number, self.names, seconds)
        if self.count > 1 and "GLOO_SOCKET_IFNAME" not in os.environ:
            # gloo would take the address behind the machine's name, which need not be the one that other nodes reach.
            mine = meeting.address if self.number == 0 else local_address_to(meeting.address, meeting.port)
            interface = interface_of(mine)
            if interface is not None:
                os.environ["GLOO_SOCKET_IFNAME"] = interface
        return meeting

    def _wait_for_older_start(self) -> None:
        """SLURM may have lost a node whose ranks live on; they end when they see that a newer start was announced.

        Raises:
            RendezvousError: they have not ended in time. Ranks would refuse the run, and that it is refused is final.
        """
        lock = RunDir(self.job_dir.run).lock
        seconds = self.job.profile.rendezvous_timeout_seconds
        deadline = time.monotonic() + seconds
        if is_locked(lock):
            self.say(f"waiting for an older start of this run to end: it holds {lock}")
        while is_locked(lock):
            if time.monotonic() >= deadline:
                raise RendezvousError(
                    f"another start of this run still holds {lock} after {seconds} s",
                    fix="look for its processes on the nodes of earlier starts, and end them",
                )
            time.sleep(0.5)

    def _run_ranks(self, meeting: Meeting) -> int:
        from launch.local import Placement, run_ranks

        logs = self.job_dir.logs(self.start.job_id, self.start.restart)
        logs.mkdir(parents=True, exist_ok=True)
        placement = Placement(self.count, self.number, meeting.address, meeting.port, self.start.name)
        with ExitStack() as stack:
            if self.number == 0:
                stack.enter_context(_shown(self.job_dir.rank_log(self.start.job_id, self.start.restart, 0)))
            stack.enter_context(Watcher(self, meeting.failure_elsewhere()))
            arguments = ["launch.slurm.rank", str(logs), "framework.train", *self.job.command[1:]]
            return run_ranks(arguments, self.job.ranks_per_node, RunDir(self.job_dir.run), placement, self.note_signal)

    def _run_command(self) -> int:
        """A command that is not cut into ranks of several nodes: it starts its own."""
        logs = self.job_dir.logs(self.start.job_id, self.start.restart)
        logs.mkdir(parents=True, exist_ok=True)
        path = self.job_dir.rank_log(self.start.job_id, self.start.restart, 0)
        command = self.job.command if self.job.kind == "benchmark" else ("launch.cli", *self.job.command)
        with _shown(path), path.open("ab") as log, Watcher(self, lambda: None):
            process = subprocess.Popen([sys.executable, "-u", "-m", *command], stdout=log, stderr=subprocess.STDOUT)

            def hand_on(number: int, frame: FrameType | None) -> None:
                self.note_signal(number)
                process.send_signal(number)

            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
                signal.signal(number, hand_on)
            code = process.wait()
        if -code in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            return EXIT_PREEMPTED
        return code if code >= 0 else EXIT_FAILED


class _shown:  # noqa: N801 - a context, as those of contextlib
    """Shows a growing log on standard output, from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        from torch.distributed.elastic.multiprocessing.tail_log import TailLog

        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self._tail = TailLog("rank", {0: str(self._path)}, sys.stdout, {0: ""}).start()

    def __exit__(self, *exc_info: object) -> None:
        self._tail.stop()
        sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """As the module says."""
    start, job_dir = this_start(), JobDir(Path(arguments[0]))
    node: Node | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        if node is not None:
            node.note_signal(number)
        raise _StoppedError

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, stop)
    try:
        node = Node(job_dir, job_dir.read(), start)
        code = node.run()
    except _StoppedError:
        print(
            "zerostream: stopped before any rank had started. To fix it: start it again.", file=sys.stderr, flush=True
        )
        code = EXIT_PREEMPTED
    except ZerostreamError as error:
        (node.say if node is not None else _say)(f"zerostream: {error}")
        # A node that finds something missing is no reason to give up the run: another start may find it there.
        code = EXIT_FAILED if error.exit_code == EXIT_REFUSED else error.exit_code
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if node is not None and node.number == 0:
        with suppress(ZerostreamError):  # then srun's own code has to do
            write_durably(job_dir.exit_code(start.job_id, start.restart), str(code).encode())
    if node is not None and node.number == 0 and node.batch.has_gone:
        decide_in_its_place(node, code)
    return code


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    ended: Any = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended if ended in (EXIT_FINISHED, EXIT_FAILED, EXIT_REFUSED, EXIT_PREEMPTED) else EXIT_FAILED)
