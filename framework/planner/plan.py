"""The whole plan of a run: what fits, how fast each way of sharding is, and which one to take. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from framework.config import Config, plan_batch
from framework.config.schema import EngineConfig, OffloadConfig
from framework.errors import BatchArithmeticError
from framework.planner.devices import Device
from framework.planner.efficiency import Efficiency
from framework.planner.interval import daly_interval, useful_share, young_interval
from framework.planner.memory import MemoryPlan, plan_memory
from framework.planner.shape import ModelShape, shape_of
from framework.planner.speed import SpeedPlan, plan_speed

_AS_FAST = 0.05  # a simpler way that is so little slower is the better one: the plan is not more exact than that
_CHECKPOINT_BYTES = 12  # float32 weights and two moments (docs/decisions/0005)
_RESTART_SECONDS = 120.0
_LARGEST_MICRO_BATCH = 2**16


@dataclass(frozen=True)
class Way:
    """One way of sharding: its memory at the config's micro-batch, and its speed at the best micro-batch that fits."""

    memory: MemoryPlan
    largest_micro_batch: int
    """Sequences; 0 when not even one fits."""
    micro_batch: int
    """The largest that fits and divides a rank's sequences of a step; 0 as above."""
    best_memory: MemoryPlan
    """At ``micro_batch``, or with one sequence where not even that fits."""
    speed: SpeedPlan
    """The same."""

    @property
    def words(self) -> str:
        """Such as `ZeRO-2 + recompute`."""
        return self.memory.words

    @property
    def effort(self) -> tuple[int, int, int]:
        """To prefer the simpler one of two that are as fast."""
        offload = ("none", "optimizer", "optimizer, parameters").index(self.memory.offload)
        return (offload, int(self.memory.activation_checkpointing), self.memory.zero_stage)


@dataclass(frozen=True)
class Saving:
    """Checkpoints: their size, and how far apart they should be."""

    checkpoint_bytes: int
    save_seconds: float
    mean_failure_seconds: float | None
    young_seconds: float | None
    daly_seconds: float | None
    every_steps: int | None
    useful_share: float | None


@dataclass(frozen=True)
class Plan:
    """What ``zerostream plan`` says."""

    parameters: int
    ranks: int
    memory: MemoryPlan
    """Of the config as it is."""
    speed: SpeedPlan
    largest_micro_batch: int
    """Of the config as it is."""
    ways: tuple[Way, ...]
    recommended: Way | None
    reason: str
    notes: tuple[str, ...]

    def hours(self, tokens: float) -> float:
        """To train on so many tokens, with the config as it is."""
        return tokens / self.speed.tokens_per_second / 3600


def make_plan(
    config: Config, ranks_per_node: int, nodes: int, device: Device, efficiency: Efficiency | None = None
) -> Plan:
    """Plans ``config`` as it is, and every other way of sharding it.

    Raises:
        ConfigError: an architecture or a vocabulary that the planner does not know.
    """
    shape = shape_of(config)
    planner = _Planner(config, shape, ranks_per_node, nodes, device, efficiency)
    # On a host there is nothing to offload to, and Muon does not (framework.config.load).
    offloads = not device.is_host and config.optimizer.kind != "muon"
    ways = tuple(planner.way(engine) for engine in _engines(config.engine, offloads_optimizer=offloads))
    recommended = _recommend(ways)
    return Plan(
        parameters=shape.parameters,
        ranks=planner.ranks,
        memory=planner.memory(config.engine),
        speed=planner.speed(config.engine),
        largest_micro_batch=planner.largest_micro_batch(config.engine),
        ways=ways,
        recommended=recommended,
        reason=_reason(ways, recommended),
        notes=tuple(_notes(config, shape, planner.ranks, device)),
    )


def plan_saving(
    plan: Plan, nodes: int, storage_bytes_per_second: float, mean_failure_seconds: float | None = None
) -> Saving:
    """Size of a checkpoint, and Young's and Daly's intervals.

    Args:
        plan: of the run.
        nodes: that write at once.
        storage_bytes_per_second: that one node can write.
        mean_failure_seconds: between failures of any of the nodes.
    """
    size = _CHECKPOINT_BYTES * plan.parameters
    seconds = size / nodes / storage_bytes_per_second
    if mean_failure_seconds is None:
        return Saving(size, seconds, None, None, None, None, None)
    daly = daly_interval(seconds, mean_failure_seconds)
    return Saving(
        checkpoint_bytes=size,
        save_seconds=seconds,
        mean_failure_seconds=mean_failure_seconds,
        young_seconds=young_interval(seconds, mean_failure_seconds),
        daly_seconds=daly,
        every_steps=max(1, round(daly / plan.speed.step_seconds)),
        useful_share=useful_share(daly, seconds, _RESTART_SECONDS, mean_failure_seconds),
    )


