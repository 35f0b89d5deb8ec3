"""The built-in hooks: what a run writes down and shows. Rank 0 alone has those that write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framework.config import Config, flatten, identity
from framework.data.tokenizer import Tokenizer
from framework.durable import write_durably
from framework.engine import Engine
from framework.metrics.console import Console
from framework.metrics.patient import PatientFolder
from framework.metrics.records import JsonLines
from framework.metrics.tensorboard import TensorBoard
from framework.plugins.interface import StepRecord
from framework.run_dir import RunDir
from framework.train.evaluation import write_stories


class RecordHook:
    """``metrics.jsonl`` and ``eval.jsonl``."""

    def __init__(self, run_dir: RunDir, resume_step: int) -> None:
        self._metrics = JsonLines(run_dir.metrics, resume_step=resume_step)
        self._evaluations = JsonLines(run_dir.evaluations, resume_step=resume_step)

    def on_start(self, step: int) -> None: ...

    def on_step(self, record: StepRecord) -> None:
        self._metrics.append(record)

    def on_evaluate(self, step: int, metrics: Mapping[str, float]) -> None:
        self._evaluations.append({"step": step, **metrics})

    def on_finish(self, step: int) -> None:
        self._metrics.close()
        self._evaluations.close()


class TensorBoardHook:
    """Scalars every ``logging.every_steps``, evaluations, and the run's hyper-parameters with its last evaluation.

    Args:
        config: of the run.
        resume_step: 0, or the step this start goes on from.
        flops_per_token: of forward and backward.
        peak_flops: what all ranks together could do in a second.
    """

    def __init__(self, config: Config, resume_step: int, flops_per_token: float, peak_flops: float) -> None:
        self._config = config
        self._board = TensorBoard(RunDir(config.run_dir).tensorboard, resume_step=resume_step)
        self._flops_per_token = flops_per_token
        self._peak_flops = peak_flops
        self._last_evaluation: dict[str, float] = {}

    def on_start(self, step: int) -> None: ...

    def on_step(self, record: StepRecord) -> None:
        if record.step % self._config.logging.every_steps and record.step != self._config.train.max_steps:
            return
        values = {
            "train/learning_rate": record.lr,
            "train/tokens": float(record.tokens),
            "speed/tokens_per_second": record.tokens_per_second,
            "speed/step_seconds": record.step_seconds,
            "speed/data_wait_seconds": record.data_wait_seconds,
            "speed/model_flops_utilisation": record.tokens_per_second * self._flops_per_token / self._peak_flops,
            "memory/peak_bytes": float(record.peak_memory_bytes),
        }
        if record.loss is not None:
            values["train/loss"] = record.loss
        if record.grad_norm is not None:
            values["train/grad_norm"] = record.grad_norm
        self._board.scalars(record.step, values)

    def on_evaluate(self, step: int, metrics: Mapping[str, float]) -> None:
        self._last_evaluation = {f"validation/{name}": value for name, value in metrics.items()}
        self._board.scalars(step, self._last_evaluation)

    def show_stories(self, step: int, stories: list[str]) -> None:
        """The samples of an evaluation."""
        for number, story in enumerate(stories):
            self._board.text(step, f"stories/{number}", story)

    def show_text(self, step: int, name: str, text: str) -> None:
        """A page of text, in lines of equal width."""
        self._board.text(step, name, "\n".join(f"    {line}" for line in text.splitlines()))

    def show_image(self, step: int, name: str, image: npt.NDArray[np.uint8]) -> None:
        """A picture, [height, width, 3] uint8."""
        self._board.image(step, name, image)

    def on_finish(self, step: int) -> None:
        if step == self._config.train.max_steps and self._last_evaluation:
            final = {name.replace("validation/", "final/"): value for name, value in self._last_evaluation.items()}
            parameters = dict(flatten(identity(self._config)))
            scalars = {key: value for key, value in parameters.items() if isinstance(value, bool | int | float | str)}
            self._board.hyper_parameters(scalars, final)
        self._board.close()


class ConsoleHook:
    """The progress bar or lines."""

    def __init__(self, config: Config, console: Console) -> None:
        self._config = config
        self._console = console

    def on_start(self, step: int) -> None:
        self._console.begin(step, self._config.train.max_steps)

    def on_step(self, record: StepRecord) -> None:
        self._console.step(record, is_due=record.step % self._config.logging.every_steps == 0 or record.step == 1)

    def on_evaluate(self, step: int, metrics: Mapping[str, float]) -> None:
        self._console.evaluation(step, metrics)

    def on_finish(self, step: int) -> None:
        self._console.end()


class StoryHook:
    """Stories from fixed prompts at every evaluation, into ``samples/`` and TensorBoard. On every rank."""

    def __init__(
        self, run_dir: RunDir, config: Config, tokenizer: Tokenizer, engine: Engine, board: TensorBoardHook | None
    ) -> None:
        self._samples = PatientFolder(run_dir.samples, "metrics.write")
        self._config = config
        self._tokenizer = tokenizer
        self._engine = engine
        self._board = board

    def on_start(self, step: int) -> None: ...

    def on_step(self, record: StepRecord) -> None: ...

    def on_evaluate(self, step: int, metrics: Mapping[str, float]) -> None:
        stories = write_stories(self._config, self._tokenizer, self._engine)
        if not self._engine.world.is_main:
            return
        self._samples.put(f"step-{step:08d}.txt", ("\n\n---\n\n".join(stories) + "\n").encode(), step=step)
        if self._board is not None:
            self._board.show_stories(step, stories)

    def on_finish(self, step: int) -> None:
        self._samples.close()


def write_result(run_dir: RunDir, values: Mapping[str, Any]) -> None:
    """``result.json``, whole or not at all."""
    write_durably(run_dir.result, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())
