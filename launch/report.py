"""How a command's report looks to people; programs get it as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def print_report(report: dict[str, Any], as_json: bool) -> None:
    """One line per key, or one JSON object."""
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
        return
    width = max(map(len, report))
    for key, value in report.items():
        first, *rest = describe(value).rstrip("\n").split("\n")
        print(f"{key:<{width}}  {first}", *(f"{'':<{width}}  {line}" for line in rest), sep="\n")


def print_table(rows: Sequence[Sequence[Any]]) -> None:
    """The first row is the head; the first column stands left, the others right."""
    cells = [[describe(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *others in cells:
        columns = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join((f"{first:<{widths[0]}}", *columns)))


def describe(value: Any) -> str:
    """Four digits behind the point; ``-`` for what is not there."""
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
