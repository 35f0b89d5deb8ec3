"""What the engine holds beside activations: weights, gradients, optimizer and buffers, for each ZeRO stage. No torch.

Read in DeepSpeed 0.19 as ``framework.engine.deepspeed_config`` sets it up, and in ``framework.engine.reference``; P parameters,
n ranks, s = P / n. In bytes:

    stage        always                             gradients                          on their way to the other ranks
    0, fp32      4P weights, 8P moments             4P                                 a flat copy, if there are any
    0, bf16      2P, 4P masters, 8P                 2P, and 4P in the step             a flat copy
    1, fp32      4P, 4s, 8s                         4P                                 two buckets, a flat copy of one
    1, bf16      2P, 4s, 8s, 4P fp32 gradients      2P                                 a flat copy, and one in bf16
    2            4P or 2P, 4s, 8s                   4s, whole ones only in the buckets two buckets, a flat copy of one
    3            4s or 2s, 4s, 8s, 4s gradients     whole ones only in the bucket      a bucket, a flat copy, gathered weights

The ZeRO paper (Rajbhandari et al. 2020, arXiv:1910.02054) has no buckets, and counts gradients in half precision;
``zero_formula_bytes`` is DeepSpeed's own form of its formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from framework.config import Config
from framework.config.schema import EngineConfig
from framework.planner.shape import ModelShape

Part = Literal[
    "parameters",
    "gradients",
    "optimizer",
    "master",
    "activations",
    "logits",
    "communication",
    "workspace",
    "base",
]
PARTS: tuple[Part, ...] = get_args(Part)
BUCKET_ELEMENTS = 50_000_000
_LIVE_ELEMENTS = 1_000_000_000
Bytes = dict[Part, int]


@dataclass(frozen=True)
class States:
    """Bytes of one rank. ``always`` and the gradients are on the device unless they are in ``host``.

    Args:
        always: from the first step on.
        host: the same, in host memory, for offload.
        before: what a micro-step finds of the step's gradients, when it is not the first.
        flowing: what has become of the gradients when the backward pass has come to its end.
        exchanges: while they are exchanged, in place of ``flowing``, and how much of the backward pass is done by then.
        stepping: in the optimizer's step, in place of ``flowing``.
        gathered: whole weights that stage 3 has in hand while it computes.
        gathering: beside them in the forward pass, the buffer that they arrived in.
    """

    always: Bytes
    host: Bytes = field(default_factory=dict)
    before: Bytes = field(default_factory=dict)
    flowing: Bytes = field(default_factory=dict)
    exchanges: tuple[tuple[float, Bytes], ...] = ()
    stepping: Bytes = field(default_factory=dict)
    gathered: Bytes = field(default_factory=dict)
    gathering: Bytes = field(default_factory=dict)


def add(*all_bytes: Mapping[Part, int]) -> Bytes:
    """Part by part."""
    total: Bytes = {}
    for each in all_bytes:
        for part, count in each.items():
            total[part] = total.get(part, 0) + count
    return total


def is_stage_1_bf16(engine: EngineConfig) -> bool:
    """Whether DeepSpeed takes its class for this case alone: whole gradients in float32, exchanged at the end."""
    sharded = engine.kind == "deepspeed" and engine.zero_stage == 1
    return sharded and engine.precision == "bf16" and not engine.offload.optimizer


def states_of(config: Config, shape: ModelShape, ranks: int, *, on_host: bool) -> States:
    """Of one of ``ranks`` ranks. On a CPU a buffer takes only the memory that was written to."""
    engine = config.engine
    if engine.kind == "reference":
        return _reference(config, shape, 2 if engine.precision != "fp32" else 4, ranks)
    low = 4 if engine.precision == "fp32" else 2
    if engine.zero_stage_on(ranks) == 0:
        return _stage_0(config, shape, low, ranks)
    if is_stage_1_bf16(engine):
        return _stage_1_bf16(config, shape, ranks)
    if engine.zero_stage < 3:
        return _stages_1_and_2(config, shape, ranks, low, on_host)
    return _stage_3(config, shape, ranks, low, on_host)


def zero_formula_bytes(parameters: int, ranks: int, zero_stage: int, precision: str) -> int:
    """Model states of one rank as DeepSpeed's documentation counts them (its memory estimators): weights and gradients of the
    compute precision whole where the stage does not share them out, 16 bytes of optimizer and fp32 gradient per parameter.

    bf16: 4P + 16P, 4P + 16P/n, 18P/n for stages 0, 2 and 3, and for stage 1 as for stage 2. fp32: 16P, 8P + 8P/n, 4P + 12P/n,
    16P/n, for weights that need no master.
    """
    share = parameters / ranks
    if precision == "fp32":
        whole = {0: 16.0, 1: 8.0, 2: 4.0, 3: 0.0}[zero_stage]
        return int(whole * parameters + (16.0 - whole) * share)
    if zero_stage == 3:
        return int(18 * share)
    return int(4 * parameters + 16 * (share if zero_stage else parameters))


def _moments(config: Config, shape: ModelShape, count: int) -> int:
    """Bytes of what the optimizer keeps of ``count`` parameters: two numbers each, of Muon's matrices one."""
    of_muon = shape.layers * sum(shape.layer_matrices) if config.optimizer.kind == "muon" else 0
    return int(8 * count - 4 * count * of_muon / shape.parameters)


