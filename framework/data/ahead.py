"""Fetches remote shards before the lanes get there. The order function tells which, and when each is needed."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator

from framework.data.order import Address
from framework.errors import ZerostreamError

THREADS = 4
"""One connection seldom fills the line."""
_POLL_SECONDS = 0.5


class ReadAhead:
    """Threads that bring the next shards of a rank's lanes into the cache, those that are needed first before the others.

    Use as a context manager. What cannot be fetched is left to the reader, which has the last word about it.

    Args:
        openings: cursors at which a lane begins to read a shard, ascending, with the address.
        hold: brings the shard at an address into the cache and keeps it there until the descriptor that it returns is
            closed; None if there is no room.
        shards: so many openings ahead of the reader at most.
    """

    def __init__(
        self, openings: Iterator[tuple[int, Address]], hold: Callable[[Address], int | None], shards: int
    ) -> None:
        self._openings = openings
        self._hold = hold
        self._shards = shards
        self._position = -1
        self._awaited: deque[int] = deque()  # cursors of the openings that were drawn and not yet read
        self._read = 0  # openings that were drawn and read
        self._held: list[tuple[int, int]] = []  # (cursor, descriptor)
        self._stopped = False
        self._changed = threading.Condition()
        self._drawing = threading.Lock()

    def __enter__(self) -> ReadAhead:
        for _ in range(THREADS):
            threading.Thread(target=self._run, name="shard-ahead", daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._changed:
            self._stopped = True
            self._let_go(self._held)
            self._changed.notify_all()

    def advance(self, cursor: int) -> None:
        """Says that all up to ``cursor`` has been read."""
        with self._changed:
            self._position = cursor
            if self._awaited and self._awaited[0] <= cursor:
                self._count_read()
                self._let_go([held for held in self._held if held[0] <= cursor])
                self._changed.notify_all()

    def _count_read(self) -> None:
        while self._awaited and self._awaited[0] <= self._position:
            self._awaited.popleft()
            self._read += 1

    def _let_go(self, over: list[tuple[int, int]]) -> None:
        self._held = [held for held in self._held if held not in over]
        for _, descriptor in over:
            os.close(descriptor)

    def _run(self) -> None:
        while True:
            with self._drawing:  # so that numbers and cursors ascend together
                opening = next(self._openings, None)
                if opening is None:
                    return
                cursor, address = opening
                with self._changed:
                    self._awaited.append(cursor)
                    number = self._read + len(self._awaited) - 1
                    self._count_read()
            if not self._bring(number, cursor, address):
                return

    def _bring(self, number: int, cursor: int, address: Address) -> bool:
        """Until the shard is there, or no longer awaited; False when it is time to end."""
        while self._wait_for_turn(number, cursor):
            try:
                descriptor = self._hold(address)
            except (ZerostreamError, OSError):
                return True
            if descriptor is not None:
                return self._take(cursor, descriptor)
            with self._changed:
                self._changed.wait(_POLL_SECONDS)  # room is made by readers, in this process or another
        return not self._stopped

    def _wait_for_turn(self, number: int, cursor: int) -> bool:
        """Whether the shard of opening ``number`` may be fetched now; False if it has been read, or all is over."""
        with self._changed:
            while not self._stopped and self._position < cursor and number >= self._read + self._shards:
                self._changed.wait(_POLL_SECONDS)
            return not self._stopped and self._position < cursor

    def _take(self, cursor: int, descriptor: int) -> bool:
        with self._changed:
            if self._stopped or self._position >= cursor:
                os.close(descriptor)
            else:
                self._held.append((cursor, descriptor))
            return not self._stopped
