"""Runs the fault matrix, and writes its table.

python -m tests.faults --seed 0 --jobs 2 --write docs/reliability.md
python -m tests.faults --only "SIGKILL|shard" --keep /tmp/matrix
python -m tests.faults --keep /tmp/matrix --minutes 5

The last one goes on where it stopped when it is started again, and ends with 75 until all is done.
"""

from __future__ import annotations

import argparse
import math
import re
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from framework.errors import EXIT_PREEMPTED
from tests.faults.case import Workshop
from tests.faults.oracle import describe, read_verdict
from tests.faults.scenario import Scenario, Verdict
from tests.faults.scenarios import all_scenarios
from tests.faults.table import write_table
from tests.starts import Zygote


def main() -> int:
    """1 when any scenario has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the places where faults strike (default 0)")
    parser.add_argument("--jobs", type=int, default=3, help="scenarios at the same time (default 3: many only wait)")
    parser.add_argument("--only", default="", help="scenarios whose kind and name match this pattern")
    parser.add_argument("--quick", action="store_true", help="the short part that `make test` runs")
    parser.add_argument("--list", action="store_true", help="print the scenarios and start nothing")
    parser.add_argument("--keep", type=Path, help="leave all runs in this folder, and one JSON line per scenario")
    parser.add_argument("--minutes", type=float, help="begin no scenario later than this; needs --keep to go on")
    parser.add_argument("--write", type=Path, help="put the table into this page")
    arguments = parser.parse_args()
    scenarios = [
        scenario
        for scenario in all_scenarios(arguments.seed)
        if re.search(arguments.only, f"{scenario.kind} {scenario.name}") and (scenario.is_quick or not arguments.quick)
    ]
    if arguments.list:
        for scenario in scenarios:
            print(
                f"{scenario.kind}: {scenario.name}",
                *(f"    {start.failpoints or '-'}" for start in scenario.starts),
                sep="\n",
            )
        print(
            f"{len({each.kind for each in scenarios})} kinds, {sum(each.injections for each in scenarios)} injections"
        )
        return 0
    if arguments.minutes and not arguments.keep:
        parser.error("--minutes without --keep would forget what it has done")
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        matrix = Matrix(folder, arguments.seed)
        matrix.go_on(scenarios, arguments.jobs, 60 * (arguments.minutes or math.inf))
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    verdicts = [matrix.verdicts[key] for scenario in scenarios if (key := _key(scenario)) in matrix.verdicts]
    failed = [verdict for verdict in verdicts if not verdict.passed]
    seconds = matrix.seconds
    print(
        f"{len({each.kind for each in verdicts})} kinds, {sum(each.injections for each in verdicts)} injections in "
        f"{len(verdicts)} scenarios, {len(failed)} failed, {seconds / 60:.1f} minutes"
    )
    for verdict in failed:
        print(f"FAILED {verdict.kind}: {verdict.name}", *(f"    {problem}" for problem in verdict.problems), sep="\n")
    if len(verdicts) < len(scenarios):
        print(f"{len(scenarios) - len(verdicts)} scenarios are still to do. To fix it: run the same command again.")
        return 1 if failed else EXIT_PREEMPTED
    if arguments.write:
        write_table(arguments.write, verdicts, seed=arguments.seed, minutes=seconds / 60)
    return 1 if failed else 0


class Matrix:
    """Verdicts in a folder, which may be reached in several goes: ``verdicts.jsonl``, and a subfolder of runs for each go.

    Args:
        folder: made when missing; what it holds was done with the same seed and the same code.
        seed: of the places where faults strike.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self.verdicts: dict[tuple[str, str], Verdict] = {}
        self.seconds = 0.0
        """That all goes have taken."""
        folder.mkdir(parents=True, exist_ok=True)
        self._log, self._times = folder / "verdicts.jsonl", folder / "seconds.txt"
        if self._log.exists():
            for line in self._log.read_text(encoding="utf-8").splitlines():
                verdict = read_verdict(line)
                self.verdicts[_key(verdict)] = verdict
        if self._times.exists():
            self.seconds = sum(map(float, self._times.read_text().split()))

    def go_on(self, scenarios: list[Scenario], jobs: int, within_seconds: float) -> None:
        """Judges what has no verdict yet; begins none later than ``within_seconds``. Each is shown as soon as it is known."""
        began = time.monotonic()
        to_do = iter([scenario for scenario in scenarios if _key(scenario) not in self.verdicts])
        lock = threading.Lock()

        def work(workshop: Workshop) -> None:
            while time.monotonic() < began + within_seconds:
                with lock:
                    scenario = next(to_do, None)
                if scenario is None:
                    return
                verdict = workshop.judge(scenario)
                with lock:
                    self._note(verdict)

        with Zygote() as zygote, ThreadPoolExecutor(jobs) as threads:
            # Golden runs are numbered in the order in which they are asked for: no go may meet those of another.
            number = len(list(self._folder.glob("go-*")))
            workshop = Workshop(self._folder / f"go-{number}", zygote, self._seed)
            for worker in [threads.submit(work, workshop) for _ in range(jobs)]:
                worker.result()
        seconds = time.monotonic() - began
        self.seconds += seconds
        with self._times.open("a") as times:
            times.write(f"{seconds}\n")

    def _note(self, verdict: Verdict) -> None:
        self.verdicts[_key(verdict)] = verdict
        with self._log.open("a", encoding="utf-8") as log:
            log.write(describe(verdict) + "\n")
        print(
            f"{'ok    ' if verdict.passed else 'FAILED'} {verdict.seconds:5.1f} s  {verdict.kind}: {verdict.name}",
            flush=True,
        )
        for problem in verdict.problems:
            print(f"           {problem}", flush=True)


def _key(each: Scenario | Verdict) -> tuple[str, str]:
    return each.kind, each.name


if __name__ == "__main__":
    sys.exit(main())
