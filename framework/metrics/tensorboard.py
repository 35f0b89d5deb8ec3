"""Scalars, stories and hyper-parameters for TensorBoard; one continuous curve across restarts."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

from framework.metrics.patient import PatientFile

_numbers = itertools.count()


class TensorBoard:
    """Writes below ``folder``; a disk that refuses makes events wait (``PatientFile``).

    torch's ``SummaryWriter`` is not used: its thread dies of the first refused write, and every later call raises what
    killed it (tensorboard issue 6167); and it opens the file anew for every record.

    Args:
        folder: the run's ``tensorboard`` folder.
        resume_step: events of later steps, left by a start that died, are hidden by TensorBoard.
    """

    def __init__(self, folder: Path, *, resume_step: int) -> None:
        # TensorBoard reads a folder's files in the order of their names; two of one second must not change places.
        name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}.{next(_numbers):03d}"
        self._records = _Records(folder / name)
        self._writer = RecordWriter(self._records)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=resume_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point on each named curve."""
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=points)))

    def text(self, step: int, name: str, text: str) -> None:
        """A text, shown as written."""
        self._write(Event(step=step, summary=summary.text(name, text.replace("\n", "  \n"))))

    def image(self, step: int, name: str, image: npt.NDArray[np.uint8]) -> None:
        """A picture, [height, width, 3] uint8."""
        self._write(Event(step=step, summary=summary.image(name, image, dataformats="HWC")))

    def hyper_parameters(self, values: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]) -> None:
        """The run's row in the HPARAMS tab."""
        for part in summary.hparams(dict(values), dict(metrics)):
            self._write(Event(summary=part))
        self.scalars(0, metrics)

    def close(self) -> None:
        self._records.close()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._records.step = event.step
        self._writer.write(event.SerializeToString())


class _Records:
    """What ``RecordWriter`` takes for a file: each of its writes is one whole record."""

    def __init__(self, path: Path) -> None:
        self._file = PatientFile(path, "tensorboard.write", kept_bytes=lambda descriptor: 0)
        self.step = 0

    def write(self, record: bytes) -> None:
        self._file.append(record, step=self.step)

    def close(self) -> None:
        self._file.close()
