"""The matrix as a table of docs/reliability.md."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

from tests.faults.scenario import Verdict

BEGIN = "<!-- matrix: written by `make test-faults` -->"
END = "<!-- matrix: end -->"


def write_table(page: Path, verdicts: list[Verdict], *, seed: int, minutes: float) -> None:
    """Replaces what stands between the marks of ``page``."""
    text = page.read_text(encoding="utf-8")
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{page} lacks the lines {BEGIN!r} and {END!r}")
    table = "\n".join(_lines(verdicts, seed, minutes))
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


def _lines(verdicts: list[Verdict], seed: int, minutes: float) -> list[str]:
    kinds: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        kinds.setdefault(verdict.kind, []).append(verdict)
    failed = sum(not verdict.passed for verdict in verdicts)
    lost, repeated, reordered = (
        sum(getattr(each, name) for each in verdicts) for name in ("lost", "repeated", "reordered")
    )
    lines = [
        f"{len(kinds)} kinds of fault, {sum(each.injections for each in verdicts)} injections in {len(verdicts)} scenarios, "
        f"{failed} failed; of {sum(each.steps for each in verdicts):,} steps, {lost} lost, {repeated} repeated, {reordered} "
        f"reordered. {datetime.date.today()}, seed {seed}, {minutes:.0f} minutes on {os.cpu_count()} CPU cores, Python "
        f"{platform.python_version()}, torch {version('torch')}, deepspeed {version('deepspeed')}.",
        "",
        "| fault | injections | noticed within | steps lost, repeated, reordered | final state |",
        "| --- | --: | --: | --: | --- |",
    ]
    for kind, each in kinds.items():
        noticed = [seconds for verdict in each for seconds in verdict.noticed_seconds]
        counts = ", ".join(str(sum(getattr(one, name) for one in each)) for name in ("lost", "repeated", "reordered"))
        lines.append(
            f"| {kind} | {sum(one.injections for one in each)} | {f'{max(noticed):.1f} s' if noticed else '-'} | {counts} | "
            f"{_state(each)} |"
        )
    return lines


def _state(verdicts: list[Verdict]) -> str:
    if not all(verdict.passed for verdict in verdicts):
        return f"**{sum(not verdict.passed for verdict in verdicts)} of {len(verdicts)} scenarios failed**"
    if all(verdict.is_bit_exact for verdict in verdicts):
        return "bit-exact"
    return f"losses within {max(verdict.loss_difference for verdict in verdicts):.0e}"
