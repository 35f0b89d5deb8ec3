"""Talks to SLURM's own commands, each with a deadline: a controller that is away must not make anybody wait for ever."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from framework.errors import UserError
from launch.slurm.profile import time_limit_seconds

T = TypeVar("T")
_SECONDS = 30
_RETRY_SECONDS = 5.0
_FIELD = re.compile(r"(?:^|\s)([A-Za-z][\w:/]*)=(\S*)")
NEEDED = ("sbatch", "srun", "sinfo", "scontrol", "squeue", "scancel")
_NEVER = ("", "(null)", "None", "Unknown", "N/A", "NONE")


_AWAY = ("Unable to contact slurm controller", "Connection refused", "Socket timed out", "Zero Bytes were transmitted")


class SchedulerError(UserError):
    """SLURM refuses, is not there, or does not answer."""


class ControllerAwayError(SchedulerError):
    """The controller does not answer: it may be back in a while."""


@dataclass(frozen=True)
class Node:
    """One node of one partition."""

    name: str
    address: str
    cpus: int
    memory_megabytes: int
    gres: str
    state: str

    @property
    def gpus(self) -> int:
        """From ``gpu:h100:8(S:0-1),...``."""
        return sum(int(number) for number in re.findall(r"(?:^|,)gpu(?::[^:,(]+)?:(\d+)", self.gres))


@dataclass(frozen=True)
class Partition:
    """A queue and its nodes."""

    name: str
    is_default: bool
    is_up: bool
    time_limit_seconds: int | None
    """None if there is no limit."""
    time_limit: str
    nodes: tuple[Node, ...]
    default_time: str | None = None
    """Of a job that names none; None if the site gives no default."""


@dataclass(frozen=True)
class JobFacts:
    """What the controller knows of a job now. ``state`` is COMPLETING while nodes are cleaned up, whatever made it end."""

    state: str
    reason: str
    restarts: int
    ends_at: float | None
    """Unix time of the limit of a running job."""
    was_preempted: bool
    nodes: str
    """As SLURM abbreviates them."""
    excluded: str


def call(*command: str, seconds: float = _SECONDS, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of one of SLURM's commands.

    Args:
        command: words.
        seconds: the deadline.
        environment: in place of this process's own.

    Raises:
        SchedulerError: it is not on the path, fails, or does not answer in time.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=environment)
    except FileNotFoundError:
        raise SchedulerError(
            f"{command[0]} is not on the path, so there is no SLURM to ask",
            fix="log in to a node of the cluster where jobs are submitted, or load its SLURM module",
        ) from None
    except subprocess.TimeoutExpired:
        raise ControllerAwayError(
            f"`{' '.join(command)}` did not answer within {seconds:.0f} s",
            fix="ask `scontrol ping` whether the controller is up, then try again",
        ) from None
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        if any(sign in words for sign in _AWAY):
            raise ControllerAwayError(
                f"`{' '.join(command)}` did not reach the controller: {words}",
                fix="ask `scontrol ping` whether it is up, then try again",
            )
        raise SchedulerError(f"`{' '.join(command)}` failed: {words}", fix="correct what SLURM objects to")
    return done.stdout


def patiently(ask: Callable[[], T], seconds: float) -> T:
    """Asks again while the controller is away, as it is for a minute when it is restarted.

    Raises:
        SchedulerError: it refuses, or is away for longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except ControllerAwayError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(min(_RETRY_SECONDS, seconds))


def require_commands(*commands: str) -> None:
    """Refuses early where there is no SLURM: without any of ``commands``, or of all that a submission needs.

    Raises:
        SchedulerError: one of its commands is not on the path.
    """
    for name in commands or NEEDED:
        if shutil.which(name) is None:
            raise SchedulerError(
                f"{name} is not on the path, so nothing can be submitted here",
                fix="log in to a node of the cluster where jobs are submitted, or load its SLURM module; --dry-run needs none",
            )


def read_partitions(*, seconds: float = _SECONDS) -> dict[str, Partition]:
    """All partitions by name, with their nodes.

    Raises:
        SchedulerError: as ``call``.
    """
    found: dict[str, Partition] = {}
    command = ("sinfo", "--noheader", "--Node", "--format=%R|%P|%a|%l|%N|%o|%m|%c|%G|%t|%L")
    for line in call(*command, seconds=seconds).splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) < 10:
            continue
        name, starred, up, limit, node, address, memory, cpus, gres, state, *others = fields
        default_time = others[0] if others and others[0] not in ("n/a", "infinite", "") else None
        added = Node(node, address, _number(cpus), _number(memory), gres, state)
        before = found.get(name)
        nodes = (*before.nodes, added) if before else (added,)
        longest = None if limit in ("infinite", "n/a") else time_limit_seconds(limit)
        found[name] = Partition(name, starred.endswith("*"), up == "up", longest, limit, nodes, default_time)
    return found


def read_job(job_id: str) -> JobFacts | None:
    """What the controller knows of the job that asks; None once it has forgotten it.

    Raises:
        SchedulerError: the controller does not answer.
    """
    try:
        text = call("scontrol", "show", "job", "--oneliner", job_id)
    except SchedulerError as error:
        if "Invalid job id" in error.cause:
            return None
        raise
    return next((_facts(line) for line in text.splitlines() if "JobState=" in line), None)


def _facts(line: str) -> JobFacts:
    fields = dict(_FIELD.findall(line))
    return JobFacts(
        state=fields.get("JobState", ""),
        reason=_known(fields.get("Reason", "")),
        restarts=_number(fields.get("Restarts", "0")),
        ends_at=_unix_time(fields.get("EndTime", "")),
        was_preempted=_known(fields.get("PreemptTime", "")) != "",
        nodes=_known(fields.get("NodeList", "")),
        excluded=_known(fields.get("ExcNodeList", "")),
    )


def pending_reason(job_id: str) -> str | None:
    """Why a job does not run, in SLURM's word; None if it is not pending."""
    lines = [line for line in call("squeue", "--noheader", "--jobs", job_id, "--format=%T|%r").splitlines() if line]
    for line in lines:
        state, _, reason = line.partition("|")
        if state.strip() == "PENDING":
            return reason.strip()
    return None


def requeue(job_id: str) -> None:
    """Puts a running or completing job back into the queue.

    Raises:
        SchedulerError: the site does not allow it.
    """
    call("scontrol", "requeue", job_id)


def exclude_nodes(job_id: str, nodes: Sequence[str]) -> None:
    """Keeps a waiting or completing job from these nodes, and from no others.

    Raises:
        SchedulerError: as ``call``.
    """
    call("scontrol", "update", f"JobId={job_id}", f"ExcNodeList={','.join(nodes)}")


def expand_nodes(abbreviated: str) -> tuple[str, ...]:
    """Names behind ``node[1-3,7]``."""
    from submitit.slurm.slurm import _parse_node_list

    return tuple(_parse_node_list(abbreviated)) if abbreviated else ()


def node_address(name: str) -> str:
    """Under which address SLURM itself reaches a node; its name if SLURM says nothing.

    Raises:
        SchedulerError: as ``call``.
    """
    fields = dict(_FIELD.findall(call("scontrol", "show", "node", "--oneliner", name)))
    return _known(fields.get("NodeAddr", "")) or name


def names(items: Iterable[str]) -> str:
    """For a message."""
    return ", ".join(items)


def _known(text: str) -> str:
    return "" if text in _NEVER else text


def _number(text: str) -> int:
    digits = re.match(r"\d+", text)
    return int(digits[0]) if digits else 0


def _unix_time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()  # the controller's local time, which is the cluster's
    except ValueError:
        return None
