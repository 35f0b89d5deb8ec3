"""The plan of memory: against the allocator's own record, the ZeRO formulas, and common sense."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from framework.config import build_config, plan_batch
from framework.data.stream import Digest, MicroBatch, StepBatch
from framework.engine.reference import ReferenceEngine
from framework.engine.world import join_world
from framework.model.build import build_model
from framework.planner import MemoryPlan, device_named, plan_memory
from framework.planner.states import zero_formula_bytes

VOCABULARY = 512


def config_of(*, layers: int = 4, width: int = 128, model: dict[str, Any] | None = None, **engine: Any) -> Any:
    return build_config(
        {
            "model": {"layers": layers, "width": width, "heads": 4, "context_length": 64, **(model or {})},
            "tokenizer": {"vocab_size": VOCABULARY},
            "data": {"shards_dir": "nowhere"},
            "engine": {"micro_batch_size": 4, "global_batch_size": 8, **engine},
        },
        origin="test",
    )


def plan_of(config: Any, ranks: int = 1, device: str = "cpu") -> MemoryPlan:
    return plan_memory(config, ranks, 1, device_named(device))


def without_base(plan: MemoryPlan) -> int:
    return plan.peak_bytes - plan.parts["base"]


def allocated_peak(config: Any, steps: int = 2) -> int:
    """Largest sum of tensors alive at once, from before the model is built, by torch's own record of its allocator."""
    generator = torch.Generator().manual_seed(0)
    plan = plan_batch(config, 1)
    shape = (plan.micro_batch_size, plan.context_length)

    def batch(step: int) -> StepBatch:
        rows = [torch.randint(0, VOCABULARY, shape, generator=generator) for _ in range(plan.accumulation_steps)]
        micro_batches = tuple(MicroBatch(row, row) for row in rows)
        return StepBatch(step, micro_batches, shape[0] * shape[1] * len(rows), Digest())

    with join_world(60) as world, profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model = build_model(config, VOCABULARY, 0)
        if config.engine.activation_checkpointing:
            model.transformer.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        engine = ReferenceEngine(config, world, model)
        for step in range(steps):
            engine.train_step(batch(step), 1e-3)
    events: list[tuple[int, int]] = []

    def collect(nodes: Any) -> None:
        for node in nodes:
            if node.tag == _EventType.Allocation:
                events.append((node.start_time_ns, node.typed[1].alloc_size))
            collect(node.children)

    collect(profiler.profiler.kineto_results.experimental_event_tree())
    alive, peak = 0, 0
    for _, size in sorted(events, key=lambda event: event[0]):
        alive += size
        peak = max(peak, alive)
    return peak


@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize("accumulates", [False, True])
def test_one_rank_allocates_what_is_planned(recomputes: bool, accumulates: bool) -> None:
    config = config_of(kind="reference", activation_checkpointing=recomputes, global_batch_size=8 if accumulates else 4)
    planned = without_base(plan_of(config))
    assert planned == pytest.approx(allocated_peak(config), rel=0.03)


class TestStates:
    @pytest.mark.parametrize("ranks", [8, 64])
    def test_stage_3_holds_what_the_formula_says(self, ranks: int) -> None:
        plan = plan_of(config_of(zero_stage=3, precision="bf16", layers=24, width=1024), ranks, "h100")
        assert plan.model_state_bytes == pytest.approx(18 * plan.parameters / ranks, rel=0.001)
        assert plan.zero_formula_bytes == pytest.approx(plan.model_state_bytes, rel=0.001)

    def test_stage_2_holds_whole_gradients_in_its_buckets_alone(self) -> None:
        plan = plan_of(config_of(zero_stage=2, precision="bf16", layers=24, width=1024), 8, "h100")
        states = 2 * plan.parameters + 16 * plan.parameters / 8
        assert plan.model_state_bytes == pytest.approx(states, rel=0.03)
        assert plan.zero_formula_bytes == pytest.approx(states + 2 * plan.parameters, rel=0.001)

    def test_formulas(self) -> None:
        assert zero_formula_bytes(1000, 10, 2, "bf16") == 4 * 1000 + 16 * 100
        assert zero_formula_bytes(1000, 10, 3, "bf16") == 18 * 100
        assert zero_formula_bytes(1000, 10, 0, "fp32") == 16 * 1000
        assert zero_formula_bytes(1000, 10, 3, "fp32") == 16 * 100


class TestMemoryPlan:
    def test_each_stage_needs_less_than_the_one_before_on_many_ranks(self) -> None:
        config = {"precision": "bf16", "layers": 48, "width": 1600, "global_batch_size": 4}
        peaks = [plan_of(config_of(zero_stage=stage, **config), 64, "h100").peak_bytes for stage in range(4)]
        assert peaks == sorted(peaks, reverse=True)

    def test_more_ranks_never_need_more_each(self) -> None:
        for stage in (1, 2, 3):
            config = config_of(zero_stage=stage, precision="bf16", layers=24, width=1024, global_batch_size=256)
            peaks = [plan_of(config, ranks, "h100").peak_bytes for ranks in (2, 4, 8, 16)]
            assert peaks == sorted(peaks, reverse=True)

    def test_offload_moves_states_to_the_host(self) -> None:
        config = config_of(zero_stage=2, precision="bf16", layers=24, width=1024)
        offloaded = config_of(
            zero_stage=2, precision="bf16", layers=24, width=1024, offload={"optimizer": True, "parameters": False}
        )
        here, there = plan_of(config, 2, "h100"), plan_of(offloaded, 2, "h100")
        assert there.peak_bytes < here.peak_bytes
        assert there.host_bytes >= 12 * there.parameters / 2
        assert here.host_bytes == 0

    def test_on_a_cpu_there_is_one_memory(self) -> None:
        config = config_of(zero_stage=2, offload={"optimizer": True, "parameters": False})
        plan = plan_of(config, 2)
        assert not plan.host_parts
        assert plan.parts["optimizer"] == pytest.approx(8 * plan.parameters / 2, rel=0.01)

    def test_ranks_of_one_host_share_its_memory(self) -> None:
        config = config_of()
        one, four = plan_of(config, 1), plan_of(config, 4)
        assert four.memory_bytes == one.memory_bytes // 4

    def test_margin_and_fit(self) -> None:
        small = device_named("h100").model_copy(update={"memory_bytes": 1e9, "base_bytes": 0.5e9})
        plan = plan_memory(config_of(layers=24, width=1024), 1, 1, small)
        assert not plan.fits
        assert plan.margin_bytes == plan.usable_bytes - plan.peak_bytes < 0
        assert plan_of(config_of(), 1, "h100").fits

    def test_half_precision_halves_weights_and_activations(self) -> None:
        many = {"micro_batch_size": 256, "global_batch_size": 256}
        full, half = (plan_of(config_of(precision=name, **many), 1, "h100") for name in ("fp32", "bf16"))
        assert half.parts["parameters"] * 2 == full.parts["parameters"]
        assert half.parts["activations"] == pytest.approx(full.parts["activations"] / 2, rel=0.02)
