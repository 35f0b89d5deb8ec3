"""``zerostream logs``: what ranks and agents of one start said; with ``-f`` of every start that follows, until the run ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from framework.errors import RunDirError
from launch.slurm.job import JobDir
from launch.slurm.next_command import typed
from launch.slurm.state import State
from launch.slurm.status import look_at, refuse_no_run

_SECONDS_BETWEEN_LOOKS = 0.3
_SECONDS_BETWEEN_QUESTIONS = 15.0  # to SLURM; what the job writes into its history is seen at once
_CHUNK_BYTES = 1 << 20


def run_logs(run_dir: Path, *, follow: bool, all_ranks: bool, restart: int | None) -> None:
    """Prints the newest start's log, or that of ``restart``; Ctrl-C ends it without a word.

    Args:
        run_dir: of a submitted run.
        follow: go on with what comes, over requeues, until the run has ended.
        all_ranks: every rank and agent, each line with its name; otherwise the batch log, which holds rank 0 and what agents say.
        restart: 0 is the first start of the run, 1 the next, over all of its jobs.

    Raises:
        RunDirError: no run, not submitted, an array, or no such start.
    """
    refuse_no_run(run_dir)
    job_dir = JobDir(run_dir)
    if job_dir.read().tasks is not None:
        raise RunDirError(
            f"{run_dir} is an array of jobs, and each has logs of its own",
            fix=f"name one of them, such as `{typed('logs', job_dir.task(0).run)}`",
        )
    try:
        if follow:
            _follow(job_dir, all_ranks, restart)
        else:
            _print_whole(_choose(job_dir, restart), all_ranks)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # whoever read has enough, such as `head`; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _choose(job_dir: JobDir, restart: int | None) -> Path:
    starts = job_dir.starts()
    if not starts:
        [status] = look_at([job_dir.run])
        raise RunDirError(
            f"{job_dir.run} has no logs yet ({status.state})",
            fix=f"wait for its start, as `{typed('logs -f', job_dir.run)}` does",
        )
    if restart is None:
        return starts[-1]
    if restart >= len(starts):
        raise RunDirError(
            f"{job_dir.run} has no restart {restart}", fix=f"name one from 0 to {len(starts) - 1}; 0 is the first start"
        )
    return starts[restart]


def _print_whole(folder: Path, all_ranks: bool) -> None:
    tails = _Tails(folder, all_ranks)
    _write(tails.read_on())
    _write(tails.rest())


def _follow(job_dir: JobDir, all_ranks: bool, restart: int | None) -> None:
    if restart is not None:
        _choose(job_dir, restart)
    number = restart
    tails: _Tails | None = None
    watch = _End(job_dir)
    while True:
        is_over = watch.is_over()  # first: what is written before the end is then read below
        starts = job_dir.starts()
        if starts and number is None:
            number = len(starts) - 1
        while number is not None and number < len(starts):
            if tails is None:
                _remark(f"start {number}: job {starts[number].name.replace('-', ', restart ')}")
                tails = _Tails(starts[number], all_ranks)
            _write(tails.read_on())
            if number + 1 == len(starts):
                break
            _write(tails.rest())
            tails, number = None, number + 1
        if is_over:
            _write(tails.rest() if tails else iter(()))
            _remark(f"{watch.state}")
            return
        time.sleep(_SECONDS_BETWEEN_LOOKS)


class _End:
    """Whether the run has ended. Tells the person when it waits, and for what."""

    def __init__(self, job_dir: JobDir, clock: Callable[[], float] = time.monotonic) -> None:
        self._job_dir = job_dir
        self._clock = clock
        self._asked_at = float("-inf")
        self._events = -1
        self._said: str | None = None
        self.state: State | None = None

    def is_over(self) -> bool:
        events = self._job_dir.history.read()
        is_news = len(events) != self._events
        if not is_news and self._clock() - self._asked_at < _SECONDS_BETWEEN_QUESTIONS:
            return False
        self._asked_at, self._events = self._clock(), len(events)
        [status] = look_at([self._job_dir.run])
        self.state = status.state
        if self.state.name in ("queued", "requeued", "suspended", "unknown") and str(self.state) != self._said:
            self._said = str(self.state)
            _remark(self._said)
        return self.state.is_over


class _Tails:
    """The files of one start's folder; new ones are noticed."""

    def __init__(self, folder: Path, all_ranks: bool) -> None:
        self._folder = folder
        self._all_ranks = all_ranks
        self._tails: dict[str, _Tail] = {}

    def read_on(self) -> Iterator[str]:
        """Whole lines that have come since the last call."""
        for name in self._names():
            tail = self._tails.setdefault(name, _Tail(self._folder / name, self._prefix(name)))
            yield from tail.read_on()

    def rest(self) -> Iterator[str]:
        """What stands behind the last line end."""
        yield from self.read_on()
        for tail in self._tails.values():
            yield from tail.rest()

    def _names(self) -> list[str]:
        if not self._all_ranks:
            return ["batch.out"]
        with suppress(OSError):
            names = sorted(entry.name for entry in self._folder.iterdir() if entry.suffix == ".out")
            return [name for name in names if name != "batch.out"] or names
        return []

    def _prefix(self, name: str) -> str:
        kind, _, number = name.removesuffix(".out").partition("-")
        return f"[{kind} {int(number)}] " if self._all_ranks and number.isdigit() else ""


class _Tail:
    """One file, read from its beginning to wherever it ends now."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._path = path
        self._prefix = prefix
        self._offset = 0
        self._begun = b""

    def read_on(self) -> Iterator[str]:
        while content := self._read():
            *lines, self._begun = (self._begun + content).split(b"\n")
            for line in lines:
                yield self._decode(line)

    def rest(self) -> Iterator[str]:
        if self._begun:
            yield self._decode(self._begun)
            self._begun = b""

    def _read(self) -> bytes:
        with suppress(OSError), self._path.open("rb") as file:
            file.seek(self._offset)
            content = file.read(_CHUNK_BYTES)
            self._offset += len(content)
            return content
        return b""

    def _decode(self, line: bytes) -> str:
        return self._prefix + line.decode("utf-8", errors="replace").rstrip("\r") + "\n"


def _write(lines: Iterator[str]) -> None:
    for line in lines:
        sys.stdout.write(line)
    sys.stdout.flush()


def _remark(text: str) -> None:
    print(f"-- {text}", file=sys.stderr, flush=True)
