"""What an engine trains: a module whose forward is its loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from framework.model.activation import fuse_activations
from framework.model.vector_math import settle_vector_math

IGNORED_TARGET = -100


class LossModel(nn.Module, ABC):
    """A model around a transformer, so that engines and ``torch.compile`` see one function, the loss.

    Args:
        transformer: what is trained, wholly or in part.
    """

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        # Every model that computes here comes by.
        settle_vector_math()
        fuse_activations(transformer)
        self.transformer = transformer

    @abstractmethod
    def forward(self, input_ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of the losses of all targets that are not ``IGNORED_TARGET``.

        Args:
            input_ids: [batch, sequence] int64.
            targets: [batch, sequence] int64.

        Returns:
            float32 scalar, in nats. A sum, not a mean: the engine divides by the targets of the whole global batch.
        """
