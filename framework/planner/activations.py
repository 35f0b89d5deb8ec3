"""What the forward pass keeps for the backward pass, and what the loss needs beside it. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from framework.config.schema import EngineConfig
from framework.planner.shape import ModelShape


@dataclass(frozen=True)
class Activations:
    """Bytes of one micro-batch on one rank, when the loss has just been computed and its gradient begins."""

    kept_bytes: int
    logits_bytes: int


def activations_of(shape: ModelShape, engine: EngineConfig) -> Activations:
    """For micro-batches of ``engine.micro_batch_size`` sequences."""
    element = 4 if engine.precision == "fp32" else 2
    tokens = engine.micro_batch_size * shape.context_length
    per_layer = 16 * shape.width + 2 * shape.intermediate
    kept = tokens * element * (shape.layers * (shape.width if engine.activation_checkpointing else per_layer))
    return Activations(kept_bytes=kept, logits_bytes=12 * tokens * shape.vocab_size)