def _reference(config: Config, shape: ModelShape, low: int, ranks: int) -> States:
    count = shape.parameters
    copies: Bytes = {"communication": low * count} if low < 4 else {}
    return States(
        always={"parameters": 4 * count, "optimizer": _moments(config, shape, count)},
        before={"gradients": 4 * count},
        flowing={"gradients": 4 * count},
        exchanges=((1.0, add({"gradients": 4 * count}, {"communication": 4 * count} if ranks > 1 else {})),),
        stepping={"gradients": 4 * count},
        gathered=copies,
    )


def _stage_0(config: Config, shape: ModelShape, low: int, ranks: int) -> States:
    count = shape.parameters
    always: Bytes = {"parameters": low * count, "optimizer": _moments(config, shape, count)}
    gradients: Bytes = {"gradients": low * count}
    stepping = gradients
    if low < 4:
        always["master"] = 4 * count
        stepping = {"gradients": (low + 4) * count}
    return States(
        always=always,
        before=gradients,
        flowing=gradients,
        exchanges=((1.0, add(gradients, {"communication": low * count} if ranks > 1 else {})),),
        stepping=stepping,
    )


def _stage_1_bf16(config: Config, shape: ModelShape, ranks: int) -> States:
    count = shape.parameters
    share = -(-count // ranks)
    return States(
        always={
            "parameters": 2 * count,
            "master": 4 * share,
            "optimizer": _moments(config, shape, share),
            "gradients": 4 * count,
        },
        before={"gradients": 2 * count},
        flowing={"gradients": 2 * count},
        # Sums in fp32 are flattened into one copy, which is sent as another one, in bf16.
        exchanges=((1.0, {"gradients": 2 * count, "communication": 6 * count}),),
        stepping={"gradients": 2 * count},
    )


def _stages_1_and_2(config: Config, shape: ModelShape, ranks: int, low: int, on_host: bool) -> States:
    engine, count = config.engine, shape.parameters
    share = -(-count // ranks)
    optimized: Bytes = {"master": 4 * share, "optimizer": _moments(config, shape, share)}
    partition: Bytes = {"gradients": 4 * share}
    always: Bytes = {"parameters": low * count}
    host: Bytes = {}
    if engine.offload.optimizer:
        host = add(optimized, partition, {"communication": low * (share + shape.largest_parameter)})
        always["communication"] = low * shape.largest_parameter
    else:
        always |= optimized
    whole: Bytes = {"gradients": low * count}
    own = partition if engine.zero_stage == 2 else {}

    def exchanging(filled: int, copied: int) -> Bytes:
        """On a GPU both buckets are there whole; on a CPU what was written to: the second only when the first was full."""
        buckets = low * (filled if on_host else 2 * BUCKET_ELEMENTS)
        return add(own, {"communication": buckets + low * copied})

    first = min(BUCKET_ELEMENTS, count)
    both = min(2 * BUCKET_ELEMENTS, count)
    last = BUCKET_ELEMENTS if count > 2 * BUCKET_ELEMENTS else count - first or count
    return States(
        always=always,
        host=host,
        before=whole if engine.zero_stage == 1 else partition,
        flowing=exchanging(both, 0),
        exchanges=((first / count, exchanging(first, first)), (1.0, exchanging(both, last))),
        stepping={"gradients": 8 * share if low == 4 else 4 * share},
    )


def _stage_3(config: Config, shape: ModelShape, ranks: int, low: int, on_host: bool) -> States:
    engine, count = config.engine, shape.parameters
    share = -(-count // ranks)
    bucket = low * (min(BUCKET_ELEMENTS, count) if on_host else BUCKET_ELEMENTS)
    weights: Bytes = {"parameters": low * share}
    optimized: Bytes = {"master": 4 * share, "optimizer": _moments(config, shape, share)}
    gradients: Bytes = {"gradients": 4 * share}
    always: Bytes = {"communication": bucket}
    host: Bytes = {}
    if engine.offload.parameters:
        host = add(host, weights)
    else:
        always = add(always, weights)
    if engine.offload.optimizer:
        host = add(host, optimized, gradients, gradients)
    else:
        always = add(always, optimized, gradients)
    gathered: Bytes = {"communication": low * min(_LIVE_ELEMENTS, count)} if ranks > 1 else {}
    first = min(BUCKET_ELEMENTS, count)
    copies = 2 if on_host else 1  # gloo scatters a copy of its own, to one rank too
    return States(
        always=always,
        host=host,
        exchanges=((first / count, {"communication": copies * low * first}),),
        gathered=gathered,
        gathering={"communication": low * first} if ranks > 1 else {},
    )
