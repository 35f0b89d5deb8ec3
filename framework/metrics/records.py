"""One JSON object a line, by step; a resumed run first forgets the lines of steps it is about to take again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from framework.metrics.patient import PatientFile
from framework.plugins.interface import StepRecord

_CHUNK_BYTES = 64 * 1024


class JsonLines:
    """An append-only file of JSON objects, each with a ``step``. A disk that refuses makes lines wait (``PatientFile``).

    Args:
        path: the file; made when missing.
        resume_step: lines of later steps are dropped: a run that died after its last checkpoint takes them again. None
            drops no whole line: for a history, in which an attempt that was abandoned has its place.
    """

    def __init__(self, path: Path, *, resume_step: int | None) -> None:
        self._file = PatientFile(path, "metrics.write", lambda descriptor: _end_of_step(descriptor, resume_step))

    def append(self, record: StepRecord | Mapping[str, Any]) -> None:
        """Writes one line, so that it can be read at once.

        Raises:
            ValueError: a value that JSON has no word for, such as NaN.
        """
        values = asdict(record) if isinstance(record, StepRecord) else dict(record)
        line = json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"
        self._file.append(line.encode(), step=values["step"])

    def close(self) -> None:
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """All objects of the file, in order.

    What is no object is left out, as a crash cuts the last line short, and one of the whole machine can leave zeros;
    ``zerostream verify`` finds it.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")  # the last one may end inside a character
    return [values for line in lines[:-1] if (values := parse_object(line)) is not None]


def read_last_json_lines(path: Path, count: int) -> list[dict[str, Any]]:
    """As ``read_json_lines``, but the last ``count`` objects alone; reads no more of the file than that takes."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        objects = (parse_object(line) for _, line in _lines_from_the_end(file.fileno()))
        return list(islice((values for values in objects if values is not None), count))[::-1]


def _end_of_step(descriptor: int, step: int | None) -> int:
    """Bytes up to the end of the last line that holds an object, and no later step. Steps ascend."""
    for end, line in _lines_from_the_end(descriptor):
        values = parse_object(line)
        if values is not None and (step is None or _is_up_to(values, step)):
            return end
    return 0


def _is_up_to(values: dict[str, Any], step: int) -> bool:
    found = values.get("step")
    return isinstance(found, int) and found <= step


def parse_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object that ``content`` is; None if it is none."""
    try:
        values = json.loads(content)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def _lines_from_the_end(descriptor: int) -> Iterator[tuple[int, bytes]]:
    """(end, line) of every line that has an end, last first: a long run's file is not read whole to resume it."""
    position, buffer = os.fstat(descriptor).st_size, b""
    while position > 0:
        size = min(_CHUNK_BYTES, position)
        position -= size
        buffer = os.pread(descriptor, size, position) + buffer
        begun, *lines = buffer.split(b"\n")
        if not lines:
            continue
        end = position + len(buffer) - len(lines.pop())  # behind the last line end stands a line cut short, or nothing
        for line in reversed(lines):
            yield end, line
            end -= len(line) + 1
        buffer = begun + b"\n"
    if buffer.endswith(b"\n"):
        yield len(buffer), buffer[:-1]
