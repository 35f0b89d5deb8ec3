"""The ZeRO engine. What DeepSpeed gets wrong without notice is set or checked here; each place says why."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.engine import DeepSpeedEngine as DeepSpeedRuntime
from deepspeed.utils import logger as deepspeed_logger

from framework.config.batch import BatchPlan
from framework.config.schema import Config
from framework.data.stream import MicroBatch
from framework.engine.deepspeed_config import clips_outside, deepspeed_config
from framework.engine.engine import Engine, Held, clip_gradients
from framework.engine.world import World
from framework.model.loss_model import LossModel
from framework.optim.build import build_optimizer

# DeepSpeed calls collectives by names that torch has since given up; who trains can do nothing about it.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")


class DeepSpeedEngine(Engine):
    """ZeRO stages 0 to 3 (Rajbhandari et al. 2020, arXiv:1910.02054), on GPUs over NCCL and on CPUs over gloo."""

    def __init__(
        self, config: Config, plan: BatchPlan, world: World, model: LossModel, *, weights_follow: bool
    ) -> None:
        super().__init__(world, model)
        deepspeed_logger.setLevel(logging.WARNING)
        _use_gloo_alone()
        _import_muon_uncompiled()
        deepspeed.init_distributed(dist_init_required=False)
        self._engine: Any
        with _rank_0s_weights_not_sent() if weights_follow else nullcontext():
            self._engine, _, _, _ = deepspeed.initialize(
                model=model,
                optimizer=lambda _: build_optimizer(model, config.optimizer),
                model_parameters=[parameter for parameter in model.parameters() if parameter.requires_grad],
                config=deepspeed_config(config, plan),
                dist_init_required=False,
            )
        self._clips_itself = clips_outside(config.engine.precision, self._stage)
        self._clip_norm = config.optimizer.clip_norm
        if world.world_size == 1 and self._stage == 0:
            self._engine.enable_backward_allreduce = False  # it would copy every gradient into a bucket and back
        self._stage_0_masters = _forget_dry_step(self._engine) if self._holds_plain_masters() else {}
        self._place_matrices()

    @property
    def _stage(self) -> int:
        stage: int = self._engine.zero_optimization_stage()
        return stage

    def _holds_plain_masters(self) -> bool:
        return self._stage == 0 and hasattr(self._engine.optimizer, "fp32_groups")

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
        if self._clips_itself:
            return self._step_without_wrapper()
        self._engine.step()
        if self._engine.optimizer.overflow:
            return math.nan
        norm = self._engine.get_global_grad_norm()
        return math.nan if norm is None else float(norm)

    def _step_without_wrapper(self) -> float:
        """Stage 0 in fp32 clips without saying what the norm was, and checks nothing: it is told not to clip."""
        norm = float(clip_gradients(list(self.model.parameters()), self._clip_norm))
        if math.isfinite(norm):
            self._engine.step()
        else:
            self._engine.zero_grad()
            self._engine.micro_steps += 1  # as its step would have: the next micro-batch begins a new step
        return norm

    def _scales_loss(self) -> bool:
        return bool(self._engine.fp16_enabled())

    @property
    def loss_scale(self) -> float | None:
        return float(self._engine.optimizer.loss_scaler.cur_scale) if self._scales_loss() and self._stage else None

    def _set_loss_scale(self, scale: float | None) -> None:
        if scale is not None and self._scales_loss() and self._stage:
            self._engine.optimizer.loss_scaler.cur_scale = scale

    def _held(self) -> Iterator[Held]:
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad:
                yield self._hold_frozen(name, parameter)
            elif self._stage == 0:
                master = self._stage_0_masters.get(parameter, parameter)
                yield Held(name, 0, master.data.view(-1), master)
            elif self._stage == 3:
                yield self._hold_stage_3(name, parameter)
            else:
                yield from self._hold_partition(name, parameter)

    def _hold_partition(self, name: str, parameter: Any) -> Iterator[Held]:
        """Stages 1 and 2 cut all parameters of a group as one, so that a rank may hold none of a parameter, or a part."""
        mapping, optimizer = parameter._hp_mapping, self._engine.optimizer
        if mapping is None:
            return
        # Stage 1 in bf16 is a class of its own, with a name of its own for the same thing.
        in_bf16 = hasattr(optimizer, "fp32_groups_flat_partition")
        partitions = optimizer.fp32_groups_flat_partition if in_bf16 else optimizer.single_partition_of_fp32_groups
        flat, address = partitions[mapping.param_group_index], mapping.hp_fragment_address
        weight = flat.data[address.start : address.start + address.numel]
        yield Held(name, mapping.lp_fragment_address.start, weight, flat, address.start)

    def _hold_stage_3(self, name: str, parameter: Any) -> Held:
        optimizer = self._engine.optimizer
        group, offset, _ = optimizer.grad_position[optimizer.get_param_id(parameter)]
        flat = optimizer.fp32_partitioned_groups_flat[group]
        start, count = self._own_slice(parameter)
        return Held(name, start, flat.data[offset : offset + count], flat, offset)

    def _hold_frozen(self, name: str, parameter: Any) -> Held:
        if self._stage < 3:
            return Held(name, 0, parameter.data.view(-1), None)
        start, count = self._own_slice(parameter)
        return Held(name, start, parameter.ds_tensor.data.view(-1)[:count], None)

    def _own_slice(self, parameter: Any) -> tuple[int, int]:
        """Stage 3 cuts every parameter evenly; what is beyond its end is padding."""
        size = parameter.ds_tensor.numel()
        start = min(self.world.rank * size, parameter.ds_numel)
        return start, min(size, parameter.ds_numel - start)

    def _is_replicated(self, held: Held) -> bool:
        return self._stage == 0 or (self._stage < 3 and held.optimized is None)

    def _torch_optimizer(self) -> torch.optim.Optimizer:
        optimizer = self._engine.optimizer
        return optimizer if isinstance(optimizer, torch.optim.Optimizer) and self._clips_itself else optimizer.optimizer

    @contextmanager
    def _writable(self) -> Iterator[None]:
        optimizer = self._engine.optimizer
        if self._stage == 3:
            optimizer._partition_all_parameters()
        yield
        if self._stage == 0:
            for parameter, master in self._stage_0_masters.items():
                parameter.data.copy_(master.data)
        elif self._stage == 3:
            for group in range(len(optimizer.fp16_groups)):
                optimizer._reassign_or_swap_out_partitioned_parameters(group)
            if optimizer.persistent_parameters:
                optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)
        else:
            optimizer.update_lp_params()


def _forget_dry_step(engine: Any) -> dict[torch.nn.Parameter, torch.Tensor]:
    """Without ZeRO, in bf16: undoes the step that DeepSpeed takes on zero gradients when it starts.

    It leaves Adam's count at one, so that the bias correction shrinks the first updates by a quarter. Returns the
    float32 master of each parameter.
    """
    wrapper = engine.optimizer
    wrapper.optimizer.state.clear()
    pairs = zip(wrapper.fp16_groups, wrapper.fp32_groups, strict=True)
    return {low: master for lows, masters in pairs for low, master in zip(lows, masters, strict=True)}


def _use_gloo_alone() -> None:
    """Keeps DeepSpeed from compiling its shared-memory collective at the first start (docs/decisions/0002)."""
    import deepspeed.ops

    # Where it is not made yet, DeepSpeed would make it by running a compiler, for the sake of operators that nobody asks about.
    vars(deepspeed.ops).setdefault("__compatible_ops__", {})["deepspeed_shm_comm"] = False


@contextmanager
def _rank_0s_weights_not_sent() -> Iterator[None]:
    """DeepSpeed sends every weight of rank 0 to all others when it starts: half a second at 124M parameters over gloo, for values
    that a checkpoint is about to replace."""
    send = DeepSpeedRuntime._broadcast_model
    DeepSpeedRuntime._broadcast_model = lambda _: None
    try:
        yield
    finally:
        DeepSpeedRuntime._broadcast_model = send


def _import_muon_uncompiled() -> None:
    """Keeps DeepSpeed from importing all of torch's compiler at every start: a second and a half of a start that goes on.

    To see whether the optimizer is its own Muon, which it never is here, DeepSpeed imports a module that compiles functions.
    """
    from deepspeed.runtime import compiler

    compile_functions, compiler.compile = compiler.compile, lambda *_, **__: lambda function: function
    try:
        import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
    finally:
        compiler.compile = compile_functions
