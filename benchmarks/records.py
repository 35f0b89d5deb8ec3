"""What every answer is kept as: one JSON line with its setting, its values and spread, and the machine it was measured on."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from framework.errors import UserError

RESULTS = Path(__file__).parent / "results"


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median of repeats, the quartiles around it, and each of them."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {
        "median": _rounded(statistics.median(values)),
        "quartiles": [_rounded(quartiles[0]), _rounded(quartiles[2])],
        "of_each": [_rounded(value) for value in values],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def new_record(
    question: str,
    setting: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    ranks: int = 1,
    config: Mapping[str, Any] | None = None,
    warmup: int | None = None,
    repeats: int | None = None,
) -> dict[str, Any]:
    """One line of ``benchmarks/results``.

    Args:
        question: whose answer it is.
        setting: what tells this line from the others of its question.
        values: what was measured; what was repeated as ``summary`` has it.
        ranks: that took part.
        config: the resolved config, where a run was measured.
        warmup: steps, or repeats, before the first that counts.
        repeats: that count.
    """
    import torch

    from framework.metrics.hardware import describe_environment

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    record: dict[str, Any] = {"question": question, "setting": dict(setting), "values": dict(values)}
    record |= {"warmup": warmup, "repeats": repeats, "config": config}
    return {**record, "environment": describe_environment(ranks, device)}


def add_output(parser: argparse.ArgumentParser) -> None:
    """The option that all questions have."""
    parser.add_argument("--append", type=Path, metavar="FILE", help="add each result line to this file")


def publish(record: Mapping[str, Any], append: Path | None) -> None:
    """Prints the line, and keeps it where the user wants it."""
    line = json.dumps(record, ensure_ascii=False)
    print(line, flush=True)
    if append is not None:
        append.parent.mkdir(parents=True, exist_ok=True)
        with append.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def key_of(question: str, setting: Mapping[str, Any]) -> str:
    """What two lines have in common that answer the same question of the same setting."""
    return json.dumps([question, setting], sort_keys=True)


def read_records(path: Path) -> list[dict[str, Any]]:
    """All lines of a file of results.

    Raises:
        UserError: it cannot be read, or has a line that is no JSON object; none is passed over, for some who read write anew.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}", fix="name a file of results") from None
    return [_parsed(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def kept_records(append: Path | None) -> list[dict[str, Any]]:
    """What ``--append`` would add to: none where there is no such file yet."""
    return read_records(append) if append is not None and append.exists() else []


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise UserError(
            f"{path}, line {number}: {line[:40]!r} is no result", fix="remove the line, or name another file"
        )
    return record


def is_answer(record: Mapping[str, Any]) -> bool:
    """Whether a line has the form of ``new_record``; other files hold other lines."""
    parts = (record.get("setting"), record.get("values"))
    return isinstance(record.get("question"), str) and all(isinstance(part, Mapping) for part in parts)


def answers_to(question: str, lines: Sequence[dict[str, Any]], origin: Path) -> list[dict[str, Any]]:
    """Those lines of the file ``origin`` that answer one question.

    Raises:
        UserError: there is none.
    """
    answers = [line for line in lines if is_answer(line) and line["question"] == question]
    if not answers:
        fix = f"measure some: `python -m benchmarks {question} --append FILE`"
        raise UserError(f"{origin} has no line of {question}", fix=fix)
    return answers


def rewrite(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Writes all lines of a file of results anew."""
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
