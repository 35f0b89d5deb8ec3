"""Files that a full or broken disk makes wait, and never makes fail: training does not depend on what it writes about itself.

What cannot be written stays in memory, in order, and is tried again at every further write; standard error hears once
that a file is refused and once that it is whole again. A record stands in the file entirely or not at all: one that
was cut short is taken back, and is overwritten by the next attempt if even that is refused.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from framework.durable import write_durably
from framework.errors import StorageError
from framework.failpoints import Place, failpoint

WAITING_RECORDS = 100_000
"""More than these are lost, the newest first: the first ones may hold what the others need to be read."""
WAITING_FILES = 1_000


class PatientFile:
    """A file that grows by whole records.

    Args:
        path: made when missing, as soon as the file system allows it.
        place: the failpoint passed by every write.
        kept_bytes: given the open file's descriptor, how much of its beginning stays; the rest is cut off.
    """

    def __init__(self, path: Path, place: Place, kept_bytes: Callable[[int], int]) -> None:
        self._path = path
        self._place: Place = place
        self._kept_bytes = kept_bytes
        self._descriptor: int | None = None
        self._end = 0
        self._waiting: deque[bytes] = deque()
        self._refusal = _Refusal(path, "records")
        self._lock = threading.Lock()  # a background save may tell of itself while the loop does
        with self._lock:
            try:
                self._open()
            except OSError as error:
                self._refusal.begin(error, waiting=0)

    def append(self, record: bytes, *, step: int | None = None) -> None:
        """Adds one record, so that it can be read at once; ``step`` is for the failpoint. Never an ``OSError``."""
        with self._lock:
            if len(self._waiting) < WAITING_RECORDS:
                self._waiting.append(record)
            else:
                self._refusal.lost += 1
            self._write_waiting(step)

    def close(self) -> None:
        """Tries a last time, syncs and closes; says what could not be written."""
        with self._lock:
            if self._waiting:
                self._write_waiting(None)
            try:
                if self._descriptor is not None:
                    os.fsync(self._descriptor)  # some file systems say only now that they could not keep it
            except OSError as error:
                self._refusal.begin(error, waiting=len(self._waiting))
            finally:
                self._close()
            if self._waiting:
                self._refusal.give_up(len(self._waiting))

    def _write_waiting(self, step: int | None) -> None:
        try:
            failpoint(self._place, step=step)
            self._open()
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            self._refusal.begin(error, waiting=len(self._waiting))
        else:
            self._refusal.end()

    def _open(self) -> None:
        if self._descriptor is not None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            end = self._kept_bytes(descriptor)
            if end < os.fstat(descriptor).st_size:
                os.ftruncate(descriptor, end)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self._end = descriptor, end

    def _write(self, record: bytes) -> None:
        assert self._descriptor is not None
        try:
            # At the end of the last whole record, whatever stands behind it.
            written = os.pwrite(self._descriptor, record, self._end)
            if written < len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise
        self._end += written

    def _close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


class PatientFolder:
    """A folder that takes whole files; made with the first of them."""

    def __init__(self, path: Path, place: Place) -> None:
        self._path = path
        self._place: Place = place
        self._waiting: dict[str, bytes] = {}
        self._refusal = _Refusal(path, "files")

    def put(self, name: str, content: bytes, *, step: int | None = None) -> None:
        """Writes ``name`` and what waited before it; ``step`` is for the failpoint. Never an ``OSError``."""
        if name in self._waiting or len(self._waiting) < WAITING_FILES:
            self._waiting[name] = content
        else:
            self._refusal.lost += 1
        try:
            failpoint(self._place, step=step)
            self._path.mkdir(exist_ok=True)
            for waiting in list(self._waiting):
                write_durably(self._path / waiting, self._waiting[waiting])
                del self._waiting[waiting]
        except (OSError, StorageError) as error:
            self._refusal.begin(error, waiting=len(self._waiting))
        else:
            self._refusal.end()

    def close(self) -> None:
        """Says what could not be written."""
        if self._waiting:
            self._refusal.give_up(len(self._waiting))


class _Refusal:
    """What standard error hears about one file: once when it is refused, once when it is whole again."""

    def __init__(self, path: Path, things: str) -> None:
        self._path = path
        self._things = things
        self._is_on = False
        self._most_waiting = 0
        self.lost = 0

    def begin(self, error: OSError | StorageError, *, waiting: int) -> None:
        self._most_waiting = max(self._most_waiting, waiting)
        if self._is_on:
            return
        self._is_on = True
        refusal = error.__cause__ if isinstance(error, StorageError) else error
        reason = getattr(refusal, "strerror", None) or str(error)
        _warn(
            f"{self._path} cannot be written: {reason}. Training goes on, and its {self._things} wait in memory. "
            "To fix it: free space there or make it writable"
        )

    def end(self) -> None:
        if self._is_on:
            self._is_on = False
            waited = f"{self._most_waiting} {self._things} had waited"
            _warn(f"{self._path} can be written again: {waited}{self._describe_lost()}")
            self._most_waiting = self.lost = 0

    def give_up(self, waiting: int) -> None:
        _warn(f"{self._path} lacks its last {waiting} {self._things}: they could not be written{self._describe_lost()}")

    def _describe_lost(self) -> str:
        return f", {self.lost} more are lost" if self.lost else ""


def _warn(text: str) -> None:
    with suppress(OSError):  # it may be a file on the same disk
        print(f"zerostream: warning: {text}", file=sys.stderr, flush=True)
