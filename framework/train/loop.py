"""The life of a run, on every rank.

    for each step:      the stream hands over this rank's share  ->  engine.train_step  ->  one StepRecord
    hooks see it:       metrics.jsonl, TensorBoard, the progress line, plugins
    then, when due:     evaluate and write stories, save a checkpoint, stop

All ranks go through the same steps and agree on every decision: each depends on the step alone, or on a reduction.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.profiler import record_function

from framework.checkpoint.store import CheckpointStore
from framework.config import Config
from framework.data.order import step_cursors
from framework.data.stream import Prefetcher
from framework.engine import Engine, StepOutcome
from framework.errors import CheckpointError, NonFiniteError, PreemptedError, StorageError
from framework.failpoints import failpoint
from framework.metrics.hardware import peak_memory_bytes
from framework.optim.schedule import learning_rate
from framework.plugins.interface import Hook, StepRecord
from framework.train.events import EventLog
from framework.train.recipe import Evaluator
from framework.train.stopping import StopRequest, describe_stop
from framework.train.watch import Watch

_ASKED_BY_CONFIG = -1
DATA_WAIT = "step/data_wait"
"""How a profiler's trace calls the wait for the next batch."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands: steps taken, target tokens learned from, and the last step's loss if it is known."""

    step: int = 0
    tokens: int = 0
    loss: float | None = None


@dataclass(frozen=True)
class Agreed:
    """What all ranks know after a step: why to stop (0: not), and whether any of them still writes a checkpoint."""

    stop_code: int
    is_saving: bool


class TrainingLoop:
    """Trains one run to its end, or to where it is told to stop. All ranks make one, and run it together.

    Args:
        config: of the run.
        engine: computes steps.
        batches: this rank's, from the step after ``start`` on.
        evaluator: of the run.
        checkpoints: of the run.
        hooks: see everything, in this order.
        events: takes what was not planned.
        stop: knows when to end early.
        watch: ends a rank that stands still.
        ignorant_loss: that of a model which knows nothing.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        batches: Prefetcher,
        evaluator: Evaluator,
        checkpoints: CheckpointStore,
        hooks: list[Hook],
        events: EventLog,
        stop: StopRequest,
        watch: Watch,
        ignorant_loss: float,
    ) -> None:
        self._config = config
        self._engine = engine
        self._world = engine.world
        self._batches = batches
        self._evaluator = evaluator
        self._checkpoints = checkpoints
        self._hooks = hooks
        self._events = events
        self._stop = stop
        self._watch = watch
        self._ignorant_loss = ignorant_loss
        self._left_out_in_a_row = 0
        self._slowest_step_seconds = 0.0
        self._slowest_save_seconds = 0.0

    def run(self, start: Progress) -> Progress:
        """Trains to ``train.max_steps``; returns where it ended.

        Raises:
            PreemptedError: asked to stop before the end; the state has been saved.
            NonFiniteError, CheckpointError, StorageError: on all ranks.
        """
        progress = start
        for hook in self._hooks:
            hook.on_start(start.step)
        if stop_code := int(self._world.maxima([float(self._stop.code(0.0))])[0]):
            self._end_early(start.step, stop_code)
        for record, agreed in self._train_steps(start):
            progress = Progress(record.step, record.tokens, record.loss)
            if record.step == start.step + 1:
                self._compare_with_saved(record, start)
            for hook in self._hooks:
                hook.on_step(record)
            self._evaluate_and_save(record, agreed)
            if agreed.stop_code and record.step < self._config.train.max_steps:
                self._end_early(record.step, agreed.stop_code)
        for hook in self._hooks:
            hook.on_finish(progress.step)
        return progress

    def _train_steps(self, start: Progress) -> Iterator[tuple[StepRecord, Agreed]]:
        """Takes the steps after ``start`` one by one, up to ``train.max_steps``."""
        config, world, tokens = self._config, self._world, start.tokens
        for step in range(start.step + 1, config.train.max_steps + 1):
            began = time.perf_counter()
            with record_function(DATA_WAIT):
                batch = next(self._batches)
            waited = time.perf_counter() - began
            lr = learning_rate(step, config.optimizer, config.schedule, config.train.max_steps)
            # Dropout depends on this alone, so that there is no random state to save.
            torch.manual_seed(step_seed(config.seed, step, world.rank))
            outcome = self._engine.train_step(batch, lr)
            self._stop.step_done()
            tokens += 0 if outcome.left_out else outcome.target_tokens
            if outcome.skipped_sequences:
                self._events.note_skipped(step, self._cursors(step), outcome.skipped_sequences, outcome.bad_shards)
            self._guard_numbers(step, lr, outcome)
            taken = time.perf_counter() - began
            reserve = 2 * (max(self._slowest_step_seconds, taken) + self._slowest_save_seconds)
            taken, waited, memory, stop_code, is_saving = world.maxima(
                [
                    taken,
                    waited,
                    float(peak_memory_bytes(world.device)),
                    float(self._stop.code(reserve)),
                    float(self._checkpoints.is_busy),
                ]
            )
            self._slowest_step_seconds = max(self._slowest_step_seconds, taken)
            self._watch.expect("train", step, config.train.step_timeout_seconds)
            record = StepRecord(
                step=step,
                tokens=tokens,
                loss=outcome.loss,
                lr=lr,
                grad_norm=outcome.grad_norm,
                step_seconds=taken,
                tokens_per_second=outcome.target_tokens / taken,
                data_wait_seconds=waited,
                peak_memory_bytes=int(memory),
                batch_digest=str(outcome.digest),
            )
            asked = step == config.train.stop_at_step
            yield record, Agreed(int(stop_code) or (_ASKED_BY_CONFIG if asked else 0), bool(is_saving))

    def _guard_numbers(self, step: int, lr: float, outcome: StepOutcome) -> None:
        """Counts steps that were left out, and ends the run when there are too many in a row."""
        if outcome.left_out is None:
            self._left_out_in_a_row = 0
        if outcome.left_out is None or outcome.is_overflow:
            return
        self._left_out_in_a_row += 1
        cursors = self._cursors(step)
        self._events.note(
            "step_left_out",
            step,
            f"left out, for {outcome.left_out}; weights are as before (sequences {cursors[0]} to {cursors[-1]})",
            reason=outcome.left_out,
            cursors=[cursors.start, cursors.stop],
        )
        if self._left_out_in_a_row > self._config.train.max_skipped_steps:
            raise NonFiniteError(
                f"{self._left_out_in_a_row} steps in a row were left out, the last (step {step}, learning rate {lr:.2e}) for "
                f"{outcome.left_out}",
                fix="start again from the last checkpoint with a lower optimizer.lr or engine.precision=fp32; events.jsonl "
                "names the sequences of each step",
            )

    def _cursors(self, step: int) -> range:
        """Of all ranks, in step ``step`` (from 1)."""
        return step_cursors(step - 1, self._config.engine.global_batch_size, rank=0, world_size=1)

    def _compare_with_saved(self, record: StepRecord, start: Progress) -> None:
        """A checkpoint that was not taken over well shows in the first loss: half the way back to knowing nothing."""
        if start.loss is None or record.loss is None:
            return
        limit = start.loss + max(0.5, (self._ignorant_loss - start.loss) / 2)
        if record.loss > limit:
            raise CheckpointError(
                f"the first loss after resuming is {record.loss:.4f}, and was {start.loss:.4f} when it was saved",
                fix=f"remove the checkpoint of step {start.step} to go on from an older one",
            )

    def _evaluate_and_save(self, record: StepRecord, agreed: Agreed) -> None:
        config, step = self._config, record.step
        is_last = step == config.train.max_steps
        must_save = is_last or agreed.stop_code != 0
        validation_loss = None
        if is_last or step % config.train.eval_every_steps == 0:
            failpoint("evaluate", step=step)
            metrics = self._evaluator.evaluate(step)
            validation_loss = metrics["loss"]
            for hook in self._hooks:
                hook.on_evaluate(step, metrics)
            self._watch.expect("train", step, config.train.step_timeout_seconds)
        began = time.perf_counter()
        is_due = must_save or step % config.checkpoint.every_steps == 0
        try:
            if is_due:
                self._checkpoints.finish()
            elif self._checkpoints.is_pending and not agreed.is_saving:
                self._checkpoints.advance()
        except StorageError as error:  # of the save before: no reason not to try this one
            self._note_failed_save(step, error)
        if not is_due:
            return
        try:
            self._checkpoints.save(
                step, self._engine, tokens=record.tokens, train_loss=record.loss, validation_loss=validation_loss
            )
            if must_save:
                self._checkpoints.finish()
        except StorageError as error:
            if must_save:
                raise
            self._note_failed_save(step, error)
        self._slowest_save_seconds = max(self._slowest_save_seconds, time.perf_counter() - began)
        self._watch.expect("train", step, config.train.step_timeout_seconds)

    def _note_failed_save(self, step: int, error: StorageError) -> None:
        """The same on all ranks; what is in memory is not lost by it."""
        self._events.note("save_failed", step, f"no checkpoint: {error} Training goes on, the next save tries again")

    def _end_early(self, step: int, stop_code: int) -> None:
        for hook in self._hooks:
            hook.on_finish(step)
        self._world.barrier()  # the first rank to end has the others ended: let all have finished their words
        why = "asked by train.stop_at_step" if stop_code == _ASKED_BY_CONFIG else describe_stop(stop_code)
        raise PreemptedError(
            f"stopped at step {step} of {self._config.train.max_steps} ({why}), saved",
            fix="start the same command again to go on",
        )


def step_seed(seed: int, step: int, rank: int) -> int:
    """Of torch's generators during one step on one rank: 63 bits of a hash, so that no two steps share a mask."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
