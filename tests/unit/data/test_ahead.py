from __future__ import annotations

import fcntl
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from framework.data.ahead import THREADS, ReadAhead
from framework.data.order import Address
from framework.errors import StorageError


class Shelf:
    """Holds real files by real locks, and says no as long as it is told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.asked: list[int] = []
        self.broken: set[int] = set()
        self.is_full = False

    def hold(self, address: Address) -> int | None:
        self.asked.append(address.shard)
        if address.shard in self.broken:
            raise StorageError("no answer", fix="wait")
        if self.is_full:
            return None
        descriptor = os.open(self._folder / str(address.shard), os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return descriptor

    def held(self) -> set[int]:
        return {int(path.name) for path in self._folder.iterdir() if is_held(path)}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def is_held(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def openings() -> Iterator[tuple[int, Address]]:
    """A shard every ten cursors; its number is the cursor's."""
    return ((cursor, Address(0, cursor, 0)) for cursor in itertools.count(0, 10))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ended() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name == "shard-ahead"]


def test_it_stays_a_few_shards_ahead_and_lets_go_of_what_was_read(shelf: Shelf) -> None:
    with ReadAhead(openings(), shelf.hold, shards=3) as ahead:
        wait_until(lambda: shelf.held() == {0, 10, 20})
        for cursor in range(0, 200, 5):
            ahead.advance(cursor)
            wanted = {first for first in range(cursor + 1, cursor + 31) if first % 10 == 0}
            wait_until(lambda: shelf.held() == wanted)  # noqa: B023 - over before the loop goes on
        assert len(set(shelf.asked)) == len(shelf.asked)
    wait_until(ended)
    assert not shelf.held()


def test_what_was_read_before_its_turn_is_not_fetched(shelf: Shelf) -> None:
    shelf.is_full = True
    with ReadAhead(openings(), shelf.hold, shards=2) as ahead:
        wait_until(lambda: len(shelf.asked) > 0)
        ahead.advance(1000)
        shelf.is_full = False
        wait_until(lambda: shelf.held() == {1010, 1020})
        assert not {*range(THREADS * 10, 1001, 10)} & set(shelf.asked)
    wait_until(ended)


def test_it_waits_for_room(shelf: Shelf) -> None:
    shelf.is_full = True
    with ReadAhead(openings(), shelf.hold, shards=2):
        wait_until(lambda: 0 in shelf.asked)
        shelf.is_full = False
        wait_until(lambda: shelf.held() == {0, 10})
    wait_until(ended)
    assert not shelf.held()


def test_what_cannot_be_fetched_is_left_to_the_reader(shelf: Shelf) -> None:
    shelf.broken = {0, 10, 20}
    with ReadAhead(openings(), shelf.hold, shards=2) as ahead:
        wait_until(lambda: set(shelf.asked) == {0, 10})
        assert not shelf.held()
        ahead.advance(10)
        # 30 may be there before another thread has asked for 20.
        wait_until(lambda: shelf.held() == {30} and set(shelf.asked) == {0, 10, 20, 30})
    wait_until(ended)
