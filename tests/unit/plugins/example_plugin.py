"""A complete plugin: a command, a source of text, a model, a hook, a metric, and options.

Its package names it by an entry point: `[project.entry-points."zerostream.plugins"] tiny = "zerostream_tiny:plugin"`.
What is heavy is imported where it is needed: `zerostream --help` loads every installed plugin.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, PositiveInt

from framework.config import Config
from framework.config.schema import DataConfig
from framework.plugins.interface import Hook, Plugin, StepRecord
from framework.run_dir import RunDir

if TYPE_CHECKING:
    import torch


class Options(BaseModel):
    """What may stand below `plugins.tiny`."""

    model_config = {"extra": "forbid"}

    diary: str = "diary.json"
    width: PositiveInt = 8


def tell(count: int = 3) -> None:
    """Count down."""
    print(", ".join(str(number) for number in range(count, 0, -1)))


def read_countdowns(data: DataConfig, validation_path: Path | None) -> Iterator[str]:
    """Documents that count down, `data.documents` of them."""
    for document in range(data.documents or 100):
        yield " ".join(f"{number} bottles" for number in range(20 + document % 30, 0, -1)) + f", said {document}."


def build_bigram(config: Config, vocab_size: int, end_of_text_id: int) -> torch.nn.Module:
    """Predicts each token from the one before it alone."""
    from types import SimpleNamespace

    import torch

    class Bigram(torch.nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(vocab_size, width)
            self.output = torch.nn.Linear(width, vocab_size)

        def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=self.output(self.embedding(input_ids)))

    return Bigram(Options.model_validate(config.plugins["tiny"]).width)


class Diary:
    """Writes down when it was called, on rank 0."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._calls: list[str] = []

    def on_start(self, step: int) -> None:
        self._calls.append(f"start {step}")

    def on_step(self, record: StepRecord) -> None:
        self._calls.append(f"step {record.step}")

    def on_evaluate(self, step: int, metrics: Mapping[str, float]) -> None:
        self._calls.append(f"evaluate {step}: {', '.join(sorted(metrics))}")

    def on_finish(self, step: int) -> None:
        self._calls.append(f"finish {step}")
        if os.environ.get("RANK", "0") == "0":
            self._path.write_text(json.dumps(self._calls), encoding="utf-8")


def make_hooks(config: Config, options: Options) -> list[Hook]:
    """The diary, in the run's folder."""
    return [Diary(RunDir(config.run_dir).path / options.diary)]


def bits_per_token(*, loss: float, tokens: int, text_bytes: int) -> float:
    """The loss in bits."""
    return loss / math.log(2)


plugin = Plugin(
    name="tiny",
    options=Options,
    commands={"tiny": tell},
    sources={"countdown": read_countdowns},
    models={"bigram": build_bigram},
    hooks=make_hooks,
    metrics={"bits_per_token": bits_per_token},
)
