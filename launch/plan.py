"""``zerostream plan``: what ``framework.planner`` knows, for people and for programs. Needs no torch."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from framework.config import Config
from framework.durable import write_durably
from framework.errors import ConfigError
from framework.planner import (
    Calibration,
    Device,
    Efficiency,
    MemoryPlan,
    Plan,
    SpeedPlan,
    Way,
    device_named,
    fit,
    make_plan,
    plan_saving,
    read_measured,
)
from framework.planner.states import PARTS
from launch.report import print_report, print_table

_GIB = 2**30


@dataclass(frozen=True)
class PlanOptions:
    """What the command line says beside the config."""

    nodes: int
    gpus_per_node: int
    device: str
    devices: Path | None = None
    tokens: float | None = None
    price_per_gpu_hour: float | None = None
    mean_hours_between_failures: float | None = None
    storage_gb_per_second: float = 1.0
    calibrate: Path | None = None
    calibration: Path | None = None


def run_plan(config: Config, options: PlanOptions, *, as_json: bool) -> None:
    """Prints the plan.

    Raises:
        ConfigError: a device, a model or a file that is not there or not as it should be.
    """
    _refuse_infinite(options)
    device = device_named(options.device, options.devices)
    calibration, efficiency = _efficiency(device, options)
    plan = make_plan(config, options.gpus_per_node, options.nodes, device, efficiency)
    if as_json:
        print(json.dumps(_as_object(config, plan, device, options, calibration)))
        return
    _print(config, plan, device, options, calibration)


def _refuse_infinite(options: PlanOptions) -> None:
    numbers = {
        "--tokens": options.tokens,
        "--price-per-gpu-hour": options.price_per_gpu_hour,
        "--mean-hours-between-failures": options.mean_hours_between_failures,
        "--storage-gb-per-second": options.storage_gb_per_second,
    }
    for name, value in numbers.items():
        if value is not None and not math.isfinite(value):
            raise ConfigError(f"{name} is {value}", fix="write a finite number, or leave it out")


def _efficiency(device: Device, options: PlanOptions) -> tuple[Calibration | None, Efficiency | None]:
    """Fitted and saved, or read, or neither."""
    if options.calibrate is None:
        return None, Efficiency.load(options.calibration) if options.calibration else None
    lines = read_measured(options.calibrate, device, options.devices)
    calibration = fit(lines, device.efficiency())
    path = options.calibration or options.calibrate.with_suffix(".calibration.json")
    if path.resolve() == options.calibrate.resolve():
        raise ConfigError(f"--calibration {path} is the file of results", fix="name another file: it is written")
    if path.exists() and not path.is_file():  # a folder; or /dev/stdout, in whose place a file would stand
        raise ConfigError(f"--calibration {path} is no file", fix="name a file: it is written")
    write_durably(path, (json.dumps(calibration.as_dict(), indent=1) + "\n").encode())
    print(f"calibration written to {path}", file=sys.stderr)
    return calibration, calibration.efficiency


def _as_object(
    config: Config, plan: Plan, device: Device, options: PlanOptions, calibration: Calibration | None
) -> dict[str, Any]:
    return {
        "parameters": plan.parameters,
        "device": device.model_dump(),
        "nodes": options.nodes,
        "gpus_per_node": options.gpus_per_node,
        "ranks": plan.ranks,
        "precision": config.engine.precision,
        "memory": _memory_object(plan.memory),
        "speed": _speed_object(plan.speed),
        "largest_micro_batch": plan.largest_micro_batch,
        "ways": [_way_object(way) for way in plan.ways],
        "recommended": None if plan.recommended is None else _way_object(plan.recommended),
        "reason": plan.reason,
        "run": asdict(_run(config, plan, device, options)),
        "saving": asdict(_saving(plan, options)),
        "calibration": None if calibration is None else calibration.as_dict(),
        "notes": list(plan.notes),
    }


def _way_object(way: Way) -> dict[str, Any]:
    return {
        "words": way.words,
        "memory": _memory_object(way.memory),
        "largest_micro_batch": way.largest_micro_batch,
        "micro_batch": way.micro_batch,
        "peak_bytes_at_micro_batch": way.best_memory.peak_bytes,
        "speed_at_micro_batch": _speed_object(way.speed),
    }


def _memory_object(memory: MemoryPlan) -> dict[str, Any]:
    return {
        **{key: value for key, value in asdict(memory).items() if key not in ("parts", "host_parts")},
        "parts": dict(memory.parts),
        "host_parts": dict(memory.host_parts),
        "predicted_peak_bytes": memory.peak_bytes,
        "host_bytes": memory.host_bytes,
        "model_state_bytes": memory.model_state_bytes,
        "margin_bytes": memory.margin_bytes,
        "host_margin_bytes": memory.host_margin_bytes,
        "fits": memory.fits,
    }


def _speed_object(speed: SpeedPlan) -> dict[str, Any]:
    return {
        "step_seconds": speed.step_seconds,
        "parts": dict(speed.parts),
        "hidden_communication_seconds": speed.hidden_communication_seconds,
        "sent_bytes_per_step": speed.sent_bytes,
        "tokens_per_second": speed.tokens_per_second,
        "model_flops_utilisation": speed.model_flops_utilisation,
    }


@dataclass(frozen=True)
class _Run:
    tokens: float
    hours: float
    gpu_hours: float
    cost: float | None


def _run(config: Config, plan: Plan, device: Device, options: PlanOptions) -> _Run:
    # Of the config's own batch: where the ranks cannot share it, the step that is planned is a larger one.
    budget = float(config.engine.global_batch_size * config.model.context_length * config.train.max_steps)
    tokens = budget if options.tokens is None else options.tokens
    hours = plan.hours(tokens)
    price = device.price_per_hour if options.price_per_gpu_hour is None else options.price_per_gpu_hour
    gpu_hours = hours * (options.nodes if device.is_host else plan.ranks)
    return _Run(tokens, hours, gpu_hours, None if price is None else gpu_hours * price)


def _saving(plan: Plan, options: PlanOptions) -> Any:
    failure = options.mean_hours_between_failures
    return plan_saving(
        plan, options.nodes, options.storage_gb_per_second * 1e9, None if failure is None else failure * 3600
    )


def _print(config: Config, plan: Plan, device: Device, options: PlanOptions, calibration: Calibration | None) -> None:
    memory, engine = plan.memory, config.engine
    print(
        f"{config.model.architecture} with {plan.parameters / 1e6:,.1f}M parameters in {engine.precision}, "
        f"{options.nodes} x {options.gpus_per_node} {device.name} of {memory.memory_bytes / _GIB:.1f} GiB a rank\n"
        f"\nGiB a rank at its peak, micro-batch {engine.micro_batch_size}:\n"
    )
    print_table([("", *PARTS, "sum", "in host", "left"), *map(_memory_row, plan.ways)])
    print("\nwith the micro-batch that suits each best:\n")
    head = ("", "largest micro-batch", "taken", "GiB a rank", "step s", "tokens/s", "MFU")
    print_table([head, *map(_speed_row, plan.ways)])
    print()
    print_report(_findings(config, plan, device, options, calibration), as_json=False)


def _memory_row(way: Way) -> tuple[Any, ...]:
    memory = way.memory
    parts = (memory.parts.get(part, 0) for part in PARTS)
    host = _gib(memory.host_bytes) if memory.host_bytes else None
    return (way.words, *map(_gib, parts), _gib(memory.peak_bytes), host, _gib(memory.margin_bytes))


def _speed_row(way: Way) -> tuple[Any, ...]:
    if not way.micro_batch:
        why = "does not fit" if way.best_memory.margin_bytes < 0 else "host memory lacks"
        return (way.words, why, None, None, None, None, None)
    speed = way.speed
    return (
        way.words,
        way.largest_micro_batch,
        way.micro_batch,
        _gib(way.best_memory.peak_bytes),
        _three_digits(speed.step_seconds),
        f"{speed.tokens_per_second:,.0f}",
        f"{speed.model_flops_utilisation:.1%}",
    )


def _findings(
    config: Config, plan: Plan, device: Device, options: PlanOptions, calibration: Calibration | None
) -> dict[str, Any]:
    memory, speed, run, saving = plan.memory, plan.speed, _run(config, plan, device, options), _saving(plan, options)
    best = plan.recommended
    peak = f"{memory.peak_bytes / _GIB:.1f} GiB at its peak ({memory.moment})"
    rate = f"{speed.tokens_per_second:,.0f} tokens/s, {speed.model_flops_utilisation:.1%} of the devices' FLOP/s"
    room = f"{memory.margin_bytes / _GIB:.1f} GiB left" if memory.fits else memory.missing_words
    found: dict[str, Any] = {
        "as configured": f"{memory.words}, micro-batch {memory.micro_batch_size}: {peak}, {room}; the largest "
        f"micro-batch that fits is {plan.largest_micro_batch}",
        "step": f"{_three_digits(speed.step_seconds)} s, {rate}: "
        + ", ".join(f"{name} {part / speed.step_seconds:.0%}" for name, part in speed.parts.items() if part),
        "run": f"{run.tokens:,.0f} tokens in {_three_digits(run.hours)} hours, "
        f"{_three_digits(run.gpu_hours)} device-hours"
        + ("" if run.cost is None else f", {run.cost:,.2f} at that price"),
        "recommended": plan.reason if best is None else f"{best.words}, micro-batch {best.micro_batch}: {plan.reason}",
        "checkpoint": f"{_three_digits(saving.checkpoint_bytes / 1e9)} GB, written in {_three_digits(saving.save_seconds)} s",
    }
    if saving.daly_seconds is not None:
        daly, young = _three_digits(saving.daly_seconds / 60), _three_digits(saving.young_seconds / 60)
        found["save every"] = (
            f"{saving.every_steps} steps, {daly} min (Daly; Young {young}): "
            f"{saving.useful_share:.1%} of the time is useful when something fails every "
            f"{saving.mean_failure_seconds / 3600:g} hours"
        )
    if calibration is not None:
        found["calibration"] = (
            f"{len(calibration.residuals)} lines, median error {calibration.median_error:.1%}, largest "
            f"{calibration.largest_error:.1%}\n"
            + "\n".join(f"{name}: {residual:+.1%}" for name, residual in calibration.residuals.items())
        )
    if plan.notes:
        found["note"] = "\n".join(plan.notes)
    return found


def _three_digits(value: float) -> str:
    """A few seconds and thousands of hours alike."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _gib(count: float) -> str:
    return f"{count / _GIB:.2f}"
