"""From texts to the batches of a fine-tuning run: one example is one sequence, and the order is that of pretraining.

The stream is a pure function of (examples, seed, step), like that of shards: every example comes once an epoch, and another
number of ranks takes the same examples in the same step.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
import xxhash

from framework.config import BatchPlan
from framework.data.order import evaluation_cursors, permutation, step_cursors
from framework.data.stream import IGNORED_TARGET, Digest, MicroBatch, StepBatch

Tokens = npt.NDArray[np.int64]
_WINDOW_STEPS = 50
"""Of so many steps in turn the examples are sorted by length, so that which ones meet still differs from epoch to epoch; as
many as Hugging Face's Trainer takes."""


@dataclass(frozen=True, eq=False)
class Example:
    """One sequence: ``input_ids`` and ``targets`` [tokens] int64; ``IGNORED_TARGET`` where nothing is asked."""

    input_ids: Tokens
    targets: Tokens

    @property
    def target_count(self) -> int:
        """Targets that count."""
        return int((self.targets != IGNORED_TARGET).sum())


@dataclass(frozen=True)
class ExampleStream:
    """The training batches of one rank, from any step on.

    Args:
        examples: of the training rows.
        plan: the batch arithmetic of this start.
        seed: of the order.
        rank: whose share this is.
        pad_id: token that fills short rows.
        group_by_length: put texts of like length into one step.
    """

    examples: Sequence[Example]
    plan: BatchPlan
    seed: int
    rank: int
    pad_id: int
    group_by_length: bool = False

    def steps(self, first_step: int = 0) -> Iterator[StepBatch]:
        """This rank's share of step ``first_step`` (from 0) and all that follow, for ever."""
        known_epoch, order = -1, np.zeros(0, dtype=np.int64)
        for step in itertools.count(first_step):
            rows = []
            for cursor in step_cursors(step, self.plan.global_batch_size, self.rank, self.plan.ranks):
                epoch, place = divmod(cursor, len(self.examples))
                if epoch != known_epoch:
                    known_epoch, order = epoch, self._order_of(epoch)
                rows.append((cursor, self.examples[order[place]]))
            yield self._make_step(step, rows)

    def _order_of(self, epoch: int) -> npt.NDArray[np.int64]:
        """[examples] int64: numbers of the examples as the epoch takes them, each once."""
        count, step_size = len(self.examples), self.plan.global_batch_size
        shuffled = permutation(count, self.seed, "examples", epoch)
        if not self.group_by_length:
            return shuffled
        # An epoch may begin and end within a step: only whole steps are grouped.
        first = min(-epoch * count % step_size, count)
        whole = (count - first) // step_size
        grouped = shuffled[first : first + whole * step_size]
        for start in range(0, len(grouped), _WINDOW_STEPS * step_size):
            window = grouped[start : start + _WINDOW_STEPS * step_size]
            window[:] = window[np.argsort(self._lengths[window], kind="stable")]
        steps = grouped.reshape(whole, step_size)
        steps[:] = steps[permutation(whole, self.seed, "steps", epoch)]
        return shuffled

    @cached_property
    def _lengths(self) -> npt.NDArray[np.int64]:
        return np.array([len(example.input_ids) for example in self.examples], dtype=np.int64)

    def _make_step(self, step: int, rows: Sequence[tuple[int, Example]]) -> StepBatch:
        size = self.plan.micro_batch_size
        # Texts of one length side by side need the least padding, and a step is the same sum in any order. The longest come
        # first: what does not fit into memory is then told at once.
        examples = sorted((example for _, example in rows), key=lambda example: -len(example.input_ids))
        return StepBatch(
            step,
            tuple(
                make_micro_batch(examples[first : first + size], size, self.pad_id)
                for first in range(0, len(examples), size)
            ),
            target_tokens=sum(example.target_count for example in examples),
            digest=sum(itertools.starmap(digest_of, rows), start=Digest()),
        )


def make_micro_batch(examples: Sequence[Example], rows: int, pad_id: int) -> MicroBatch:
    """[rows, longest] int64: examples padded on the right; missing rows are padding, and ask nothing."""
    length = max((len(example.input_ids) for example in examples), default=1)
    input_ids = np.full((rows, length), pad_id, dtype=np.int64)
    targets = np.full((rows, length), IGNORED_TARGET, dtype=np.int64)
    for row, example in enumerate(examples):
        input_ids[row, : len(example.input_ids)] = example.input_ids
        targets[row, : len(example.targets)] = example.targets
    return MicroBatch(torch.from_numpy(input_ids), torch.from_numpy(targets))


def evaluation_batches(
    examples: Sequence[Example], plan: BatchPlan, rank: int, pad_id: int
) -> Iterator[tuple[list[int], MicroBatch]]:
    """(numbers of the examples, micro-batch) of this rank; every rank gets as many, the last of them perhaps empty."""
    for numbers in evaluation_cursors(len(examples), plan.micro_batch_size, rank, plan.ranks):
        yield numbers, make_micro_batch([examples[number] for number in numbers], plan.micro_batch_size, pad_id)


def digest_of(cursor: int, example: Example) -> Digest:
    """Fingerprint of what was learned from at ``cursor``: inputs and targets."""
    hasher = xxhash.xxh3_64(seed=cursor)
    hasher.update(example.input_ids.astype("<i8").tobytes())
    hasher.update(example.targets.astype("<i8").tobytes())
    value = hasher.intdigest()
    return Digest(value >> 32, value % (1 << 32))


def fingerprint_of(examples: Sequence[Example]) -> str:
    """SHA-256, in hex, of all examples in their order."""
    hasher = hashlib.sha256()
    for example in examples:
        hasher.update(len(example.input_ids).to_bytes(8, "little"))
        hasher.update(example.input_ids.astype("<i8").tobytes())
        hasher.update(example.targets.astype("<i8").tobytes())
    return hasher.hexdigest()
