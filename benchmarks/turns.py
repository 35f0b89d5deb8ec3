"""Processes that take turns on one machine: what is compared is measured in one run, interleaved, so that noise meets all alike.

A side is any command whose process holds a ``benchmarks.turn_gate.TurnGate``. zerostream itself, of this or of another revision,
is the real ``framework.train`` with the gate as a plugin.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.turn_gate import GIVER

_PLUGIN = """
from pydantic import BaseModel
from framework.plugins.interface import Plugin
from zerostream_turn_gate import make_hooks

class Options(BaseModel):
    folder: str
    warmup: int
    steps: int
    slowdown: float = 0.0

plugin = Plugin("turn_gate", options=Options, hooks=make_hooks)
"""
_LONG = 10**7
NEVER_ENDS = (
    f"train.max_steps={_LONG}",
    f"train.eval_every_steps={_LONG}",
    f"checkpoint.every_steps={_LONG}",
    "train.step_timeout_seconds=86400",  # it waits while others have their turn
    "train.start_timeout_seconds=86400",
)
"""Overrides of a run that is measured: nothing but steps, and no deadline."""


class SideError(Exception):
    """A side ended, or did not answer; the message has the last lines of what it said."""


class Side:
    """One process, or one start of ranks, that waits for its turns until the context ends.

    Args:
        command: what to start.
        folder: of its own, for the pipes and its output; made here.
        environment: variables beside those of this process.
        directory: where it runs.
        patience_seconds: of a turn.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        patience_seconds: float = 900.0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("go", "answers"):
            os.mkfifo(folder / name)
        self._go, self._answers = (os.open(folder / name, os.O_RDWR) for name in ("go", "answers"))
        self._log = folder / "output.txt"
        self._patience = patience_seconds
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {}), GIVER: str(os.getpid())},
                cwd=directory,
                start_new_session=True,
            )

    def next_turn(self) -> dict[str, float]:
        """What it measured in its next turn; the first is its warm-up, start and compilation included.

        Raises:
            SideError: it ended, or took longer than its patience.
        """
        os.write(self._go, b"g")
        deadline, line = time.monotonic() + self._patience, b""
        while not line.endswith(b"\n"):
            if select.select([self._answers], [], [], 0.5)[0]:
                line += os.read(self._answers, 65536)
            elif self._process.poll() is not None:
                raise SideError(f"ended with {self._process.returncode}: {self._last_words()}")
            elif time.monotonic() > deadline:
                raise SideError(f"no answer within {self._patience:.0f} s: {self._last_words()}")
        values: dict[str, float] = json.loads(line)
        return values

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " | ".join(lines[-4:]) or "it said nothing"

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._go)
        os.close(self._answers)


def zerostream_side(
    config: Path,
    overrides: Sequence[str],
    folder: Path,
    *,
    warmup: int,
    steps: int,
    ranks: int = 1,
    tree: Path | None = None,
    slowdown: float = 0.0,
    threads: int | None = None,
) -> Side:
    """The real ``framework.train`` of ``tree`` (this one by default), started by torchrun, with the gate as a plugin."""
    from launch.local import prepare_environment

    tree = tree or Path(__file__).parent.parent
    plugin = folder / "plugin"
    _write_plugin(plugin)
    options = {"folder": folder / "side", "warmup": warmup, "steps": steps, "slowdown": slowdown}
    gate = [f"plugins.turn_gate.{key}={value}" for key, value in options.items()]
    run_dir = folder / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    started = [*torchrun, "-m", "framework.train", str(config), f"run_dir={run_dir}", *overrides, *NEVER_ENDS, *gate]
    prepare_environment(ranks)
    environment = {"PYTHONPATH": os.pathsep.join((str(tree), str(plugin))), "HF_HUB_OFFLINE": "1"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return Side(started, folder / "side", environment=environment, directory=tree)


def _write_plugin(folder: Path) -> None:
    """The gate as an installed distribution: what ``importlib.metadata`` finds on the path, and no more."""
    info = folder / "zerostream_turn_gate-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zerostream_turn_gate\nVersion: 0\n", encoding="utf-8")
    entry = "[zerostream.plugins]\nturn_gate = zerostream_turn_gate_plugin:plugin\n"
    (info / "entry_points.txt").write_text(entry, encoding="utf-8")
    shutil.copy(Path(__file__).parent / "turn_gate.py", folder / "zerostream_turn_gate.py")
    (folder / "zerostream_turn_gate_plugin.py").write_text(_PLUGIN, encoding="utf-8")


def interleave(
    sides: Mapping[str, Side], turns: int, *, optional: Collection[str] = ()
) -> dict[str, list[dict[str, float]]]:
    """``turns`` turns of every side after its warm-up: forwards, backwards, forwards (A B, B A, A B, ...).

    Args:
        sides: by name.
        turns: of each.
        optional: sides that are left out, and named on stderr, where they do not come through their warm-up.

    Raises:
        SideError: another side ended, or any did after its warm-up.
    """
    ready = []
    for name, side in sides.items():
        try:
            side.next_turn()
            ready.append(name)
        except SideError as error:
            if name not in optional:
                raise
            print(f"{name} is left out: {error}", file=sys.stderr, flush=True)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in ready}
    for number in range(turns):
        for name in ready if number % 2 == 0 else ready[::-1]:
            measured[name].append(sides[name].next_turn())
    return measured


def rate(turns: Sequence[Mapping[str, Any]], *, of: str = "tokens", per: str = "seconds") -> float:
    """Median over turns of what was done per second."""
    return float(statistics.median(turn[of] / turn[per] for turn in turns))
