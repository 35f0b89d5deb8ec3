"""The learning rate of a step: a pure function, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from framework.config.schema import OptimizerConfig, ScheduleConfig


def learning_rate(step: int, optimizer: OptimizerConfig, schedule: ScheduleConfig, max_steps: int) -> float:
    """Rate of step ``step`` (the first is 1).

    Linear from 0 to the peak in ``warmup_steps``, reached at step ``warmup_steps``; then down to ``final_lr_fraction`` of the
    peak, reached at step ``max_steps``: by the cosine of Loshchilov & Hutter 2017 (arXiv:1608.03983), or, after a time at the
    peak, in a straight line (trapezoid; Hägele et al. 2024, arXiv:2405.18392).
    """
    peak = optimizer.lr
    if step <= schedule.warmup_steps:
        return peak * step / schedule.warmup_steps
    progress = min(1.0, (step - schedule.warmup_steps) / max(1, max_steps - schedule.warmup_steps))
    floor = peak * schedule.final_lr_fraction
    if schedule.kind == "cosine":
        return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
    begins = 1.0 - schedule.decay_fraction
    fallen = (progress - begins) / schedule.decay_fraction if progress > begins else 0.0
    return peak - (peak - floor) * fallen


def describe_schedule(optimizer: OptimizerConfig, schedule: ScheduleConfig, max_steps: int) -> str:
    """In words, for somebody about to start; a warm-up that the run does not outlast is named as such."""
    warmup = schedule.warmup_steps
    if warmup >= max_steps:
        reached = learning_rate(max_steps, optimizer, schedule, max_steps)
        return (
            f"up to {reached:.3g}: {warmup:,} steps of warm-up are not fewer than the run's {max_steps:,}, "
            "and the rate never comes down"
        )
    if schedule.kind == "cosine":
        falls = "by a cosine"
    elif schedule.decay_fraction == 0:
        return f"{optimizer.lr:g} after {warmup:,} steps of warm-up, and stays there"
    else:
        falls = f"over the last {round(schedule.decay_fraction * (max_steps - warmup)):,} steps in a straight line"
    return f"{optimizer.lr:g} after {warmup:,} steps of warm-up, then {falls} to {optimizer.lr * schedule.final_lr_fraction:.3g}"
