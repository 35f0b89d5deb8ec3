"""The engine in plain torch: no sharding, every line readable. It is the oracle the DeepSpeed engine is checked against."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from framework.config.schema import Config
from framework.data.stream import MicroBatch
from framework.engine.engine import Engine
from framework.engine.world import World
from framework.errors import CheckpointError
from framework.model.language_model import LanguageModel
from framework.optim.adamw import build_optimizer

_STATE_NAME = "reference.pt"
_COMPUTE_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class ReferenceEngine(Engine):
    """Data parallelism by one all-reduce of all gradients; weights and optimizer are float32 and whole on every rank.

    In bf16 the forward reads a bfloat16 copy of the weights, as DeepSpeed's does; autograd casts its gradients back.
    """

    def __init__(self, config: Config, world: World, model: LanguageModel) -> None:
        super().__init__(world, model.to(world.device))
        self._clip_norm = config.optimizer.clip_norm
        self._compute_dtype = _COMPUTE_DTYPES[config.engine.precision]
        self._optimizer = build_optimizer(self.model, config.optimizer)
        self._parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def _set_training(self, training: bool) -> None:
        self.model.train(training)

    def _forward(self, micro_batch: MicroBatch) -> torch.Tensor:
        arguments = (micro_batch.input_ids, micro_batch.targets)
        if self._compute_dtype == torch.float32:
            loss: torch.Tensor = self.model(*arguments)
            return loss
        copies = {name: parameter.to(self._compute_dtype) for name, parameter in self.model.named_parameters()}
        loss = torch.func.functional_call(self.model, copies, arguments)
        return loss

    def _backward(self, loss_sum: torch.Tensor, target_tokens: int) -> None:
        (loss_sum / target_tokens).backward()

    def _step(self, lr: float) -> float:
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if self.world.world_size > 1:
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            dist.all_reduce(flat)
            for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(summed.view_as(gradient))
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._clip_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, norm)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        if torch.isfinite(norm):
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def save(self, folder: Path) -> None:
        if self.world.is_main:
            torch.save(
                {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}, folder / _STATE_NAME
            )

    def load(self, folder: Path) -> None:
        path = folder / _STATE_NAME
        if not path.is_file():
            raise CheckpointError(
                f"{folder} was not written by engine.kind reference",
                fix="use the engine.kind that wrote it, or a new run_dir",
            )
        state = torch.load(path, map_location=self.world.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])

    def weights(self) -> dict[str, torch.Tensor] | None:
        if not self.world.is_main:
            return None
        return {name: parameter.detach().cpu().clone() for name, parameter in self.model.named_parameters()}
