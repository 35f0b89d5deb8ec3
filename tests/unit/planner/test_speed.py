"""Step time and collectives: formulas by hand, and what must hold whatever the numbers are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from framework.config import build_config
from framework.config.schema import OptimizerConfig
from framework.planner import Efficiency, SpeedPlan, device_named, plan_speed
from framework.planner.network import Network

H100 = device_named("h100")


def config_of(**engine: Any) -> Any:
    return build_config(
        {
            "model": {"layers": 24, "width": 1024, "heads": 16, "context_length": 1024},
            "tokenizer": {"vocab_size": 50257},
            "data": {"shards_dir": "nowhere"},
            "engine": {"precision": "bf16", "micro_batch_size": 8, "global_batch_size": 512, **engine},
        },
        origin="test",
    )


def plan_of(nodes: int = 1, ranks_per_node: int = 8, efficiency: Efficiency | None = None, **engine: Any) -> SpeedPlan:
    return plan_speed(config_of(**engine), ranks_per_node, nodes, H100, efficiency)


class TestNetwork:
    def test_one_rank_sends_nothing(self) -> None:
        alone = Network(H100, 1, 1, 1.0, 1.0)
        assert alone.all_reduce_seconds(1e9) == alone.gather_seconds(1e9) == alone.sent_bytes(1e9) == 0

    def test_a_ring_inside_a_node(self) -> None:
        network = Network(H100, 8, 1, 0.5, 1.0)
        rate = H100.link_bytes_per_second * 0.5
        assert network.gather_seconds(1e9) == pytest.approx(1e9 * 7 / 8 / rate, rel=0.01)
        assert network.all_reduce_seconds(1e9) == 2 * network.gather_seconds(1e9)

    def test_between_nodes_the_slower_wire_decides(self) -> None:
        network = Network(H100, 8, 2, 1.0, 0.1)
        node_rate = 8 * H100.nic_bytes_per_second * 0.1
        assert network.gather_seconds(1e9) == pytest.approx(1e9 * 15 / 16 / node_rate, rel=0.5)
        assert network.gather_seconds(1e9) > 1e9 * 0.5 / node_rate

    def test_many_nodes_take_the_hierarchical_way_for_small_messages(self) -> None:
        network = Network(H100, 8, 128, 1.0, 1.0)
        ring_hops = 1023 * 10e-6
        assert network.gather_seconds(1e6) < ring_hops

    def test_messages_cost_hops(self) -> None:
        network = Network(H100, 8, 2, 1.0, 1.0)
        assert network.gather_seconds(1e9, 100) > network.gather_seconds(1e9, 1)


class TestSpeed:
    def test_parts_add_up(self) -> None:
        plan = plan_of(zero_stage=3, nodes=4)
        assert plan.step_seconds == pytest.approx(sum(plan.parts.values()))
        assert plan.tokens_per_second == pytest.approx(512 * 1024 / plan.step_seconds)
        assert all(part >= 0 for part in plan.parts.values())

    def test_at_full_efficiency_products_take_the_flops_over_the_peak(self) -> None:
        perfect = Efficiency(matrix=1.0, half_width=0.0, half_tokens=0.0, memory=1.0, straggling=0.0)
        plan = plan_of(ranks_per_node=1, efficiency=perfect, zero_stage=0)
        flops = 512 * 1024 * plan.flops_per_token
        assert plan.parts["matrix products"] == pytest.approx(flops / H100.peak_flops.bf16)

    def test_utilisation_is_below_what_products_reach(self) -> None:
        for stage in range(4):
            assert 0.05 < plan_of(zero_stage=stage).model_flops_utilisation < H100.efficiency().matrix

    def test_recomputing_costs_at_most_a_third(self) -> None:
        without, with_it = (plan_of(activation_checkpointing=recompute) for recompute in (False, True))
        assert 1.1 < with_it.step_seconds / without.step_seconds < 4 / 3

    def test_more_devices_are_faster_but_not_in_proportion(self) -> None:
        rates = [plan_of(nodes=nodes, zero_stage=3).tokens_per_second for nodes in (1, 2, 4, 8)]
        assert rates == sorted(rates)
        assert rates[-1] < 8 * rates[0]

    def test_bytes_sent_are_those_of_the_algorithm(self) -> None:
        parameters = plan_of().flops_per_token  # only to say that it is there
        assert parameters > 0
        weights = 2 * 355_921_920
        steps = 512 // 64
        stage_0 = plan_of(zero_stage=0, nodes=1).sent_bytes
        stage_3 = plan_of(zero_stage=3, nodes=1).sent_bytes
        assert stage_0 == pytest.approx(2 * weights * 7 / 8, rel=0.01)
        assert stage_3 == pytest.approx(3 * steps * weights * 7 / 8, rel=0.01)

    def test_only_bf16_without_offload_sends_stage_1s_gradients_in_float32(self) -> None:
        weights = 2 * 355_921_920
        in_bf16, in_fp16 = (plan_of(zero_stage=1, precision=precision).sent_bytes for precision in ("bf16", "fp16"))
        offloaded = plan_of(zero_stage=1, offload={"optimizer": True, "parameters": False}).sent_bytes
        assert in_bf16 == pytest.approx((2 * 2 + 1) * weights * 7 / 8, rel=0.01)
        assert in_fp16 == offloaded == pytest.approx((2 + 1) * weights * 7 / 8, rel=0.01)

    def test_offload_costs_time(self) -> None:
        offload = {"optimizer": True, "parameters": False}
        assert plan_of(zero_stage=2, offload=offload).step_seconds > plan_of(zero_stage=2).step_seconds

    def test_muon_costs_the_products_of_its_five_steps_and_zero_1_shares_them_out(self) -> None:
        def optimizer_seconds(kind: Literal["adamw", "muon"], ranks: int) -> float:
            config = config_of(zero_stage=1).model_copy(update={"optimizer": OptimizerConfig(kind=kind)})
            return plan_speed(config, ranks, 1, H100).parts["optimizer"]

        more = {ranks: optimizer_seconds("muon", ranks) - optimizer_seconds("adamw", ranks) for ranks in (1, 8)}
        square, long = 5 * 6 * 1024**3, 5 * (4 * 1024**2 * 4096 + 2 * 1024**3)
        flops = 24 * (5 * (4 * 1024**2 * 3072 + 2 * 1024**3) + square + 2 * long)
        assert more[1] == pytest.approx(flops / (H100.peak_flops.bf16 * H100.efficiency().matrix))
        assert more[8] == pytest.approx(more[1] / 8)

    def test_muon_with_zero_3_sums_the_update_of_every_matrix(self) -> None:
        def sent_bytes(kind: Literal["adamw", "muon"], stage: Literal[1, 3]) -> float:
            config = config_of(zero_stage=stage).model_copy(update={"optimizer": OptimizerConfig(kind=kind)})
            return plan_speed(config, 8, 1, H100).sent_bytes

        assert sent_bytes("muon", 1) == sent_bytes("adamw", 1)
        updates = 4 * 24 * (1024 * 3072 + 1024 * 1024 + 2 * 1024 * 4096)
        assert sent_bytes("muon", 3) - sent_bytes("adamw", 3) == pytest.approx(2 * updates * 7 / 8)

    def test_ranks_of_one_host_share_its_rates(self) -> None:
        host = device_named("cpu")
        config = config_of(precision="fp32", zero_stage=1, micro_batch_size=1, global_batch_size=8)
        one, two = (plan_speed(config, ranks, 1, host) for ranks in (1, 2))
        products = two.parts["matrix products"] / one.parts["matrix products"]
        assert products == pytest.approx(1.0, rel=0.01)

    def test_fused_attention_is_faster(self) -> None:
        config = config_of()
        fused, unfused = (plan_speed(config, 8, 1, H100, fused_attention=is_fused) for is_fused in (True, False))
        assert unfused.step_seconds > fused.step_seconds

    def test_a_given_efficiency_replaces_the_devices_own(self) -> None:
        half = replace(H100.efficiency(), matrix=H100.efficiency().matrix / 2)
        slower = plan_of(efficiency=half).parts["matrix products"]
        assert slower == pytest.approx(2 * plan_of().parts["matrix products"])
