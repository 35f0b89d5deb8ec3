"""How much of an hour is useful steps when something fails every few minutes?

    python -m benchmarks.goodput                          a small run's costs, measured; a thousand hours with them, simulated
    python -m benchmarks.goodput --real-minutes 60        one of these hours for real: ranks are killed, and started again
    python -m benchmarks.goodput --save 30 --restart 120 --failure 3600     the interval for given seconds; nothing is measured

The costs are those of `zerostream train` on two ranks of this machine: a step; how long a save holds training, and how long it
goes on in the background; from a kill to the next new step. A step is useful when no later failure takes it back, and an
asynchronous save counts from when it has been written.

Young 1974, doi:10.1145/361147.361115: saves that cost C seconds should be sqrt(2 C M) seconds apart when failures come every M
seconds in the mean. Daly 2006, doi:10.1016/j.future.2004.11.016, has the terms of higher order. Prints one JSON line;
``--append FILE`` keeps it.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.command import ZEROSTREAM, zerostream
from benchmarks.records import add_output, publish
from framework.metrics.hardware import describe_environment
from framework.metrics.records import read_json_lines, read_last_json_lines
from framework.planner.interval import daly_interval, useful_share, young_interval
from framework.run_dir import RunDir

MEAN_FAILURE_SECONDS = 300.0
HOUR_SECONDS = 3600.0
SIMULATED_HOURS = 1000
CONFIG = """\
run_dir: FOLDER/run
model: {layers: 4, width: 128, heads: 4, context_length: 128}
tokenizer: {kind: train_bpe, vocab_size: 2048}
data: {source: embedded, documents: 2000, shards_dir: FOLDER/shards, lanes: 16}
engine: {zero_stage: 2, micro_batch_size: 8, global_batch_size: 16}
train: {max_steps: 1000000, eval_every_steps: 1000000}
logging: {tensorboard: false}
"""
_POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Costs:
    """Of one step; that a save holds training; that it then needs in the background; from a failure to the next new step."""

    step_seconds: float
    save_hold_seconds: float
    save_background_seconds: float
    restart_seconds: float


def simulate(
    costs: Costs, save_every_steps: int, seconds: float, failure_seconds: float, generator: random.Random
) -> float:
    """Useful share of the first ``seconds`` of a run, its first start included: time of the steps that are kept, by all time.

    What the last start has done by the end counts as kept: nothing takes it back.
    """
    now, saved = 0.0, 0
    while True:
        failure = now + generator.expovariate(1 / failure_seconds)
        now += costs.restart_seconds
        done, pending, written_at = saved, saved, math.inf
        while now + costs.step_seconds <= min(failure, seconds):
            now += costs.step_seconds
            done += 1
            if done % save_every_steps == 0:
                if written_at < math.inf:  # the save before this one is waited for
                    now = max(now, written_at)
                    saved = pending
                now += costs.save_hold_seconds
                pending, written_at = done, now + costs.save_background_seconds
        if failure >= seconds:
            return done * costs.step_seconds / seconds
        if written_at <= failure:
            saved = pending
        now = failure


def main() -> None:
    """Measures and simulates, or calculates, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--failure", type=float, default=MEAN_FAILURE_SECONDS, help="mean seconds between failures (default 300)"
    )
    parser.add_argument("--save", type=float, help="seconds that a save costs: calculate, and measure nothing")
    parser.add_argument(
        "--restart", type=float, default=60.0, help="with --save: seconds from failure to next step (default 60)"
    )
    parser.add_argument("--real-minutes", type=float, default=0.0, help="of a run whose ranks are really killed")
    parser.add_argument("--seed", type=int, default=0, help="of the failures (default 0)")
    add_output(parser)
    arguments = parser.parse_args()
    if arguments.save is None:
        result = measure(arguments.failure, arguments.real_minutes * 60, arguments.seed)
    else:
        result = calculate(arguments.save, arguments.restart, arguments.failure)
    publish(result, arguments.append)


def calculate(save_seconds: float, restart_seconds: float, failure_seconds: float) -> dict[str, Any]:
    """Both intervals, and which share of the time is useful with Daly's."""
    interval = daly_interval(save_seconds, failure_seconds)
    return {
        "question": "checkpoint_interval",
        "save_seconds": save_seconds,
        "restart_seconds": restart_seconds,
        "failure_seconds": failure_seconds,
        "young_interval_seconds": round(young_interval(save_seconds, failure_seconds), 1),
        "daly_interval_seconds": round(interval, 1),
        "useful_share": round(useful_share(interval, save_seconds, restart_seconds, failure_seconds), 4),
    }


