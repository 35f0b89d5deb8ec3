"""Runs the fault matrix, and writes its table.

python -m tests.faults --seed 0 --jobs 2 --write docs/reliability.md
python -m tests.faults --only "SIGKILL|shard" --keep /tmp/matrix
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.faults.case import Workshop
from tests.faults.oracle import describe
from tests.faults.scenario import Scenario, Verdict
from tests.faults.scenarios import all_scenarios
from tests.faults.starts import Zygote
from tests.faults.table import write_table


def main() -> int:
    """1 when any scenario has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the places where faults strike (default 0)")
    parser.add_argument("--jobs", type=int, default=3, help="scenarios at the same time (default 3: many only wait)")
    parser.add_argument("--only", default="", help="scenarios whose kind and name match this pattern")
    parser.add_argument("--quick", action="store_true", help="the short part that `make test` runs")
    parser.add_argument("--list", action="store_true", help="print the scenarios and start nothing")
    parser.add_argument("--keep", type=Path, help="leave all runs in this folder, and one JSON line per scenario")
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
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="faults-"))
    began = time.monotonic()
    try:
        verdicts = judge_all(scenarios, folder, arguments.seed, arguments.jobs)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    failed = [verdict for verdict in verdicts if not verdict.passed]
    seconds = time.monotonic() - began
    print(
        f"{len({each.kind for each in verdicts})} kinds, {sum(each.injections for each in verdicts)} injections in "
        f"{len(verdicts)} scenarios, {len(failed)} failed, {seconds / 60:.1f} minutes"
    )
    for verdict in failed:
        print(f"FAILED {verdict.kind}: {verdict.name}", *(f"    {problem}" for problem in verdict.problems), sep="\n")
    if arguments.write:
        write_table(arguments.write, verdicts, seed=arguments.seed, minutes=seconds / 60)
    return 1 if failed else 0


def judge_all(scenarios: list[Scenario], folder: Path, seed: int, jobs: int) -> list[Verdict]:
    """All verdicts, in the order of the scenarios; each is shown as soon as it is known."""
    verdicts: dict[int, Verdict] = {}
    with Zygote() as zygote, ThreadPoolExecutor(jobs) as threads:
        workshop = Workshop(folder, zygote, seed)
        pending = {threads.submit(workshop.judge, scenario): number for number, scenario in enumerate(scenarios)}
        with (folder / "verdicts.jsonl").open("w", encoding="utf-8") as log:
            for future in as_completed(pending):
                verdict = verdicts[pending[future]] = future.result()
                log.write(describe(verdict) + "\n")
                log.flush()
                state = "ok    " if verdict.passed else "FAILED"
                print(f"{state} {verdict.seconds:5.1f} s  {verdict.kind}: {verdict.name}", flush=True)
                for problem in verdict.problems:
                    print(f"           {problem}", flush=True)
    return [verdicts[number] for number in sorted(verdicts)]


if __name__ == "__main__":
    sys.exit(main())
