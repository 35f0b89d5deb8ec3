"""Which checkpoints stay. A pure function of what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from framework.config.schema import CheckpointConfig


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk; ``validation_loss`` is None when it was saved without an evaluation."""

    step: int
    validation_loss: float | None = None


def superfluous(saved: Sequence[Saved], config: CheckpointConfig) -> list[int]:
    """Steps of the checkpoints that go: neither among the newest ``keep``, nor of every n-th step, nor among the best."""
    steps = sorted(each.step for each in saved)
    stays = set(steps[-config.keep :])
    if config.keep_every_steps:
        stays |= {step for step in steps if step % config.keep_every_steps == 0}
    losses = [(each.validation_loss, each.step) for each in saved if each.validation_loss is not None]
    stays |= {step for _, step in sorted(losses)[: config.keep_best]}
    return [step for step in steps if step not in stays]