def measure(failure_seconds: float, real_seconds: float, seed: int) -> dict[str, Any]:
    """The costs of a small run, a thousand simulated hours with them, and if asked for a part of one for real."""
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="goodput-") as folder:
        run = _Run(Path(folder))
        costs = run.measure_costs()
        # A save costs the time it holds training, and the steps that are lost because it was not written yet.
        interval = daly_interval(costs.save_hold_seconds + costs.save_background_seconds, failure_seconds)
        every = max(1, round(interval / costs.step_seconds))
        shares = sorted(
            simulate(costs, every, HOUR_SECONDS, failure_seconds, generator) for _ in range(SIMULATED_HOURS)
        )
        real = run.live_through_failures(every, real_seconds, failure_seconds, generator) if real_seconds else None
    return {
        "question": "goodput",
        "failure_seconds": failure_seconds,
        "costs": {key: round(value, 4) for key, value in asdict(costs).items()},
        "save_every_steps": every,
        "save_every_seconds": round(every * costs.step_seconds, 2),
        "simulated_hours": SIMULATED_HOURS,
        "useful_share_median": round(statistics.median(shares), 4),
        "useful_share_worst_of_20": round(shares[len(shares) // 20], 4),
        "real": real,
        "environment": describe_environment(2, torch.device("cpu")),
    }


class _Run:
    """A small run on two ranks that is killed and started again.

    Args:
        folder: empty; everything is written there.
    """

    def __init__(self, folder: Path) -> None:
        self._config = folder / "goodput.yaml"
        self._config.write_text(CONFIG.replace("FOLDER", str(folder)), encoding="utf-8")
        self._run_dir = RunDir(folder / "run")
        zerostream("prepare", self._config)

    def measure_costs(self) -> Costs:
        """Kills a run, and watches the start that goes on: when each step and each checkpoint appears."""
        every, last = 20, 300
        process = self._start(every)
        self._wait(process, lambda: self._steps_taken() >= 100)
        began = time.monotonic()
        self._kill_ranks(process)
        reached = self._steps_taken()
        process = self._start(every)
        self._wait(process, lambda: self._steps_taken() != reached)  # the lines of lost steps go, or new ones come
        resumed = min(self._steps_taken(), reached)
        self._wait(process, lambda: self._steps_taken() > resumed)
        restart = time.monotonic() - began
        seen: dict[int, float] = {}
        written: dict[int, float] = {}

        def watch() -> bool:
            now = time.monotonic()
            step = self._steps_taken()
            seen.setdefault(step, now)
            for saved in self._run_dir.checkpoint_steps():
                written.setdefault(saved, now)
            return step >= last

        self._wait(process, watch)
        self._kill_ranks(process)
        times = {line["step"]: line["step_seconds"] for line in read_json_lines(self._run_dir.metrics)}
        between = {
            step: seen[step] - seen[step - 1] - times[step] for step in seen if step - 1 in seen and step in times
        }
        usual = statistics.median(seconds for step, seconds in between.items() if (step - 1) % every)
        held = statistics.median(seconds for step, seconds in between.items() if (step - 1) % every == 0) - usual
        whole = statistics.median(written[step] - seen[step] for step in written if step in seen)
        hold = max(0.0, held)
        return Costs(statistics.median(times.values()) + max(0.0, usual), hold, max(0.0, whole - hold), restart)

    def live_through_failures(
        self, save_every_steps: int, seconds: float, failure_seconds: float, generator: random.Random
    ) -> dict[str, Any]:
        """Kills ranks for so long, and starts the same command again each time; useful is what stands at the end."""
        first = self._steps_taken()
        began = time.monotonic()
        failures = 0
        process = self._start(save_every_steps)
        while (left := began + seconds - time.monotonic()) > 0:
            until = time.monotonic() + min(left, generator.expovariate(1 / failure_seconds))
            while time.monotonic() < until:
                time.sleep(0.05)
            if time.monotonic() >= began + seconds:
                break
            failures += 1
            self._kill_ranks(process)
            process = self._start(save_every_steps)
        taken = time.monotonic() - began
        lines = read_json_lines(self._run_dir.metrics)
        self._kill_ranks(process)
        useful = sum(line["step_seconds"] for line in lines if line["step"] > first)
        return {
            "seconds": round(taken, 1),
            "failures": failures,
            "useful_steps": lines[-1]["step"] - first,
            "useful_share": round(useful / taken, 4),
        }

    def _start(self, save_every_steps: int) -> subprocess.Popen[bytes]:
        command = [
            *ZEROSTREAM,
            "train",
            str(self._config),
            f"checkpoint.every_steps={save_every_steps}",
            "--nproc",
            "2",
        ]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _kill_ranks(self, process: subprocess.Popen[bytes]) -> None:
        """One rank dies, as a machine does; the launcher notices, and ends the other."""
        ranks = [child for child in psutil.Process(process.pid).children() if "framework.train" in child.cmdline()]
        for rank in ranks[:1]:
            with suppress(ProcessLookupError):
                os.kill(rank.pid, signal.SIGKILL)
        process.wait(60)

    def _steps_taken(self) -> int:
        lines = read_last_json_lines(self._run_dir.metrics, 1)
        return int(lines[-1]["step"]) if lines else 0

    def _wait(self, process: subprocess.Popen[bytes], is_there: Callable[[], bool]) -> None:
        while not is_there():
            if process.poll() is not None:
                raise RuntimeError(f"the run ended with {process.returncode}; start it by hand to see why")
            time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
