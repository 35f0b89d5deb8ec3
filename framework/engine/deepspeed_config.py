"""DeepSpeed's configuration, every value set from ours: nothing is left to a default or to "auto"."""

from __future__ import annotations

from typing import Any

from framework.config.batch import BatchPlan
from framework.config.schema import Config

_BUCKET_ELEMENTS = 50_000_000
_NEVER = 1_000_000_000


def deepspeed_config(config: Config, plan: BatchPlan) -> dict[str, Any]:
    """The dictionary for ``deepspeed.initialize`` (documentation: deepspeed.ai/docs/config-json)."""
    engine, stage = config.engine, config.engine.zero_stage_on(plan.ranks)
    return {
        "train_batch_size": plan.global_batch_size,
        "train_micro_batch_size_per_gpu": plan.micro_batch_size,
        "gradient_accumulation_steps": plan.accumulation_steps,
        "gradient_clipping": 0.0 if clips_outside(engine.precision, stage) else config.optimizer.clip_norm,
        "prescale_gradients": False,
        "gradient_predivide_factor": 1.0,
        "zero_allow_untested_optimizer": True,
        # The optimizer is torch's fused AdamW wherever its states are; DeepSpeed's own would be compiled at start.
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": engine.precision == "bf16", "check_grad_overflow": True},
        "fp16": {
            "enabled": engine.precision == "fp16",
            "loss_scale": 0,
            "initial_scale_power": 16,
            "loss_scale_window": 1000,
            "hysteresis": 2,
            "min_loss_scale": 1,
        },
        # Without ZeRO, DeepSpeed accumulates in the model's own precision and refuses any other.
        "data_types": {"grad_accum_dtype": engine.precision if stage == 0 else "fp32"},
        "zero_optimization": _zero_config(config, stage),
        "wall_clock_breakdown": False,
        "memory_breakdown": False,
        "dump_state": False,
        "steps_per_print": _NEVER,
        "flops_profiler": {"enabled": False},
    }


def clips_outside(precision: str, stage: int) -> bool:
    """Whether DeepSpeed wraps nothing around the optimizer, and tells no norm: the engine clips in its place."""
    return stage == 0 and precision == "fp32"


def _zero_config(config: Config, stage: int) -> dict[str, Any]:
    engine = config.engine
    zero: dict[str, Any] = {
        "stage": stage,
        "contiguous_gradients": True,
        "overlap_comm": True,
        "reduce_scatter": True,
        "reduce_bucket_size": _BUCKET_ELEMENTS,
        "allgather_partitions": True,
        "allgather_bucket_size": _BUCKET_ELEMENTS,
        "round_robin_gradients": False,
        "ignore_unused_parameters": False,
    }
    if stage == 3:
        zero |= {
            "sub_group_size": _NEVER,
            "stage3_prefetch_bucket_size": _BUCKET_ELEMENTS,
            "stage3_param_persistence_threshold": 100_000,
            "stage3_max_live_parameters": _NEVER,
            "stage3_max_reuse_distance": _NEVER,
            "stage3_gather_16bit_weights_on_model_save": False,
            "memory_efficient_linear": True,
        }
    # Pinned host memory is what makes the copies asynchronous; without a GPU there is nothing to pin for.
    if engine.offload.optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": _has_gpu()}
    if engine.offload.parameters:
        zero["offload_param"] = {"device": "cpu", "pin_memory": _has_gpu()}
    return zero


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
