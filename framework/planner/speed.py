"""How long a step takes: matrix products, what is bound by memory, the optimizer, and the exchange that is left over. No torch.

    step = accumulation x micro-step + exposed communication + optimizer, longer by ``straggling`` for each doubling of nodes

    micro-step     FLOPs / (peak x matrix x width / (width + half_width) x tokens / (tokens + half_tokens))
                   + bytes read and written by norms, activation functions and the loss / (bandwidth x memory)
                   no less than blocks x launch_seconds, a fifth of it compiled, twice of it with stage 3; on a host, plus that
    communication  collectives of ``framework.planner.network``; what may overlap hides behind ``overlap`` x products
    optimizer      bytes of its states / (bandwidth x memory); over the host's memory when it is offloaded

Attention counts 12 x layers x width x context FLOPs a token (PaLM's convention), of which a causal kernel does half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log2

from framework.config import Config
from framework.planner.devices import Device
from framework.planner.efficiency import Efficiency
from framework.planner.network import Network
from framework.planner.shape import ModelShape, shape_of
from framework.planner.states import BUCKET_ELEMENTS, is_stage_1_bf16

_EAGER_PASSES, _COMPILED_PASSES = 150, 60
"""Elements read and written per token, block and unit of width outside matrix products, forward and backward: counted for GPT-2,
whose activation function alone is eight kernels when nothing fuses them."""
_ATTENTION_PASSES = 14
"""Elements read and written per token, block, head and position by attention that is not fused: scores, softmax, dropout."""
_COMPILED_LAUNCH = 0.2
_LOSS_BYTES = {"fp32": 32, "bf16": 28, "fp16": 28}
_OPTIMIZER_BYTES = 42
"""Read and written per parameter: gradient (for the norm, clipped, applied), master weight, two moments, the rounded weight."""


@dataclass(frozen=True)
class SpeedPlan:
    """Times are of one step, in seconds; ``parts`` adds up to ``step_seconds``."""

    parts: Mapping[str, float]
    hidden_communication_seconds: float
    sent_bytes: float
    """By one rank, in one step."""
    tokens_per_step: int
    flops_per_token: float
    peak_flops_per_second: float
    """Of all ranks together."""

    @property
    def step_seconds(self) -> float:
        return sum(self.parts.values())

    @property
    def tokens_per_second(self) -> float:
        """Of all ranks together."""
        return self.tokens_per_step / self.step_seconds

    @property
    def model_flops_utilisation(self) -> float:
        """Chowdhery et al. 2022, PaLM, appendix B: FLOPs that the model needs, by those that the devices could do."""
        return self.tokens_per_second * self.flops_per_token / self.peak_flops_per_second


def plan_speed(
    config: Config,
    ranks_per_node: int,
    nodes: int,
    device: Device,
    efficiency: Efficiency | None = None,
    *,
    fused_attention: bool = True,
    shape: ModelShape | None = None,
) -> SpeedPlan:
    """The time of a step of ``config`` on ``ranks_per_node`` x ``nodes`` devices.

    Args:
        efficiency: fitted; without it the default, with the device's own share of its peak.
        fused_attention: ours is; what was published before FlashAttention (Dao et al. 2022, arXiv:2205.14135) was not.
        shape: of the config's model, where it is known already.

    Raises:
        ConfigError: an architecture or a vocabulary that the planner does not know.
    """
    reached = efficiency or device.efficiency()
    shape = shape or shape_of(config)
    fused = fused_attention and not (device.is_host and shape.dropout)
    step = _Step(config, shape, ranks_per_node, nodes, device, reached, fused)
    return step.plan()


@dataclass(frozen=True)
class _Step:
    config: Config
    shape: ModelShape
    ranks_per_node: int
    nodes: int
    device: Device
    reached: Efficiency
    fused_attention: bool

    @property
    def ranks(self) -> int:
        return self.ranks_per_node * self.nodes

    @property
    def tokens(self) -> int:
        """Of a micro-batch."""
        return self.config.engine.micro_batch_size * self.shape.context_length

    @property
    def accumulation(self) -> int:
        engine = self.config.engine
        return ceil(engine.global_batch_size / (engine.micro_batch_size * self.ranks))

    @property
    def sharing(self) -> int:
        """Ranks that share one device's rates: all of a node's, where the device is the node's cores."""
        return self.ranks_per_node if self.device.is_host else 1

    def plan(self) -> SpeedPlan:
        shape, engine = self.shape, self.config.engine
        products = self.accumulation * self._product_seconds()
        memory = self.accumulation * self._memory_seconds()
        launch = self._launch_seconds() * self.accumulation
        if not self.device.is_host:
            launch = max(0.0, launch - products - memory)
        overlapped, exposed, gathered = self._communication()
        hideable = self.reached.overlap * products
        parts = {
            "matrix products": products,
            "memory-bound": memory,
            "launch": launch,
            "communication": exposed + max(0.0, overlapped - hideable),
            "optimizer": self._optimizer_seconds(),
        }
        parts["stragglers"] = self.reached.straggling * log2(self.nodes) * sum(parts.values())
        peak = self.device.flops_per_second(engine.precision) * (self.nodes if self.device.is_host else self.ranks)
        return SpeedPlan(
            parts=parts,
            hidden_communication_seconds=min(overlapped, hideable),
            sent_bytes=self._network().sent_bytes(gathered),
            tokens_per_step=self.accumulation * engine.micro_batch_size * self.ranks * shape.context_length,
            flops_per_token=shape.training_flops_per_token,
            peak_flops_per_second=peak,
        )

    def _product_seconds(self) -> float:
        shape, reached = self.shape, self.reached
        flops = self.tokens * shape.training_flops_per_token
        if self.config.engine.activation_checkpointing:
            head = 6.0 * shape.vocab_rows * shape.width
            flops += self.tokens * (shape.training_flops_per_token - head) / 3
        share = reached.matrix * shape.width / (shape.width + reached.half_width)
        share *= self.tokens / (self.tokens + reached.half_tokens)
        return flops / (self.device.flops_per_second(self.config.engine.precision) / self.sharing * share)

    def _memory_seconds(self) -> float:
        shape, engine = self.shape, self.config.engine
        element = 4 if engine.precision == "fp32" else 2
        passes = _COMPILED_PASSES if engine.compile else _EAGER_PASSES
        unit = (4 * shape.width + shape.intermediate) / 8
        block = passes * element * unit
        if not self.fused_attention:
            block += _ATTENTION_PASSES * element * shape.heads * shape.context_length
        again = 4 / 3 if engine.activation_checkpointing else 1.0
        moved = again * shape.layers * block + _LOSS_BYTES[engine.precision] * shape.vocab_size
        return self.tokens * moved / self._memory_rate()

    def _launch_seconds(self) -> float:
        engine = self.config.engine
        blocks = _COMPILED_LAUNCH if engine.compile else 1.0
        if engine.kind == "deepspeed" and engine.zero_stage == 3:  # its hooks gather and release each module's weights
            blocks += 1.0
        return blocks * self.shape.layers * self.reached.launch_seconds

    def _memory_rate(self) -> float:
        return self.device.memory_bytes_per_second / self.sharing * self.reached.memory

    def _optimizer_seconds(self) -> float:
        engine, count = self.config.engine, self.shape.parameters
        sharded = engine.kind == "deepspeed" and engine.zero_stage > 0
        share = count / self.ranks if sharded else count
        if not engine.offload.optimizer or self.device.is_host:
            return share * _OPTIMIZER_BYTES / self._memory_rate() + self._muon_seconds()
        copied = 4 + 2  # gradients there, rounded weights back
        return share * (_OPTIMIZER_BYTES + copied) / self.device.host_bytes_per_second

    def _muon_seconds(self) -> float:
        """Each rank orthogonalises the matrices that it holds a piece of: with stage 3 and without ZeRO all of them."""
        engine = self.config.engine
        if self.config.optimizer.kind != "muon":
            return 0.0
        sharers = self.ranks if engine.kind == "deepspeed" and engine.zero_stage in (1, 2) else 1
        rate = self.device.flops_per_second("fp32" if self.device.is_host else "bf16") / self.sharing
        return self.shape.orthogonalizing_flops / sharers / (rate * self.reached.matrix)

    def _communication(self) -> tuple[float, float, float]:
        """Seconds that may overlap, seconds that cannot, and bytes gathered or scattered."""
        engine, shape, network = self.config.engine, self.shape, self._network()
        low = 4 if engine.precision == "fp32" else 2
        weights = low * shape.parameters
        stage = engine.zero_stage if engine.kind == "deepspeed" else 0
        micro_steps = self.accumulation
        buckets = ceil(shape.parameters / BUCKET_ELEMENTS)
        if stage == 0:
            size = weights if engine.kind == "deepspeed" else 4 * shape.parameters
            return 0.0, network.all_reduce_seconds(size), 2.0 * size
        update = network.gather_seconds(weights, 2)
        if is_stage_1_bf16(engine):
            size = 4 * shape.parameters
            return 0.0, network.all_reduce_seconds(size) + update, 2.0 * size + weights
        if stage < 3:
            times = micro_steps if stage == 2 else 1
            return times * network.all_reduce_seconds(weights, buckets), update, 2.0 * times * weights + weights
        passes = 3  # gathered for the forward and for the backward pass, gradients scattered
        messages = 3 * shape.layers
        seconds = micro_steps * passes * network.gather_seconds(weights, messages)
        if engine.offload.parameters and not self.device.is_host:
            seconds += micro_steps * 2 * weights / self.ranks / self.device.host_bytes_per_second
        if self.config.optimizer.kind != "muon":
            return seconds, 0.0, float(micro_steps * passes * weights)
        # Every update of a matrix is summed whole, in float32, when all gradients are there.
        matrices = shape.layers * len(shape.layer_matrices)
        updates = 4 * shape.layers * sum(shape.layer_matrices)
        exposed = network.all_reduce_seconds(updates, matrices)
        return seconds, exposed, float(micro_steps * passes * weights + 2 * updates)

    def _network(self) -> Network:
        return Network(self.device, self.ranks_per_node, self.nodes, self.reached.link, self.reached.network)
