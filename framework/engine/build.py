"""Chooses the engine that the config names."""

from __future__ import annotations

import torch

from framework.config.batch import BatchPlan
from framework.config.schema import Config
from framework.engine.engine import Engine
from framework.engine.world import World
from framework.errors import ConfigError
from framework.metrics.device import refuse_missing_device
from framework.model.loss_model import LossModel


def build_engine(
    config: Config, plan: BatchPlan, world: World, model: LossModel, *, weights_follow: bool = False
) -> Engine:
    """Wraps ``model`` for training. All ranks must call it together.

    Args:
        config: of the run.
        plan: of its batch.
        world: the ranks.
        model: the same on all ranks.
        weights_follow: its trainable weights may hold anything, different on every rank; ``Engine.restore`` brings them.

    Raises:
        ConfigError: the precision needs a device that is not there.
    """
    refuse_missing_device(config)
    if config.engine.activation_checkpointing:
        enable = getattr(model.transformer, "gradient_checkpointing_enable", None)
        if enable is None:
            raise ConfigError(
                f"engine.activation_checkpointing true, but {config.model.architecture} cannot recompute its activations",
                fix="turn it off for this model",
            )
        enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.engine.compile:
        torch._dynamo.config.cache_size_limit = max(16, torch._dynamo.config.cache_size_limit)
        # Left alone, torch keeps whatever a product of the backward pass reads, what norms and activation functions gave too:
        # three eighths of a GPT-2 block. Computing that again took no time that could be measured (docs/experiments.md).
        torch._functorch.config.ban_recompute_materialized_backward = False
        model.compile()
    if config.engine.kind == "reference":
        from framework.engine.reference import ReferenceEngine

        return ReferenceEngine(config, world, model)
    # DeepSpeed takes seconds to import: only those who use it wait for it.
    from framework.engine.deepspeed_engine import DeepSpeedEngine

    return DeepSpeedEngine(config, plan, world, model, weights_follow=weights_follow)