@dataclass(frozen=True)
class _Planner:
    config: Config
    shape: ModelShape
    ranks_per_node: int
    nodes: int
    device: Device
    efficiency: Efficiency | None

    @property
    def ranks(self) -> int:
        return self.ranks_per_node * self.nodes

    @property
    def sequences_per_rank(self) -> int:
        return ceil(self.config.engine.global_batch_size / self.ranks)

    def memory(self, engine: EngineConfig) -> MemoryPlan:
        return plan_memory(self._with(engine), self.ranks_per_node, self.nodes, self.device, self.shape)

    def speed(self, engine: EngineConfig) -> SpeedPlan:
        return plan_speed(
            self._with(engine), self.ranks_per_node, self.nodes, self.device, self.efficiency, shape=self.shape
        )

    def largest_micro_batch(self, engine: EngineConfig) -> int:
        """By doubling and bisection: memory grows with the micro-batch, but for one fall. A micro-batch that is all of a rank's
        step finds no gradients of another one, so that it may fit where smaller ones do not."""
        whole = self.sequences_per_rank
        fits, too_large = (whole, 2 * whole) if self._fits(engine, whole) else (0, 1)
        while too_large <= _LARGEST_MICRO_BATCH and self._fits(engine, too_large):
            fits, too_large = too_large, 2 * too_large
        while too_large - fits > 1:
            middle = (fits + too_large) // 2
            if self._fits(engine, middle):
                fits = middle
            else:
                too_large = middle
        return fits

    def _fits(self, engine: EngineConfig, micro_batch_size: int) -> bool:
        return self.memory(_with_micro_batch(engine, micro_batch_size)).fits

    def way(self, engine: EngineConfig) -> Way:
        largest = self.largest_micro_batch(engine)
        sizes = range(1, min(largest, self.sequences_per_rank) + 1)
        best = max((size for size in sizes if self.sequences_per_rank % size == 0), default=0)
        at_best = _with_micro_batch(engine, max(best, 1))
        return Way(
            memory=self.memory(engine),
            largest_micro_batch=largest,
            micro_batch=best,
            best_memory=self.memory(at_best),
            speed=self.speed(at_best),
        )

    def _with(self, engine: EngineConfig) -> Config:
        return self.config.model_copy(update={"engine": engine})


def _with_micro_batch(engine: EngineConfig, micro_batch_size: int) -> EngineConfig:
    return engine.model_copy(update={"micro_batch_size": micro_batch_size})


def _engines(engine: EngineConfig, *, offloads_optimizer: bool) -> Iterator[EngineConfig]:
    """Every stage, without and with recomputed activations and, if it can be, offload."""
    for stage in range(4):
        offloads = [OffloadConfig()]
        if stage and offloads_optimizer:
            offloads.append(OffloadConfig(optimizer=True))
        if stage == 3 and offloads_optimizer:
            offloads.append(OffloadConfig(optimizer=True, parameters=True))
        for offload in offloads:
            for recomputes in (False, True):
                yield engine.model_copy(
                    update={
                        "kind": "deepspeed",
                        "zero_stage": stage,
                        "activation_checkpointing": recomputes,
                        "offload": offload,
                        "compile": engine.compile and stage < 3,
                    }
                )


def _recommend(ways: tuple[Way, ...]) -> Way | None:
    fitting = [way for way in ways if way.micro_batch]
    if not fitting:
        return None
    fastest = max(way.speed.tokens_per_second for way in fitting)
    as_fast = [way for way in fitting if way.speed.tokens_per_second >= (1 - _AS_FAST) * fastest]
    return min(as_fast, key=lambda way: way.effort)


def _reason(ways: tuple[Way, ...], recommended: Way | None) -> str:
    if recommended is None:
        nearest = min(ways, key=lambda way: way.best_memory.missing_bytes)
        return (
            f"nothing fits, not even with one sequence at a time: {nearest.words} comes nearest, "
            f"{nearest.best_memory.missing_words}; take more or larger devices, or a smaller model or context"
        )
    simpler = [way for way in ways if way.effort < recommended.effort and not way.micro_batch]
    slower = [way for way in ways if way.effort < recommended.effort and way.micro_batch]
    others = [way for way in ways if way.effort > recommended.effort and way.micro_batch]
    reasons = []
    if simpler:
        reasons.append(f"{_list([way.words for way in simpler])} {'does' if len(simpler) == 1 else 'do'} not fit")
    reasons += [
        f"{way.words} is {1 - way.speed.tokens_per_second / recommended.speed.tokens_per_second:.0%} slower"
        for way in slower
    ]
    fastest = max(others, key=lambda way: way.speed.tokens_per_second, default=None)
    if fastest is not None:
        gain = fastest.speed.tokens_per_second / recommended.speed.tokens_per_second - 1
        reasons.append(
            f"{fastest.words} would give {gain:.1%} more, which is not worth it" if gain > 0 else "no other is faster"
        )
    return "; ".join(reasons) or "it is the only one"


def _notes(config: Config, shape: ModelShape, ranks: int, device: Device) -> Iterator[str]:
    try:
        plan_batch(config, ranks)
    except BatchArithmeticError as error:
        yield f"train would refuse this start: {error}"
    if device.is_host and config.engine.precision == "fp16":
        yield "train would refuse this start: engine.precision fp16 needs a GPU. To fix it: set engine.precision=bf16 or fp32."
    if config.engine.precision == "bf16" and not device.has_bf16:
        yield f"{device.name} has no bf16, and takes much longer than planned here: set engine.precision=fp16"
    if config.plugins:
        yield f"plugins ({', '.join(config.plugins)}) are left out: planned is pretraining of the model as it is"
    if config.engine.compile:
        yield "engine.compile: what a compiled model keeps was counted on a CPU; ZeRO-3 is planned without it"
    if shape.dropout and config.model.dropout:
        yield "model.dropout: its masks are counted; on a CPU it also unfuses attention"


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
