"""The life of a run, on every rank.

    for each step:      the stream hands over this rank's share  ->  engine.train_step  ->  one StepRecord
    hooks see it:       metrics.jsonl, TensorBoard, the progress line, plugins
    then, when due:     evaluate and write stories, save a checkpoint, stop

All ranks go through the same steps and agree on every decision: each depends on the step alone, or on a reduction.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from framework.checkpoint.store import CheckpointStore
from framework.config import Config
from framework.data.stream import Prefetcher
from framework.engine import Engine
from framework.errors import PreemptedError
from framework.metrics.hardware import peak_memory_bytes
from framework.optim.schedule import learning_rate
from framework.plugins.interface import Hook, StepRecord
from framework.train.evaluation import Evaluator


@dataclass(frozen=True)
class Progress:
    """Where a run stands: steps taken, and target tokens learned from."""

    step: int = 0
    tokens: int = 0


def train_steps(config: Config, engine: Engine, batches: Prefetcher, start: Progress) -> Iterator[StepRecord]:
    """Takes the steps after ``start`` one by one, up to ``train.max_steps``. All ranks draw together."""
    tokens = start.tokens
    for step in range(start.step + 1, config.train.max_steps + 1):
        began = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - began
        lr = learning_rate(step, config.optimizer, config.schedule, config.train.max_steps)
        outcome = engine.train_step(batch, lr)
        tokens += outcome.target_tokens
        taken = time.perf_counter() - began
        taken, waited, memory = engine.world.maxima([taken, waited, float(peak_memory_bytes(engine.world.device))])
        yield StepRecord(
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


def run_loop(
    config: Config,
    engine: Engine,
    batches: Prefetcher,
    evaluator: Evaluator,
    checkpoints: CheckpointStore,
    hooks: list[Hook],
    start: Progress,
) -> Progress:
    """Trains to ``train.max_steps``; returns where it ended. All ranks call it together.

    Raises:
        PreemptedError: asked to stop before the end; the state has been saved.
        NonFiniteError, StorageError: on all ranks.
    """
    progress = start
    for hook in hooks:
        hook.on_start(start.step)
    for record in train_steps(config, engine, batches, start):
        progress = Progress(record.step, record.tokens)
        for hook in hooks:
            hook.on_step(record)
        is_last = record.step == config.train.max_steps
        stopping = record.step == config.train.stop_at_step and not is_last
        if is_last or record.step % config.train.eval_every_steps == 0:
            metrics = evaluator.evaluate(record.step)
            for hook in hooks:
                hook.on_evaluate(record.step, metrics)
        if is_last or stopping or record.step % config.checkpoint.every_steps == 0:
            checkpoints.save(record.step, engine, tokens=record.tokens)
        if stopping:
            for hook in hooks:
                hook.on_finish(record.step)
            engine.world.barrier()  # the first rank to end has the others ended: let all have finished their words
            raise PreemptedError(
                f"stopped at step {record.step} of {config.train.max_steps}, saved",
                fix="start the same command again to go on",
            )
    for hook in hooks:
        hook.on_finish(progress.step)
    return progress
