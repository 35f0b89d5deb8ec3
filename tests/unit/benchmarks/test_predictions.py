"""The planner of today beside the runs that were measured and kept: what it says of them must stay right."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import memory, planned_speed
from benchmarks.records import RESULTS, key_of, read_records

MEASURED = read_records(RESULTS / "memory_cpu.jsonl")
PEAKS = {key_of("memory", line["setting"]): line["values"]["measured_peak_bytes"] for line in MEASURED}
CELLS = [cell for line in MEASURED if (cell := memory.Cell(**line["setting"])).model != "tiny"]


def test_enough_was_measured_and_of_every_kind() -> None:
    assert len(CELLS) >= 24
    assert {cell.zero_stage for cell in CELLS} == {0, 1, 2, 3}
    assert {cell.ranks for cell in CELLS} == {1, 2, 4}
    assert len({cell.model for cell in CELLS}) == 2
    assert {cell.activation_checkpointing for cell in CELLS} == {False, True}
    assert {cell.precision for cell in CELLS} == {"fp32", "bf16"}


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_measured_peak_is_still_planned_within_the_goal(cell: memory.Cell, tmp_path: Path) -> None:
    config = memory.write_config(tmp_path)
    plan = memory.plan_cell(config, cell, PEAKS[cell.base.key], PEAKS[cell.key])
    assert abs(plan["error"]) <= memory.GOAL


def test_a_line_says_what_it_was_planned_to_be(tmp_path: Path) -> None:
    config = memory.write_config(tmp_path)
    for line in MEASURED[:4]:
        again = memory.record_of(config, memory.Cell(**line["setting"]), PEAKS)
        assert again["values"] == line["values"]
        assert again["setting"] == line["setting"] == asdict(memory.Cell(**line["setting"]))


def test_speeds_that_the_fit_has_not_seen_are_predicted_within_the_goal(tmp_path: Path) -> None:
    lines = tmp_path / "planned_speed.jsonl"
    lines.write_bytes((RESULTS / "planned_speed_cpu.jsonl").read_bytes())
    planned_speed.report(lines)
    unseen = [line["values"] for line in read_records(lines) if not line["values"]["calibrates"]]
    assert len(unseen) >= 8
    assert max(abs(values["error"]) for values in unseen) <= planned_speed.GOAL
    assert lines.read_bytes() == (RESULTS / "planned_speed_cpu.jsonl").read_bytes()
