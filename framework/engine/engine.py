"""The interface of an engine, and the arithmetic of a step that all engines share.

One step, on every rank together::

    count     targets and digest of the whole global batch                      (one reduction)
    forward   the micro-batch's sum of losses; all ranks learn the global sum   (one reduction; refuses NaN and infinity)
    backward  of  loss_sum / targets in the global batch                        } for each micro-batch
    step      clip to the global norm, update the weights at this step's learning rate

Dividing every rank's sum by the *global* number of targets makes the gradient that of the token mean, however the
batch is cut into ranks and micro-batches, and whatever padding each of them has
(docs/decisions/0003-loss-is-a-sum-divided-by-global-targets.md).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from framework.data.stream import IGNORED_TARGET, Digest, MicroBatch, StepBatch
from framework.engine.world import World
from framework.errors import NonFiniteError
from framework.model.language_model import LanguageModel


@dataclass(frozen=True)
class StepOutcome:
    """What one step gave, the same on every rank.

    ``loss`` is the token mean over the global batch, in nats; ``grad_norm`` is None when fp16 left the step out.
    """

    loss: float
    grad_norm: float | None
    target_tokens: int
    digest: Digest


@torch.no_grad()
def sum_losses(
    forward: Callable[[MicroBatch], torch.Tensor], micro_batches: Iterable[MicroBatch], device: torch.device
) -> tuple[float, int]:
    """Sum of ``forward``'s losses in nats, and number of targets. No collective of its own."""
    loss, targets = 0.0, 0
    for micro_batch in micro_batches:
        loss += float(forward(micro_batch.to(device)))
        targets += int((micro_batch.targets != IGNORED_TARGET).sum())
    return loss, targets


class Engine(ABC):
    """Weights, gradients and optimizer of one run, sharded over the ranks. All methods are collectives.

    Args:
        world: the ranks.
        model: what ``log_probs`` and ``generate`` read; under ZeRO stage 3 its parameters are gathered on use.
    """

    def __init__(self, world: World, model: LanguageModel) -> None:
        self.world = world
        self.model = model

    def train_step(self, batch: StepBatch, lr: float) -> StepOutcome:
        """One optimizer step at learning rate ``lr``.

        Raises:
            NonFiniteError: on all ranks, when a loss is NaN or infinite on any; the weights are as before.
        """
        counts = self.world.sum_integers([batch.target_tokens, batch.digest.high, batch.digest.low])
        target_tokens, digest = counts[0], Digest(*counts[1:]) + Digest()
        self._set_training(True)
        total = 0.0
        for number, micro_batch in enumerate(batch.micro_batches):
            loss_sum = self._forward(micro_batch.to(self.world.device))
            total += self._agree_finite(loss_sum, batch.step, number)
            self._backward(loss_sum, target_tokens)
        grad_norm = self._step(lr)
        if not math.isfinite(grad_norm) and not self._skipped_step():
            raise NonFiniteError(
                f"the gradient norm of step {batch.step + 1} is {grad_norm}",
                fix="start again from the last checkpoint with a lower optimizer.lr, or engine.precision=fp32",
            )
        applied = not self._skipped_step()
        return StepOutcome(total / target_tokens, grad_norm if applied else None, target_tokens, digest)

    def evaluate(self, micro_batches: Iterable[MicroBatch]) -> tuple[float, int]:
        """Sum of losses in nats, and number of targets, over all ranks' micro-batches; every rank has as many."""
        self._set_training(False)
        loss, targets = sum_losses(self._forward, micro_batches, self.world.device)
        total, count = self.world.sum_floats([loss, float(targets)])
        return total, int(count)

    def _agree_finite(self, loss_sum: torch.Tensor, step: int, micro_step: int) -> float:
        """The global sum of this micro-step's losses, finite on every rank or refused on every rank."""
        total = self.world.sum_floats(loss_sum.detach().reshape(1))[0]
        if not math.isfinite(total):
            raise NonFiniteError(
                f"the loss of step {step + 1}, micro-step {micro_step + 1}, is {total}",
                fix="start again from the last checkpoint with a lower optimizer.lr, or engine.precision=fp32",
            )
        return total

    @abstractmethod
    def _set_training(self, training: bool) -> None:
        """Turns dropout on or off."""

    @abstractmethod
    def _forward(self, micro_batch: MicroBatch) -> torch.Tensor:
        """This rank's sum of losses, float32 scalar."""

    @abstractmethod
    def _backward(self, loss_sum: torch.Tensor, target_tokens: int) -> None:
        """Adds the gradient of ``loss_sum / target_tokens``, summed over ranks by the end of the step's last call."""

    @abstractmethod
    def _step(self, lr: float) -> float:
        """Clips, updates, clears the gradients; returns the global norm before clipping."""

    def _skipped_step(self) -> bool:
        """Whether ``_step`` left the weights as they were because the loss scale was too large."""
        return False

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes this rank's part of weights and optimizer below ``folder``, which exists."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Reads back what the same number of ranks saved.

        Raises:
            CheckpointError: the folder does not hold it.
        """

    @abstractmethod
    def weights(self) -> dict[str, torch.Tensor] | None:
        """Full float32 weights on the host by parameter name, on rank 0; None on the others."""
