"""The whole plan: which way is recommended, what fits, what it costs."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from framework.config import build_config
from framework.planner import Plan, device_named, make_plan, plan_memory, plan_saving
from framework.planner.interval import daly_interval, useful_share, young_interval


def config_of(*, layers: int, width: int, heads: int = 8, lanes: int = 64, **engine: Any) -> Any:
    return build_config(
        {
            "model": {"layers": layers, "width": width, "heads": heads, "context_length": 1024},
            "tokenizer": {"vocab_size": 50257},
            "data": {"shards_dir": "nowhere", "lanes": lanes},
            "engine": {"precision": "bf16", "micro_batch_size": 1, "global_batch_size": 64, **engine},
        },
        origin="test",
    )


def plan_of(config: Any, nodes: int = 1, device: str = "h100") -> Plan:
    return make_plan(config, 8, nodes, device_named(device))


def test_a_small_model_needs_no_sharding_of_weights() -> None:
    plan = plan_of(config_of(layers=6, width=512))
    assert plan.recommended is not None
    assert plan.recommended.memory.zero_stage < 3
    assert plan.recommended.memory.offload == "none"


def test_a_large_model_on_many_gpus_is_sharded_whole() -> None:
    plan = plan_of(config_of(layers=80, width=8192, heads=64), nodes=8)
    assert plan.recommended is not None
    assert plan.recommended.memory.zero_stage == 3
    assert "do not fit" in plan.reason


def test_what_fits_nowhere_is_said() -> None:
    plan = plan_of(config_of(layers=200, width=20480, heads=64))
    assert plan.recommended is None
    assert "nothing fits" in plan.reason


def test_host_memory_that_is_missing_is_told_as_such() -> None:
    config = config_of(layers=80, width=8192, heads=64, zero_stage=3, offload={"optimizer": True, "parameters": False})
    plan = make_plan(config, 4, 1, device_named("h200"))
    host_only = [way for way in plan.ways if way.best_memory.margin_bytes > 0 and not way.best_memory.fits]
    assert "ZeRO-3 + recompute + offload" in [way.words for way in host_only]
    assert all("GiB of host memory too much for a rank" in way.best_memory.missing_words for way in host_only)
    assert plan.recommended is None
    assert "of host memory too much for a rank" in plan.reason
    assert "not even with one sequence" in plan.reason


def test_slower_is_a_share_of_the_recommended_ways_speed() -> None:
    """Half as fast is 50% slower, not 100%."""
    plan = plan_of(config_of(layers=24, width=2048, heads=16, global_batch_size=8), device="l4")
    assert plan.recommended is not None
    slower = [int(percent) for percent in re.findall(r"is (\d+)% slower", plan.reason)]
    speeds = {way.words: way.speed.tokens_per_second for way in plan.ways}
    best = speeds[plan.recommended.words]
    for words, percent in re.findall(r"(ZeRO-[^;]*?) is (\d+)% slower", plan.reason):
        assert int(percent) == round(100 * (1 - speeds[words] / best))
    assert slower


def test_the_reference_engine_is_no_zero_stage() -> None:
    memory = plan_of(config_of(layers=6, width=512, kind="reference", zero_stage=1)).memory
    assert (memory.words, memory.zero_stage) == ("reference engine", 0)
    assert memory.zero_formula_bytes == 20 * memory.parameters


def test_bf16_on_a_gpu_without_it_is_noted() -> None:
    (note,) = plan_of(config_of(layers=6, width=512), device="v100").notes
    assert "v100 has no bf16" in note
    assert not plan_of(config_of(layers=6, width=512, precision="fp16"), device="v100").notes


def test_fp16_on_a_host_is_noted() -> None:
    (note,) = plan_of(config_of(layers=6, width=512, precision="fp16"), device="cpu").notes
    assert "fp16 needs a GPU" in note


def test_the_largest_micro_batch_fits_and_the_next_does_not() -> None:
    config = config_of(layers=24, width=1024, heads=16)
    plan = plan_of(config)
    for micro_batch, fits in ((plan.largest_micro_batch, True), (plan.largest_micro_batch + 1, False)):
        engine = config.engine.model_copy(update={"micro_batch_size": micro_batch})
        assert plan_memory(config.model_copy(update={"engine": engine}), 8, 1, device_named("h100")).fits is fits


def test_the_micro_batch_that_is_taken_divides_a_ranks_share() -> None:
    for way in plan_of(config_of(layers=24, width=1024, heads=16, global_batch_size=96)).ways:
        assert 12 % way.micro_batch == 0
        assert way.micro_batch <= way.largest_micro_batch
        assert way.best_memory.fits


def test_a_whole_step_in_one_micro_batch_may_fit_where_smaller_ones_do_not() -> None:
    config = config_of(layers=38, width=4096, heads=32, global_batch_size=8, precision="fp32")
    plan = make_plan(config, 4, 1, device_named("h100"))  # two sequences a rank: with one at a time, gradients wait
    (stage_1,) = (way for way in plan.ways if way.words == "ZeRO-1")
    assert not stage_1.memory.fits
    assert (stage_1.largest_micro_batch, stage_1.micro_batch) == (2, 2)
    assert stage_1.best_memory.fits


def test_every_stage_with_and_without_recomputing_and_offload() -> None:
    words = [way.words for way in plan_of(config_of(layers=6, width=512)).ways]
    assert len(words) == len(set(words)) == 16
    assert {"ZeRO-0", "ZeRO-2 + recompute", "ZeRO-3 + recompute + offload all"} <= set(words)


def test_a_host_has_nothing_to_offload_to() -> None:
    assert all(way.memory.offload == "none" for way in plan_of(config_of(layers=6, width=512), device="cpu").ways)


def test_a_start_that_train_would_refuse_is_noted() -> None:
    (note,) = plan_of(config_of(layers=6, width=512, lanes=4)).notes
    assert "data.lanes" in note


class TestSaving:
    def test_size_is_what_a_checkpoint_holds(self) -> None:
        plan = plan_of(config_of(layers=6, width=512))
        saving = plan_saving(plan, nodes=2, storage_bytes_per_second=1e9)
        assert saving.checkpoint_bytes == 12 * plan.parameters
        assert saving.save_seconds == saving.checkpoint_bytes / 2e9
        assert saving.daly_seconds is None

    def test_interval(self) -> None:
        plan = plan_of(config_of(layers=6, width=512))
        saving = plan_saving(plan, 1, 1e9, mean_failure_seconds=24 * 3600.0)
        assert saving.young_seconds == math.sqrt(2 * saving.save_seconds * 24 * 3600)
        assert saving.daly_seconds == pytest.approx(saving.young_seconds, rel=0.05)
        assert saving.every_steps == max(1, round(saving.daly_seconds / plan.speed.step_seconds))
        assert saving.useful_share is not None
        assert 0.9 < saving.useful_share < 1

    def test_a_save_that_takes_longer_than_anything_holds_leaves_nothing(self) -> None:
        assert useful_share(36.0, save_seconds=8e5, restart_seconds=120.0, failure_seconds=36.0) == pytest.approx(0.0)
        mean, interval, save, restart = 3600.0, 600.0, 60.0, 30.0
        taken = mean * math.exp(restart / mean) * (math.exp((interval + save) / mean) - 1)  # Daly's own form
        assert useful_share(interval, save, restart, mean) == pytest.approx(interval / taken)

    def test_dalys_interval_is_near_the_best(self) -> None:
        save, failure = 60.0, 3600.0
        best = max(range(60, 3600, 5), key=lambda interval: useful_share(interval, save, 0.0, failure))
        assert daly_interval(save, failure) == pytest.approx(best, rel=0.02)
        assert daly_interval(save, failure) < young_interval(save, failure)
        assert daly_interval(3 * failure, failure) == failure
