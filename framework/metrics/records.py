"""One JSON object a line, by step; a resumed run first forgets the lines of steps it is about to take again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from framework.durable import write_durably
from framework.plugins.interface import StepRecord


class JsonLines:
    """An append-only file of JSON objects, each with a ``step``.

    Args:
        path: the file; made when missing.
        resume_step: lines of later steps are dropped: a run that died after its last checkpoint takes them again.
    """

    def __init__(self, path: Path, *, resume_step: int) -> None:
        _drop_lines_after(path, resume_step)
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: StepRecord | Mapping[str, Any]) -> None:
        """Writes one line, so that it can be read at once."""
        values = asdict(record) if isinstance(record, StepRecord) else dict(record)
        self._file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """All whole lines of the file; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")  # the last one may end inside a character
    return [json.loads(line) for line in lines[:-1] if line]


def _drop_lines_after(path: Path, step: int) -> None:
    kept = [line for line in read_json_lines(path) if line["step"] <= step]
    if not path.exists():
        return
    write_durably(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept).encode())
