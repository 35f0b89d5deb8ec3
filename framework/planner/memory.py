"""What one rank holds in memory, by part, at the moment when it holds most. No torch.

A step has a few moments at which memory can be at its peak; each is a sum of parts, and the largest one is the plan:

    end of forward   states + gradients of the micro-steps before + all activations + gradients that the loss has computed
                     ahead + what weights arrived in (ZeRO-3)
    loss             the same, with a chunk of logits in place of what weights arrived in
    last block       the same, with the output matrix's gradient in place of both, and one block's gradients of activations
                     (and its activations, when recomputed)
    first block      states + all gradients on their way + one block
    exchange         states + gradients + what is copied to exchange them, when a first bucket is full and at the end
    optimizer step   states + this rank's gradients
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from framework.config import Config
from framework.planner.activations import Activations, activations_of
from framework.planner.devices import Device
from framework.planner.shape import ModelShape, shape_of
from framework.planner.states import Bytes, Part, States, add, states_of, zero_formula_bytes

_FREE_SHARE = 0.04  # what torch's allocator cannot hand out, for fragments; on a host, what the system keeps for itself
_GIB = 2**30


@dataclass(frozen=True)
class MemoryPlan:
    """Memory of one rank, in bytes.

    ``parts`` is on the device; ``host_parts`` is what offload keeps in host memory beside it. On a CPU both are the same memory,
    and all is in ``parts``.
    """

    engine: str
    """`deepspeed`, or `reference`, which shares out nothing: its stage is 0."""
    zero_stage: int
    micro_batch_size: int
    activation_checkpointing: bool
    offload: str
    """`none`, `optimizer`, or `optimizer, parameters`."""
    parameters: int
    moment: str
    """When the peak is reached."""
    parts: Mapping[Part, int]
    host_parts: Mapping[Part, int]
    memory_bytes: int
    """Of the device, or this rank's share of the node's."""
    usable_bytes: int
    host_usable_bytes: int
    """Of the node's host memory, this rank's share."""
    zero_formula_bytes: int
    """Model states as the ZeRO formulas have them (``framework.planner.states``)."""

    @property
    def words(self) -> str:
        """The way of sharding, such as `ZeRO-2 + recompute`."""
        words = [f"ZeRO-{self.zero_stage}" if self.engine == "deepspeed" else "reference engine"]
        if self.activation_checkpointing:
            words.append("recompute")
        if self.offload != "none":
            words.append("offload" if self.offload == "optimizer" else "offload all")
        return " + ".join(words)

    @property
    def peak_bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def host_bytes(self) -> int:
        return sum(self.host_parts.values())

    @property
    def model_state_bytes(self) -> int:
        """Parameters, gradients, master weights and moments at the peak, on device and host."""
        states: tuple[Part, ...] = ("parameters", "gradients", "optimizer", "master")
        return sum(self.parts.get(part, 0) + self.host_parts.get(part, 0) for part in states)

    @property
    def margin_bytes(self) -> int:
        """What is left on the device; below zero, what is missing."""
        return self.usable_bytes - self.peak_bytes

    @property
    def host_margin_bytes(self) -> int:
        """The same, of the host memory that offload takes."""
        return self.host_usable_bytes - self.host_bytes

    @property
    def missing_bytes(self) -> int:
        """On the device and in host memory together; 0 when it fits."""
        return max(0, -self.margin_bytes) + max(0, -self.host_margin_bytes)

    @property
    def missing_words(self) -> str:
        """Such as `3.2 GiB too much for a rank`; empty when it fits."""
        places = ((-self.margin_bytes, ""), (-self.host_margin_bytes, " of host memory"))
        words = [f"{missing / _GIB:,.1f} GiB{place} too much" for missing, place in places if missing > 0]
        return f"{' and '.join(words)} for a rank" if words else ""

    @property
    def fits(self) -> bool:
        return not self.missing_bytes


def plan_memory(
    config: Config, ranks_per_node: int, nodes: int, device: Device, shape: ModelShape | None = None
) -> MemoryPlan:
    """What a rank of ``ranks_per_node`` x ``nodes`` will hold when it trains ``config`` on ``device``.

    Args:
        shape: of the config's model, where it is known already.

    Raises:
        ConfigError: an architecture or a vocabulary that the planner does not know.
    """
    shape, engine = shape or shape_of(config), config.engine
    ranks = ranks_per_node * nodes
    states = states_of(config, shape, ranks, on_host=device.is_host)
    activations = activations_of(shape, engine, on_host=device.is_host)
    accumulates = engine.global_batch_size > engine.micro_batch_size * ranks
    moments = _moments(config, shape, states, activations, accumulates=accumulates)
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    parts, host = add(moments[moment], {"base": int(device.base_bytes)}), states.host
    if device.is_host:
        parts, host = add(parts, host), {}
    memory = device.rank_memory_bytes(ranks_per_node)
    zero_stage = engine.zero_stage if engine.kind == "deepspeed" else 0
    return MemoryPlan(
        engine=engine.kind,
        zero_stage=zero_stage,
        micro_batch_size=engine.micro_batch_size,
        activation_checkpointing=engine.activation_checkpointing,
        offload=_offload_words(config),
        parameters=shape.parameters,
        moment=moment,
        parts={part: count for part, count in parts.items() if count},
        host_parts=host,
        memory_bytes=int(memory),
        usable_bytes=int(memory * (1 - _FREE_SHARE)),
        host_usable_bytes=int(device.host_memory_bytes * (1 - _FREE_SHARE)),
        zero_formula_bytes=zero_formula_bytes(shape.parameters, ranks, zero_stage, engine.precision),
    )


def _offload_words(config: Config) -> str:
    offload = config.engine.offload
    words = [word for word, is_on in (("optimizer", offload.optimizer), ("parameters", offload.parameters)) if is_on]
    return ", ".join(words) or "none"


def _moments(
    config: Config, shape: ModelShape, states: States, activations: Activations, *, accumulates: bool
) -> dict[str, Bytes]:
    recomputes = config.engine.activation_checkpointing
    per_block = activations.input_bytes if recomputes else activations.block_bytes
    kept: Bytes = {"activations": shape.layers * per_block + activations.ends_bytes}
    ahead: Bytes = {"logits": activations.ahead_bytes}
    output: Bytes = {"logits": activations.output_gradient_bytes}
    block: Bytes = {"workspace": activations.working_bytes}
    if recomputes:
        block = add(block, {"activations": activations.block_bytes})
    one_block = add({"activations": activations.block_bytes}, {"workspace": activations.working_bytes})
    before = states.before if accumulates else {}
    # The first block's own gradients are what its backward pass is about to give.
    still_to_come = (4 if config.engine.precision == "fp32" else 2) * shape.layer_parameters
    flowing: Bytes = {part: max(0, count - still_to_come) for part, count in states.flowing.items()}
    moments = {
        "end of forward": add(states.always, states.gathered, states.gathering, before, kept, ahead),
        "loss": add(states.always, states.gathered, before, kept, ahead, {"logits": activations.logits_bytes}),
        "last block": add(states.always, states.gathered, before, kept, output, block),
        "first block": add(states.always, flowing, one_block),
        "optimizer step": add(states.always, states.stepping),
    }
    for number, (done, exchanged) in enumerate(states.exchanges, start=1):
        left = 1 - done
        name = "exchange" if len(states.exchanges) == 1 else f"exchange {number}"
        moments[name] = add(states.always, exchanged, _scaled(states.gathered, left), _scaled(kept, left))
        if left > 0:
            moments[name] = add(moments[name], block, output if shape.is_tied else {})
    return moments


def _scaled(parts: Bytes, factor: float) -> Bytes:
    return {part: int(count * factor) for part, count in parts.items()}
