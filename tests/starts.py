"""Starts ranks, through the zygote or through ``zerostream train``, and says how they ended and what they left behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DEADLINE_SECONDS = 240.0


@dataclass(frozen=True)
class Ended:
    """How a start ended.

    ``codes`` are the ranks' exit codes (negative for a signal; empty for ``zerostream train``, which keeps them to itself);
    ``first`` is the rank that failed first; ``time`` is when all had ended, as ``time.time()`` counts.
    """

    exit_code: int
    codes: tuple[int, ...]
    first: int | None
    time: float
    text: str
    last_words: str
    left_over: tuple[int, ...]
    too_long: bool


class Running:
    """A start in progress; ``pids`` are its ranks', ``launcher`` is the process of ``zerostream train``."""

    def __init__(self, pids: list[int], launcher: int | None, fired_log: Path, wait: Callable[[float], Ended]) -> None:
        self.pids = pids
        self.launcher = launcher
        self._fired_log = fired_log
        self.wait = wait

    def fired(self) -> list[dict[str, Any]]:
        """The faults that have happened, by their log."""
        return read_fired(self._fired_log)

    def wait_until_fired(self, count: int = 1, seconds: float = 150) -> list[dict[str, Any]]:
        """Waits for the ``count``-th fault to happen."""
        end = time.monotonic() + seconds
        while len(self.fired()) < count:
            if time.monotonic() > end:
                raise AssertionError(f"{len(self.fired())} of {count} faults happened within {seconds:.0f} s")
            time.sleep(0.01)
        return self.fired()


def read_fired(log: Path) -> list[dict[str, Any]]:
    """All lines of a failpoint log."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


class Zygote:
    """The process that forks others (tests/zygote.py); a context manager.

    ``python`` is a Python whose starts of ``zerostream`` and of ranks are such forks.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="zygote-"))
        self.python = self._folder / "python"
        words = [sys.executable, "-S", "-E", str(ROOT / "tests" / "forked_python.py"), str(self.python)]
        self.python.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        self.python.chmod(0o755)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Zygote:
        command = [sys.executable, "-m", "tests.zygote", str(self._folder / "socket")]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=rank_environment({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the zygote did not come up; its error stands above")
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(
        self,
        arguments: list[str],
        ranks: int,
        folder: Path,
        environment: dict[str, str],
        trace: Path | None = None,
        module: str = "framework.train",
    ) -> Running:
        """Starts ``python -m module`` with ``arguments`` on so many ranks; they write below ``folder``."""
        folder.mkdir(parents=True)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._folder / "socket"))
        request = {
            "module": module,
            "arguments": arguments,
            "directory": str(ROOT),
            "ranks": ranks,
            "environment": environment,
            "folder": str(folder),
            "trace": str(trace) if trace else None,
        }
        connection.sendall((json.dumps(request) + "\n").encode())
        answers = connection.makefile("r")
        pids: list[int] = json.loads(answers.readline())["pids"]

        def wait(seconds: float) -> Ended:
            connection.settimeout(seconds)
            try:
                last: dict[str, Any] = json.loads(answers.readline())
                too_long = False
            except TimeoutError:
                last = {"exit_code": -1, "codes": [], "first": None, "ended": time.time()}
                too_long = True
            connection.close()  # ends what still runs
            answers.close()
            left_over = tuple(sessions_of(pids, patience_seconds=5.0 if too_long else 0.5))
            text, words = _what_ranks_said(folder, last["first"])
            return Ended(
                last["exit_code"], tuple(last["codes"]), last["first"], last["ended"], text, words, left_over, too_long
            )

        return Running(pids, None, Path(environment.get("ZEROSTREAM_FAILPOINTS_LOG", "/nonexistent")), wait)


def start_launcher(arguments: list[str], ranks: int, folder: Path, environment: dict[str, str]) -> Running:
    """Starts ``zerostream train``, as a user does."""
    folder.mkdir(parents=True)
    log = (folder / "launcher.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "launch.cli", "train", *arguments, "--nproc", str(ranks)],
        cwd=ROOT,
        env=rank_environment(environment),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    [mark] = [argument for argument in arguments if argument.startswith("run_dir=")]

    def wait(seconds: float) -> Ended:
        try:
            code, too_long = process.wait(seconds), False
        except subprocess.TimeoutExpired:
            code, too_long = -1, True
            for pid in (process.pid, *named(mark)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        log.close()
        ended = time.time()
        text = (folder / "launcher.log").read_text(errors="replace")
        # A killed launcher's ranks have to find out for themselves; that is part of the time to notice.
        left_over = tuple(wait_until_gone(lambda: list(named(mark)), 30.0 if code == -signal.SIGKILL else 1.0))
        if code == -signal.SIGKILL:
            ended = time.time()
        lines = [line for line in text.splitlines() if line.strip()]
        return Ended(code, (), None, ended, text, lines[-1] if lines else "", left_over, too_long)

    return Running([], process.pid, Path(environment.get("ZEROSTREAM_FAILPOINTS_LOG", "/nonexistent")), wait)


def rank_environment(more: dict[str, str]) -> dict[str, str]:
    """This process's environment, with one thread a rank, without a GPU, without the network."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ZEROSTREAM_FAILPOINTS")}
    return {
        **kept,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        **more,
    }


def named(mark: str) -> Iterator[int]:
    """Processes that have ``mark`` among their arguments, this one and its parents excepted."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if mark.encode() in entry.read_bytes().split(b"\0") and int(entry.parent.name) != os.getpid():
                yield int(entry.parent.name)


def sessions_of(pids: list[int], patience_seconds: float) -> list[int]:
    """Living processes of the ranks' sessions: the ranks, and whatever they have started."""

    def alive() -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError, IndexError):
                fields = entry.read_text().rpartition(")")[2].split()  # state, parent, group, session, ...
                if int(fields[3]) in pids and fields[0] not in "ZX":
                    found.append(int(entry.parent.name))
        return found

    return wait_until_gone(alive, patience_seconds)


def wait_until_gone(alive: Callable[[], list[int]], patience_seconds: float) -> list[int]:
    """What is still there after so long; it is killed then."""
    end = time.monotonic() + patience_seconds
    while (found := alive()) and time.monotonic() < end:
        time.sleep(0.02)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def _what_ranks_said(folder: Path, first: int | None) -> tuple[str, str]:
    """All that the ranks wrote, and why the first of them to fail says it did."""
    text = "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob("rank-*.log")))
    words = ""
    if first is not None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            error = json.loads((folder / f"rank-{first}.error.json").read_text())
            words = error["message"]["message"]
    return text, words
