"""The ZeRO engine. What DeepSpeed gets wrong without notice is set or checked here; each place says why."""

from __future__ import annotations

import logging
import math
import os
import warnings
from pathlib import Path
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("DS_LOG_LEVEL", "warning")

import deepspeed
from deepspeed.utils import logger as deepspeed_logger
from deepspeed.utils import safe_get_full_fp32_param

from framework.config.batch import BatchPlan
from framework.config.schema import Config
from framework.data.stream import MicroBatch
from framework.engine.deepspeed_config import deepspeed_config
from framework.engine.engine import Engine
from framework.engine.world import World
from framework.errors import CheckpointError
from framework.model.language_model import LanguageModel
from framework.optim.adamw import build_optimizer

_TAG = "zero"

# DeepSpeed calls collectives by names that torch has since given up; who trains can do nothing about it.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")


class DeepSpeedEngine(Engine):
    """ZeRO stages 0 to 3 (Rajbhandari et al. 2020, arXiv:1910.02054), on GPUs over NCCL and on CPUs over gloo."""

    def __init__(self, config: Config, plan: BatchPlan, world: World, model: LanguageModel) -> None:
        super().__init__(world, model)
        deepspeed_logger.setLevel(logging.WARNING)
        _use_gloo_alone()
        deepspeed.init_distributed(dist_init_required=False)
        self._engine: Any
        self._engine, _, _, _ = deepspeed.initialize(
            model=model,
            optimizer=lambda _: build_optimizer(model, config.optimizer),
            model_parameters=[parameter for parameter in model.parameters() if parameter.requires_grad],
            config=deepspeed_config(config, plan),
            dist_init_required=False,
        )
        self._norm_is_ours = config.engine.zero_stage == 0 and config.engine.precision == "fp32"
        self._stage_0_masters = _forget_dry_step(self._engine) if self._holds_plain_masters() else {}

    def _holds_plain_masters(self) -> bool:
        return self._engine.zero_optimization_stage() == 0 and hasattr(self._engine.optimizer, "fp32_groups")

    def _set_training(self, training: bool) -> None:
        self._engine.train(training)

    def _forward(self, micro_batch: MicroBatch) -> torch.Tensor:
        loss: torch.Tensor = self._engine(micro_batch.input_ids, micro_batch.targets)
        return loss

    def _backward(self, loss_sum: torch.Tensor, target_tokens: int) -> None:
        # DeepSpeed averages gradients over ranks; times the world size makes that the sum we want.
        self._engine.backward(loss_sum * (self.world.world_size / target_tokens), scale_wrt_gas=False)
        if not self._engine.is_gradient_accumulation_boundary():
            self._engine.step()

    def _step(self, lr: float) -> float:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        # Stage 0 in fp32 clips without saying what the norm was.
        if self._norm_is_ours:
            norm = float(self._total_norm())
            if math.isfinite(norm):
                self._engine.step()
            return norm
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        return math.nan if norm is None else float(norm)

    def _skipped_step(self) -> bool:
        # In fp16 an overflow is no failure: the loss scale is halved and the step left out.
        return bool(self._engine.fp16_enabled() and not self._engine.was_step_applied())

    def _total_norm(self) -> torch.Tensor:
        return torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])

    def save(self, folder: Path) -> None:
        # A rank that cannot write must not leave early: the others would wait for it in DeepSpeed's last barrier.
        writer = self._engine.checkpoint_engine
        write, failures = writer.save, []

        def write_or_remember(*arguments: Any, **options: Any) -> None:
            try:
                write(*arguments, **options)
            except (OSError, RuntimeError) as error:
                failures.append(error)

        writer.save = write_or_remember
        try:
            self._save_all_parts(folder)
        finally:
            writer.save = write
        if failures:
            raise failures[0]

    def _save_all_parts(self, folder: Path) -> None:
        # `latest` is written before all ranks have finished; our manifest decides instead (docs/decisions/0004).
        self._engine.save_checkpoint(
            str(folder), tag=_TAG, client_state={"universal_checkpoint_info": {}}, save_latest=False
        )

    def load(self, folder: Path) -> None:
        # DeepSpeed answers a folder it cannot read with (None, None) and a warning: that must not start from scratch.
        path, _ = self._engine.load_checkpoint(
            str(folder), tag=_TAG, load_module_strict=True, load_optimizer_states=True, load_lr_scheduler_states=False
        )
        if path is None:
            raise CheckpointError(
                f"{folder} was not written by engine.kind deepspeed at this zero_stage",
                fix="use the engine that wrote it, or a new run_dir",
            )

    def weights(self) -> dict[str, torch.Tensor] | None:
        full = {}
        for name, parameter in self.model.named_parameters():
            weight = self._full_fp32(parameter)
            if self.world.is_main:
                full[name] = weight.detach().to("cpu", torch.float32, copy=True).reshape(_full_shape(parameter))
        return full if self.world.is_main else None

    def _full_fp32(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        if self._engine.zero_optimization_stage() == 0:
            return self._stage_0_masters.get(parameter, parameter.data)
        weight: torch.Tensor = safe_get_full_fp32_param(parameter)
        return weight


def _forget_dry_step(engine: Any) -> dict[torch.nn.Parameter, torch.Tensor]:
    """Without ZeRO, in bf16: undoes the step that DeepSpeed takes on zero gradients when it starts.

    It leaves Adam's count at one, so that the bias correction shrinks the first updates by a quarter. Returns the
    float32 master of each parameter.
    """
    wrapper = engine.optimizer
    wrapper.optimizer.state.clear()
    pairs = zip(wrapper.fp16_groups, wrapper.fp32_groups, strict=True)
    return {low: master for lows, masters in pairs for low, master in zip(lows, masters, strict=True)}


def _full_shape(parameter: torch.nn.Parameter) -> torch.Size:
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def _use_gloo_alone() -> None:
    """Keeps DeepSpeed from compiling its shared-memory collective at the first start (docs/decisions/0002)."""
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
