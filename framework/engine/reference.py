"""The engine in plain torch: no sharding, every line readable. It is the oracle the DeepSpeed engine is checked against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from framework.config.schema import Config
from framework.data.stream import MicroBatch
from framework.engine.engine import Engine, Held, clip_gradients
from framework.engine.world import World
from framework.model.loss_model import LossModel
from framework.optim.build import build_optimizer

_COMPUTE_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class ReferenceEngine(Engine):
    """Data parallelism by one all-reduce of all gradients; weights and optimizer are float32 and whole on every rank.

    In bf16 the forward reads a bfloat16 copy of the weights, as DeepSpeed's does; autograd casts its gradients back.
    """

    def __init__(self, config: Config, world: World, model: LossModel) -> None:
        super().__init__(world, model.to(world.device))
        self._clip_norm = config.optimizer.clip_norm
        self._compute_dtype = _COMPUTE_DTYPES[config.engine.precision]
        self._optimizer = build_optimizer(self.model, config.optimizer)
        self._parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._place_matrices()

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
        if self.world.world_size > 1:
            gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            self.world.sum_in_place(flat)
            for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(summed.view_as(gradient))
        norm = clip_gradients(self._parameters, self._clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        if torch.isfinite(norm):
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def _held(self) -> Iterator[Held]:
        for name, parameter in self.model.named_parameters():
            yield Held(name, 0, parameter.data.view(-1), parameter if parameter.requires_grad else None)

    def _is_replicated(self, held: Held) -> bool:
        return True

    def _torch_optimizer(self) -> torch.optim.Optimizer:
        return self._optimizer

    @contextmanager
    def _writable(self) -> Iterator[None]:
        yield
