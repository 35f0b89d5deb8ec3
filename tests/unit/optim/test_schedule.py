from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.config.schema import OptimizerConfig, ScheduleConfig
from framework.optim.schedule import describe_schedule, learning_rate


def rate(step: int, *, lr: float = 1e-3, warmup: int = 10, floor: float = 0.1, steps: int = 110) -> float:
    return learning_rate(
        step, OptimizerConfig(lr=lr), ScheduleConfig(warmup_steps=warmup, final_lr_fraction=floor), steps
    )


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (1, 1e-4), (5, 5e-4), (10, 1e-3), (60, 5.5e-4), (110, 1e-4), (111, 1e-4), (10_000, 1e-4)],
)
def test_it_rises_to_the_peak_and_falls_to_the_floor(step: int, expected: float) -> None:
    assert rate(step) == pytest.approx(expected, rel=1e-12)


def test_the_fall_is_half_a_cosine() -> None:
    for step in range(10, 111):
        cosine = math.cos(math.pi * (step - 10) / 100)
        assert rate(step) == pytest.approx(1e-4 + 9e-4 * (1 + cosine) / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (1, 1.25e-07),
        (2000, 2.5e-4),
        (4000, 5e-4),
        (18_000, 4.340990257669732e-4),
        (32_000, 2.75e-4),
        (60_000, 5e-5),
    ],
)
def test_the_recipe_of_gpt2_small_is_pinned(step: int, expected: float) -> None:
    recipe = OptimizerConfig(lr=5e-4), ScheduleConfig(warmup_steps=4000)
    assert learning_rate(step, *recipe, max_steps=60_000) == pytest.approx(expected, rel=1e-12)


def test_without_warmup_the_first_step_is_close_to_the_peak() -> None:
    assert rate(1, warmup=0, steps=1000) == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("steps", [3, 10])
def test_a_run_shorter_than_its_warmup_never_reaches_beyond_it(steps: int) -> None:
    assert [rate(step, steps=steps) for step in range(1, steps + 1)] == [
        pytest.approx(1e-3 * step / 10) for step in range(1, steps + 1)
    ]


@given(
    step=st.integers(1, 5000),
    lr=st.floats(1e-6, 1.0),
    warmup=st.integers(0, 2000),
    floor=st.floats(0.0, 1.0),
    steps=st.integers(1, 4000),
)
def test_it_is_pure_and_stays_between_zero_and_the_peak(
    step: int, lr: float, warmup: int, floor: float, steps: int
) -> None:
    value = rate(step, lr=lr, warmup=warmup, floor=floor, steps=steps)
    assert value == rate(step, lr=lr, warmup=warmup, floor=floor, steps=steps)
    assert 0.0 <= value <= lr * (1 + 1e-9)
    if step > warmup:
        assert value >= floor * lr * (1 - 1e-9)


@given(warmup=st.integers(0, 50), steps=st.integers(51, 200))
def test_it_never_rises_after_the_warmup_nor_falls_during_it(warmup: int, steps: int) -> None:
    values = [rate(step, warmup=warmup, steps=steps) for step in range(1, steps + 20)]
    rising, falling = values[:warmup], values[max(0, warmup - 1) :]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


def test_a_trapezoid_keeps_its_peak_and_falls_in_a_straight_line() -> None:
    optimizer = OptimizerConfig(lr=1.0)
    schedule = ScheduleConfig(kind="trapezoid", warmup_steps=10, final_lr_fraction=0.2, decay_fraction=0.25)
    rates = [learning_rate(step, optimizer, schedule, 110) for step in range(1, 131)]
    assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert rates[9:85] == [1.0] * 76
    assert rates[84:110] == pytest.approx([1.0 - 0.8 * step / 25 for step in range(26)])
    assert rates[110:] == pytest.approx([0.2] * 20)  # a run that goes on beyond its end


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_trapezoid_may_never_fall_or_fall_all_the_time(fraction: float) -> None:
    schedule = ScheduleConfig(kind="trapezoid", warmup_steps=0, final_lr_fraction=0.0, decay_fraction=fraction)
    rates = [learning_rate(step, OptimizerConfig(lr=1.0), schedule, 4) for step in range(1, 5)]
    assert rates == pytest.approx([0.75, 0.5, 0.25, 0.0] if fraction else [1.0] * 4)


@pytest.mark.parametrize(
    ("schedule", "steps", "words"),
    [
        ({"warmup_steps": 10}, 110, "0.001 after 10 steps of warm-up, then by a cosine to 0.0001"),
        (
            {"kind": "trapezoid", "warmup_steps": 0, "final_lr_fraction": 0, "decay_fraction": 0.25},
            110,
            "0.001 after 0 steps of warm-up, then over the last 28 steps in a straight line to 0",
        ),
        (
            {"kind": "trapezoid", "warmup_steps": 10, "decay_fraction": 0},
            110,
            "0.001 after 10 steps of warm-up, and stays there",
        ),
        (
            {"warmup_steps": 4000},
            500,
            "up to 0.000125: 4,000 steps of warm-up are not fewer than the run's 500, and the rate never comes down",
        ),
        (
            {"warmup_steps": 500},
            500,
            "up to 0.001: 500 steps of warm-up are not fewer than the run's 500, and the rate never comes down",
        ),
    ],
)
def test_it_is_told_in_words(schedule: dict[str, Any], steps: int, words: str) -> None:
    assert describe_schedule(OptimizerConfig(lr=1e-3), ScheduleConfig(**schedule), steps) == words
