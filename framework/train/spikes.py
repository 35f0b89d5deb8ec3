"""Losses that suddenly jump: found by a robust score, and told with the sequences of the step that may have caused it."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from statistics import median
from typing import Any

from framework.data.order import Address, step_cursors
from framework.data.stream import TrainStream
from framework.metrics.records import read_last_json_lines
from framework.plugins.interface import StepRecord
from framework.run_dir import RunDir
from framework.train.events import EventLog

_DEVIATIONS_PER_MAD = 1.4826  # of a normal distribution
_LEVEL_STEPS, _WINDOW = 16, 50
_FLATTEST = 0.01
_FIRST_SEQUENCES, _FIRST_SHARDS = 8, 3


class SpikeDetector:
    """Scores each loss by how far it lies above the level of those just before it, in robust standard deviations.

    The level is the median of the last losses, and the deviation the median absolute deviation of how losses lay about their
    level (a Hampel filter that only looks back: Pearson 2002, IEEE Trans. Control Systems Technology 10(1)): neither moves
    with the spikes that it is to find, and the loss may fall as it does in a warm-up. The usual limit of 3.5 (Iglewicz &
    Hoaglin 1993, How to Detect and Handle Outliers) is for samples that are looked at once. Seven undisturbed runs of 400 to
    1,850 steps never came above 4.9; half a nat more scores 9 and above from step 120 on in a quickstart of 8 sequences a
    step. A step of fewer is noisier, and hides as much.

    Args:
        window: the deviation is that of so many losses; a quarter of them must be there before anything is judged.
        threshold: scores from here on are a spike.
    """

    def __init__(self, window: int = _WINDOW, threshold: float = 8.0) -> None:
        self.usual = math.nan
        """Level that the last loss was compared with."""
        self._recent: deque[float] = deque(maxlen=_LEVEL_STEPS)
        self._distances: deque[float] = deque(maxlen=window)
        self._enough = max(2, window // 4)
        self._threshold = threshold
        self._is_high = False

    def observe(self, loss: float | None) -> float | None:
        """The score of ``loss`` when a spike begins with it; None otherwise, and for a loss that is not finite.

        A spike of several steps is told once; when a loss stays high, the level has followed after a few steps.
        """
        if loss is None or not math.isfinite(loss):
            return None
        self.usual = median(self._recent) if self._recent else loss
        distance = loss - self.usual
        score = self._score(distance) if len(self._distances) >= self._enough else 0.0
        self._recent.append(loss)
        self._distances.append(distance)
        was_high, self._is_high = self._is_high, score >= self._threshold
        return score if self._is_high and not was_high else None

    def _score(self, distance: float) -> float:
        middle = median(self._distances)
        deviation = _DEVIATIONS_PER_MAD * median(abs(each - middle) for each in self._distances)
        # Where a loss that fell stops falling it lies above what was usual, but not above the level; and a curve that is as
        # good as flat would make a spike of every ripple.
        return min(distance, distance - middle) / max(deviation, _FLATTEST * abs(self.usual), 1e-12)


class SpikeHook:
    """Notes every loss spike with the sequences of its step. Rank 0 alone has it.

    Args:
        run_dir: of the run, whose last losses are those before the first of this start.
        events: takes what is found.
        stream: any rank's, which knows where all sequences stand.
    """

    def __init__(self, run_dir: RunDir, events: EventLog, stream: TrainStream) -> None:
        self._run_dir = run_dir
        self._events = events
        self._stream = stream
        self._detector = SpikeDetector()

    def on_start(self, step: int) -> None:
        """Learns what is usual from the steps before, so that a restart sees the same spikes as an undisturbed run."""
        with suppress(OSError):  # then it learns it from the steps that come
            for line in read_last_json_lines(self._run_dir.metrics, 4 * _WINDOW):
                if line["step"] <= step:
                    self._detector.observe(line["loss"])

    def on_step(self, record: StepRecord) -> None:
        score = self._detector.observe(record.loss)
        if score is None:
            return
        sequences = sequences_of_step(record.step, self._stream)
        first, last = sequences["cursors"]
        self._events.note(
            "loss_spike",
            record.step,
            f"the loss jumped to {record.loss:.4f}, {score:.1f} robust deviations above the usual "
            f"{self._detector.usual:.4f}; sequences {first} to {last - 1}, from {_name_some(list(sequences['shards']))}",
            loss=record.loss,
            score=round(score, 2),
            **sequences,
        )

    def on_evaluate(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def on_finish(self, step: int) -> None: ...


def sequences_of_step(step: int, stream: TrainStream) -> dict[str, Any]:
    """Where the sequences of ``step`` (from 1) stand, over all ranks, as JSON values.

    ``cursors`` is [first, behind the last]; ``shards`` counts sequences by shard, most first; ``first_sequences`` are the
    addresses of the first few.
    """
    cursors = step_cursors(step - 1, stream.plan.global_batch_size, rank=0, world_size=1)
    places = [(cursor, stream.order.locate(cursor)) for cursor in cursors]
    return {
        "cursors": [cursors.start, cursors.stop],
        "shards": dict(Counter(_shard_name(stream, address) for _, address in places).most_common()),
        "first_sequences": [
            {"cursor": cursor, "epoch": address.epoch, "shard": _shard_name(stream, address), "row": address.row}
            for cursor, address in places[:_FIRST_SEQUENCES]
        ],
    }


def _shard_name(stream: TrainStream, address: Address) -> str:
    shard = stream.shard_at(address)
    return shard.source.where(shard.entry)


def _name_some(names: Sequence[str]) -> str:
    rest = len(names) - _FIRST_SHARDS
    return ", ".join(names[:_FIRST_SHARDS]) + (f" and {rest} more" if rest > 0 else "")
