"""The fit finds efficiencies that were planted, and says how well."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from framework.config import build_config
from framework.errors import ConfigError
from framework.planner import Efficiency, Measured, device_named, fit, plan_speed, read_measured

CPU = device_named("cpu")


def values_of(width: int, micro_batch_size: int = 4) -> dict[str, Any]:
    return {
        "model": {"layers": 6, "width": width, "heads": 8, "context_length": 256},
        "tokenizer": {"vocab_size": 4096},
        "data": {"shards_dir": "nowhere"},
        "engine": {"micro_batch_size": micro_batch_size, "global_batch_size": 16, "zero_stage": 1},
    }


def lines_of(efficiency: Efficiency) -> list[Measured]:
    found = []
    for width, micro_batch_size in ((128, 1), (256, 8), (512, 1), (1024, 8)):
        for ranks in (1, 2):
            config = build_config(values_of(width, micro_batch_size), origin="test")
            rate = plan_speed(config, ranks, 1, CPU, efficiency).tokens_per_second
            found.append(Measured(config, CPU, ranks, 1, rate, f"{width} on {ranks}"))
    return found


def test_planted_efficiencies_are_found_again() -> None:
    planted = replace(Efficiency(), matrix=0.4, memory=0.5, link=0.3, half_width=90.0, overlap=0.3)
    calibration = fit(lines_of(planted), Efficiency())
    assert calibration.largest_error < 0.03
    held_out = build_config(values_of(768, 4), origin="test")
    predicted, true = (
        plan_speed(held_out, 2, 1, CPU, each).tokens_per_second for each in (calibration.efficiency, planted)
    )
    assert predicted == pytest.approx(true, rel=0.1)


def test_what_the_lines_say_nothing_about_stays() -> None:
    alone = [line for line in lines_of(replace(Efficiency(), matrix=0.4)) if line.ranks_per_node == 1]
    fitted = fit(alone, Efficiency()).efficiency
    assert fitted.network == pytest.approx(Efficiency().network, abs=0.01)
    assert fitted.link == pytest.approx(Efficiency().link, abs=0.01)


def test_residuals_are_told() -> None:
    lines = lines_of(Efficiency())
    odd = replace(lines[0], tokens_per_second=lines[0].tokens_per_second * 2)
    calibration = fit([odd, *lines[1:]], Efficiency())
    assert calibration.residuals["1: 128 on 1"] < -0.2
    assert calibration.largest_error > calibration.median_error


class TestFiles:
    def test_reads_throughput_lines_and_passes_over_others(self, tmp_path: Path) -> None:
        path = tmp_path / "results.jsonl"
        good = {"config": values_of(256), "device": "cpu", "ranks": 2, "tokens_per_second": 1000.0}
        others: list[Any] = [
            {"question": "loader", "tokens_per_second": 5.0},
            {"config": values_of(256), "error": "out of memory"},
            {"config": {"model": {"width": -1}}, "tokens_per_second": 5.0},
            {"config": values_of(256), "device": "no such device", "tokens_per_second": 5.0},
        ]
        text = "\n".join(json.dumps(line) for line in [good, *others]) + "\nhalf a li"
        path.write_text(text, encoding="utf-8")
        (found,) = read_measured(path, CPU)
        assert (found.ranks_per_node, found.nodes, found.tokens_per_second) == (2, 1, 1000.0)

    @pytest.mark.parametrize(
        "odd",
        [
            {"ranks": 0}, {"ranks": -2}, {"ranks": "two"}, {"ranks": None}, {"ranks": 5, "nodes": 2}, {"nodes": 0},
            {"nodes": 3}, {"environment": [1]}, {"values": [1]}, {"values": None}, {"tokens_per_second": math.inf},
            {"tokens_per_second": math.nan}, {"tokens_per_second": -3}, {"tokens_per_second": True},
            {"tokens_per_second": 10**400}, {"device": ["cpu"]},
            {"config": values_of(256) | {"model": {"architecture": "bloom", "width": 64, "heads": 4}}},
        ],
    )  # fmt: skip
    def test_an_odd_line_is_passed_over(self, tmp_path: Path, odd: dict[str, Any]) -> None:
        path = tmp_path / "results.jsonl"
        good = {"config": values_of(256), "device": "cpu", "tokens_per_second": 1000.0}
        path.write_text(f"{json.dumps({**good, **odd})}\n{json.dumps(good)}\n[1]\n3\n", encoding="utf-8")
        names = [line.name for line in read_measured(path, CPU)]
        assert names == (["line 1", "line 2"] if "environment" in odd else ["line 2"])

    @pytest.mark.parametrize(("seen", "planned"), [("cpu", "h100"), ("NVIDIA H100 80GB HBM3", "cpu")])
    def test_what_a_cpu_did_says_nothing_of_a_gpu(self, tmp_path: Path, seen: str, planned: str) -> None:
        path = tmp_path / "results.jsonl"
        environment = {"device": seen, "world_size": 1}
        path.write_text(json.dumps({"config": values_of(256), "environment": environment, "tokens_per_second": 5.0}))
        with pytest.raises(ConfigError, match=f"line 1: measured on {seen}, where {planned} is planned"):
            read_measured(path, device_named(planned))
        (line,) = read_measured(path, device_named("cpu" if planned == "h100" else "h100"))
        assert line.ranks_per_node == 1

    def test_why_no_line_can_be_planned_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "results.jsonl"
        path.write_text(json.dumps({"config": values_of(256), "device": "h300", "tokens_per_second": 5.0}))
        with pytest.raises(ConfigError, match="line 1: device 'h300' is not in the table"):
            read_measured(path, CPU)

    def test_a_file_without_any_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "results.jsonl"
        path.write_text("{}\n", encoding="utf-8")
        with pytest.raises(ConfigError, match="no throughput lines"):
            read_measured(path, CPU)
        with pytest.raises(ConfigError, match="cannot be read"):
            read_measured(tmp_path / "nothing.jsonl", CPU)

    def test_saved_and_loaded(self, tmp_path: Path) -> None:
        path = tmp_path / "calibration.json"
        calibration = fit(lines_of(replace(Efficiency(), matrix=0.5)), Efficiency())
        path.write_text(json.dumps(calibration.as_dict()), encoding="utf-8")
        loaded = Efficiency.load(path)
        for name, value in calibration.efficiency.as_dict().items():
            assert getattr(loaded, name) == pytest.approx(value, rel=1e-5)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("matrix", -1.0), ("matrix", math.nan), ("link", 0.0), ("overlap", 9.0), ("half_width", -1e3),
         ("launch_seconds", math.inf)],
    )  # fmt: skip
    def test_a_number_that_no_fit_gives_is_refused(self, tmp_path: Path, name: str, value: float) -> None:
        path = tmp_path / "calibration.json"
        path.write_text(json.dumps({"efficiency": {**Efficiency().as_dict(), name: value}}), encoding="utf-8")
        with pytest.raises(ConfigError, match=f"{name} is "):
            Efficiency.load(path)

    def test_another_file_is_no_calibration(self, tmp_path: Path) -> None:
        path = tmp_path / "calibration.json"
        path.write_text("{}", encoding="utf-8")
        with pytest.raises(ConfigError, match="no calibration"):
            Efficiency.load(path)
