"""What happened to a job, one JSON object a line: written by the job on its nodes and by commands on the login node."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from framework.durable import storage_errors

Kind = Literal[
    "submitted", "started", "ended", "stopped", "requeued", "followed_up", "gave_up", "excluded", "cancelled"
]


class Event(BaseModel):
    """One line of ``history.jsonl``.

    ``restart`` counts the starts of one job from 0, as SLURM does; ``step`` is that of the newest checkpoint at that moment, None
    if there is none; ``nodes`` are those of the start, or those that were excluded.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    time: float
    event: Kind
    job_id: str | None = None
    restart: int = 0
    nodes: tuple[str, ...] = ()
    step: int | None = None
    exit_code: int | None = None
    reason: str = ""
    is_excused: bool = False
    """Of an end: the start does not count as one in vain, as SLURM ended it for others' sake."""


class History:
    """The events of one job directory, oldest first. Several processes may append: each event is one write."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(
        self,
        event: Kind,
        *,
        job_id: str | None = None,
        restart: int = 0,
        nodes: tuple[str, ...] = (),
        step: int | None = None,
        exit_code: int | None = None,
        reason: str = "",
        is_excused: bool = False,
    ) -> Event:
        """Adds an event and syncs it.

        Raises:
            StorageError: the file system refuses.
        """
        happened = Event(
            time=time.time(),
            event=event,
            job_id=job_id,
            restart=restart,
            nodes=nodes,
            step=step,
            exit_code=exit_code,
            reason=reason,
            is_excused=is_excused,
        )
        line = (json.dumps(happened.model_dump(mode="json"), ensure_ascii=False) + "\n").encode()
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                if _ends_within_a_line(descriptor):  # a writer died: its torn line must not swallow this one
                    line = b"\n" + line
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return happened

    def read(self) -> list[Event]:
        """All events; a line that a crash has cut is passed over."""
        try:
            lines = self._path.read_bytes().splitlines()
        except OSError:
            return []
        events = []
        for line in lines:
            try:
                events.append(Event.model_validate_json(line))
            except ValidationError:
                continue
        return events


def of_newest_submission(events: Sequence[Event]) -> Sequence[Event]:
    """What happened since the user submitted or resubmitted the run; a follow-up job is no new submission."""
    for number in range(len(events) - 1, 0, -1):
        if events[number].event == "submitted" and events[number - 1].event != "followed_up":
            return events[number:]
    return events


def _ends_within_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
