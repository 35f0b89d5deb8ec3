"""Named places where a test can make a real fault happen: ``ZEROSTREAM_FAILPOINTS`` arms them, nothing else does.

    ZEROSTREAM_FAILPOINTS="save.rename@40#0=kill, forward#1=sleep:30" ZEROSTREAM_FAILPOINTS_LOG=fired.jsonl zerostream train ...

``name[@step][#rank]=action[:argument]``: without a step, the first time the place is passed; without a rank, on each rank.
Every entry fires once a process, and writes a line to the log before it acts: a fault that never happened is told apart
from one that was survived. Actions::

    kill  term  int  usr2  stop     the signal, to this process
    raise                           RuntimeError
    sleep:SECONDS  hang             as if the machine stood still
    enospc  erofs  eio              the OSError of a file system that refuses
    nan  inf                        for places that hand over a value (``corrupted``): what it becomes

Unarmed, a place costs one look at an empty tuple.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import time
from dataclasses import dataclass, field
from typing import Literal, get_args

from framework.errors import ConfigError

Place = Literal[
    "import",
    "rendezvous",
    "load",
    "fetch",
    "forward",
    "loss",
    "backward",
    "accumulate",
    "gradient",
    "step",
    "save.begin",
    "save.copy",
    "save.write",
    "save.sync",
    "save.manifest",
    "save.rename",
    "save.retain",
    "evaluate",
    "metrics.write",
    "tensorboard.write",
    "shutdown",
]
PLACES: tuple[str, ...] = get_args(Place)

_VARIABLE, _LOG_VARIABLE = "ZEROSTREAM_FAILPOINTS", "ZEROSTREAM_FAILPOINTS_LOG"
_ENTRY = re.compile(
    r"(?P<place>[a-z.]+)(@(?P<step>\d+))?(#(?P<rank>\d+))?=(?P<action>[a-z0-9]+)(:(?P<argument>[\d.]+))?"
)
_SIGNALS = {
    "kill": signal.SIGKILL,
    "term": signal.SIGTERM,
    "int": signal.SIGINT,
    "usr2": signal.SIGUSR2,
    "stop": signal.SIGSTOP,
}
_ERRNOS = {"enospc": errno.ENOSPC, "erofs": errno.EROFS, "eio": errno.EIO}
_VALUES = {"nan": float("nan"), "inf": float("inf")}
_ACTIONS = {*_SIGNALS, *_ERRNOS, *_VALUES, "raise", "sleep", "hang"}


@dataclass
class _Fault:
    text: str
    place: str
    step: int | None
    rank: int | None
    action: str
    argument: float
    fired: bool = field(default=False)

    def is_due(self, place: str, step: int | None) -> bool:
        rank = int(os.environ.get("RANK", "0"))
        return not self.fired and place == self.place and self.step in (None, step) and self.rank in (None, rank)

    def note(self, step: int | None) -> None:
        """One durable line in the log, before anything happens."""
        self.fired = True
        log = os.environ.get(_LOG_VARIABLE)
        if not log:
            return
        rank = int(os.environ.get("RANK", "0"))
        line = {"fault": self.text, "rank": rank, "step": step, "time": time.time(), "pid": os.getpid()}
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
        finally:
            os.close(descriptor)


def arm(specification: str) -> None:
    """Replaces what is armed; an empty text disarms.

    Raises:
        ConfigError: an entry is not of the form above, or names no place or action.
    """
    global _armed
    _armed = tuple(_parse(entry.strip()) for entry in specification.split(",") if entry.strip())


def failpoint(place: Place, *, step: int | None = None) -> None:
    """Makes the armed fault of this place happen, if there is one. ``step`` counts from 1.

    Raises:
        OSError, RuntimeError: as armed.
    """
    for fault in _armed:
        if fault.action not in _VALUES and fault.is_due(place, step):
            fault.note(step)
            _act(fault)


def corrupted(place: Place, *, step: int | None = None) -> float | None:
    """NaN or infinity when this place is armed to hand one over, else None."""
    for fault in _armed:
        if fault.action in _VALUES and fault.is_due(place, step):
            fault.note(step)
            return _VALUES[fault.action]
    return None


def _act(fault: _Fault) -> None:
    if fault.action in _SIGNALS:
        os.kill(os.getpid(), _SIGNALS[fault.action])
    elif fault.action in _ERRNOS:
        number = _ERRNOS[fault.action]
        raise OSError(number, os.strerror(number))
    elif fault.action == "raise":
        raise RuntimeError(f"failpoint {fault.text}")
    else:
        time.sleep(fault.argument if fault.action == "sleep" else 1e9)


def _parse(entry: str) -> _Fault:
    match = _ENTRY.fullmatch(entry)
    if match is None or match["place"] not in PLACES or match["action"] not in _ACTIONS:
        raise ConfigError(
            f"{_VARIABLE} holds {entry!r}, which arms no fault",
            fix=f"write name[@step][#rank]=action with a name of {', '.join(PLACES)} and an action of "
            f"{', '.join(sorted(_ACTIONS))}, or unset it",
        )
    return _Fault(
        text=entry,
        place=match["place"],
        step=int(match["step"]) if match["step"] else None,
        rank=int(match["rank"]) if match["rank"] else None,
        action=match["action"],
        argument=float(match["argument"] or 0),
    )


_armed: tuple[_Fault, ...] = ()
arm(os.environ.get(_VARIABLE, ""))
