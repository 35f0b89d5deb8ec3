"""What one rank holds in memory, by part, at the moment when it holds most. No torch.

The engine's buffers are those of DeepSpeed 0.19 as ``framework.engine.deepspeed_config`` sets it up; what a layer keeps for
its backward pass is counted from transformers' code (``framework.planner.activations``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from framework.config import Config
from framework.planner.activations import Activations, activations_of
from framework.planner.devices import Device
from framework.planner.shape import ModelShape, shape_of

Part = Literal[
    "parameters", "gradients", "optimizer", "master", "activations", "logits", "communication", "workspace", "base"
]
BUCKET_ELEMENTS = 50_000_000
_FREE_SHARE = 0.04  # what torch's allocator cannot hand out, for fragments


@dataclass(frozen=True)
class MemoryPlan:
    """Memory of one rank, in bytes.

    ``parts`` is on the device; ``host_parts`` is what offload keeps in host memory beside it. On a CPU both are the same memory,
    and all is in ``parts``.
    """

    zero_stage: int
    micro_batch_size: int
    activation_checkpointing: bool
    moment: str
    """When the peak is reached."""
    parts: Mapping[Part, int]
    host_parts: Mapping[Part, int]
    memory_bytes: int
    """Of the device, or this rank's share of the node's."""
    usable_bytes: int

    @property
    def peak_bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def host_bytes(self) -> int:
        return sum(self.host_parts.values())

    @property
    def model_state_bytes(self) -> int:
        """Parameters, gradients, master weights and moments."""
        return sum(self.parts.get(part, 0) for part in ("parameters", "gradients", "optimizer", "master"))

    @property
    def margin_bytes(self) -> int:
        """What is left; below zero, what is missing."""
        return self.usable_bytes - self.peak_bytes

    @property
    def fits(self) -> bool:
        return self.margin_bytes >= 0


def plan_memory(config: Config, ranks_per_node: int, nodes: int, device: Device) -> MemoryPlan:
    """What a rank of ``ranks_per_node`` x ``nodes`` will hold when it trains ``config`` on ``device``.

    Raises:
        ConfigError: an architecture or a vocabulary that the planner does not know.
    """
    shape, engine = shape_of(config), config.engine
    ranks = ranks_per_node * nodes
    states, buffers, host = _held(config, shape, ranks, device)
    activations = activations_of(shape, engine)
    moments = {
        "forward and backward": _while_learning(states, buffers, activations),
        "optimizer step": _while_stepping(config, shape, states, ranks),
    }
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    parts: dict[Part, int] = {**moments[moment], "base": int(device.base_bytes)}
    if device.is_host:
        for part, held in host.items():
            parts[part] = parts.get(part, 0) + held
        host = {}
    memory = device.rank_memory_bytes(ranks_per_node)
    return MemoryPlan(
        zero_stage=engine.zero_stage,
        micro_batch_size=engine.micro_batch_size,
        activation_checkpointing=engine.activation_checkpointing,
        moment=moment,
        parts=parts,
        host_parts=host,
        memory_bytes=int(memory),
        usable_bytes=int(memory * (1 - _FREE_SHARE)),
    )


def _held(
    config: Config, shape: ModelShape, ranks: int, device: Device
) -> tuple[dict[Part, int], int, dict[Part, int]]:
    """All the time: states on the device, buffers for communication, states in host memory."""
    engine, count = config.engine, shape.parameters
    width = 4 if engine.precision == "fp32" else 2
    stage = engine.zero_stage if engine.kind == "deepspeed" else 0
    share = -(-count // ranks)
    states: dict[Part, int] = {"parameters": width * (share if stage == 3 else count)}
    optimized: dict[Part, int] = {"optimizer": 8 * (share if stage else count)}
    if stage or engine.precision != "fp32":
        optimized["master"] = 4 * (share if stage else count)
    states["gradients"] = (width if stage == 0 else 4) * (share if stage >= 2 else count)
    buffers = 2 * width * min(BUCKET_ELEMENTS, count) if stage else 0
    if engine.offload.optimizer:
        return states, buffers, optimized
    return {**states, **optimized}, buffers, {}


def _while_learning(states: dict[Part, int], buffers: int, activations: Activations) -> dict[Part, int]:
    return {
        **states,
        "activations": activations.kept_bytes,
        "logits": activations.logits_bytes,
        "communication": buffers,
    }


def _while_stepping(config: Config, shape: ModelShape, states: dict[Part, int], ranks: int) -> dict[Part, int]:
    return dict(states)
