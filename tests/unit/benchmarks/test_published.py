"""The planner beside what others have published."""

from __future__ import annotations

import statistics

from benchmarks.published import compare, plan_cell, read_published


def test_every_figure_names_where_it_is_from() -> None:
    for line in read_published():
        assert line["source"].startswith(("https://", "Narayanan et al. 2021, arXiv:2104.04473")), line


def test_half_of_what_was_not_fitted_is_met_within_fifteen_percent() -> None:
    compared = [compare(line) for line in read_published()]
    errors = [abs(line["error"]) for line in compared if not line["fitted"]]
    assert len(errors) >= 20
    assert statistics.median(errors) < 0.15


def test_seventy_billion_parameters_need_more_than_one_node() -> None:
    one, many = plan_cell("70B", 8), plan_cell("70B", 64)
    assert not one["fits"] or "offload" in one["way"]
    assert many["fits"]
    assert many["nearest"]["system"].startswith("LLM-foundry")
