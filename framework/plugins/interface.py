"""What a plugin can bring to zerostream.

A plugin is a ``Plugin`` value named by an entry point::

    [project.entry-points."zerostream.plugins"]
    my_plugin = "my_package:plugin"

A run uses it when its config has a section ``plugins.my_plugin`` (``{}`` for no options); its commands are there as
soon as the package is installed. Everything is a plain callable, so that a plugin needs no base class, and imports what
is heavy only when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel

    from framework.config.schema import Config, DataConfig


@dataclass(frozen=True)
class StepRecord:
    """One line of ``metrics.jsonl``. ``loss`` is in nats per token; ``tokens`` is the run's total of targets so far.

    ``step_seconds`` includes ``data_wait_seconds``, both of the slowest rank; ``peak_memory_bytes`` is the largest of any rank.
    ``grad_norm`` is before clipping. It is None when the step was left out, because a number was not finite (events.jsonl
    says more) or fp16's loss scale too large; ``loss`` is None when it was not finite itself.
    """

    step: int
    tokens: int
    loss: float | None
    lr: float
    grad_norm: float | None
    step_seconds: float
    tokens_per_second: float
    data_wait_seconds: float
    peak_memory_bytes: int
    batch_digest: str


class Hook(Protocol):
    """Called by the training loop on every rank, at the same points on all of them. All methods must return."""

    def on_start(self, step: int) -> None:
        """Before the first step of this start; ``step`` is 0 or the step resumed from."""

    def on_step(self, record: StepRecord) -> None:
        """After each optimizer step."""

    def on_evaluate(self, step: int, metrics: Mapping[str, float]) -> None:
        """After each evaluation, with all its metrics."""

    def on_finish(self, step: int) -> None:
        """After the last step of this start, also when the run was preempted; not when it failed."""


class ModelFactory(Protocol):
    """Builds a causal language model: ``model(input_ids=[batch, sequence] int64).logits`` is [batch, sequence, vocab]."""

    def __call__(self, config: Config, vocab_size: int, end_of_text_id: int) -> torch.nn.Module: ...


class EvaluationMetric(Protocol):
    """A number computed from an evaluation's totals, beside loss, perplexity and bits per byte."""

    def __call__(self, *, loss: float, tokens: int, text_bytes: int) -> float: ...


@dataclass(frozen=True)
class Plugin:
    """Everything a plugin brings; what it leaves empty it does not touch."""

    name: str
    """Equal to the entry point's name; the section `plugins.<name>` of the config holds its options."""
    options: type[BaseModel] | Callable[[], type[BaseModel]] | None = None
    """Validates that section; without it, the section must be empty. A function that imports and returns the model spares
    commands that read no config, `--help` first of all, the import of pydantic."""
    commands: Mapping[str, Callable[..., None]] = field(default_factory=dict)
    """Typer commands: annotated functions by command name."""
    sources: Mapping[str, Callable[[DataConfig, Path | None], Iterator[str]]] = field(default_factory=dict)
    """Values of `data.source`: the documents of the training text (path None) or of `data.validation_path`, in order."""
    models: Mapping[str, ModelFactory] = field(default_factory=dict)
    """Values of `model.architecture`."""
    recipe: Callable[[Config, Any], Any] | None = None
    """What a run with this plugin learns, in place of pretraining on shards: makes a `framework.train.recipe.Recipe` from its
    config and the validated options."""
    evaluate_labelled: Callable[[Path, Path], tuple[Mapping[str, Any], str]] | None = None
    """Scores a run of this plugin on a file of labelled rows, for `zerostream evaluate RUN_DIR --labelled FILE`: the result as
    JSON has it, and as a person reads it."""
    hooks: Callable[[Config, Any], list[Hook]] | None = None
    """Makes the hooks of a run from its config and the validated options."""
    metrics: Mapping[str, EvaluationMetric] = field(default_factory=dict)
    """Further numbers in eval.jsonl and TensorBoard."""

    def options_model(self) -> type[BaseModel] | None:
        """What `options` is, or returns."""
        return self.options if self.options is None or isinstance(self.options, type) else self.options()
