"""Fits the efficiencies to measured runs. No torch, no numpy: a handful of numbers against a handful of lines.

Minimised is the sum of squared logarithms of predicted by measured tokens per second, plus a weak pull of each number to where it
began, so that what the lines say nothing about stays as it was. The search goes along one number after the other, with steps that
shrink (Hooke & Jeeves 1961, doi:10.1145/321062.321069).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from framework.config import Config, build_config
from framework.errors import ConfigError, ZerostreamError
from framework.planner.devices import Device, device_named
from framework.planner.efficiency import SHARES, Efficiency
from framework.planner.shape import is_count, shape_of
from framework.planner.speed import plan_speed

_PULL = 0.02
_SCALES = ("half_width", "half_tokens", "launch_seconds")
FITTED = (*SHARES, *_SCALES)


@dataclass(frozen=True)
class Measured:
    """One measured run."""

    config: Config
    device: Device
    ranks_per_node: int
    nodes: int
    tokens_per_second: float
    name: str = ""

    def predicted(self, efficiency: Efficiency) -> float:
        """Tokens per second."""
        return plan_speed(self.config, self.ranks_per_node, self.nodes, self.device, efficiency).tokens_per_second


@dataclass(frozen=True)
class Calibration:
    """What came of a fit; ``residuals`` are predicted by measured tokens per second, less one."""

    efficiency: Efficiency
    residuals: Mapping[str, float]

    @property
    def median_error(self) -> float:
        errors = sorted(abs(residual) for residual in self.residuals.values())
        middle = len(errors) // 2
        return errors[middle] if len(errors) % 2 else (errors[middle - 1] + errors[middle]) / 2

    @property
    def largest_error(self) -> float:
        return max(abs(residual) for residual in self.residuals.values())

    def as_dict(self) -> dict[str, Any]:
        return {
            "efficiency": {name: float(f"{value:.6g}") for name, value in self.efficiency.as_dict().items()},
            "lines": len(self.residuals),
            "median_error": round(self.median_error, 4),
            "largest_error": round(self.largest_error, 4),
            "residuals": {name: round(residual, 4) for name, residual in self.residuals.items()},
        }


def fit(lines: Sequence[Measured], start: Efficiency, names: Sequence[str] = FITTED) -> Calibration:
    """The efficiencies that predict ``lines`` best, beginning at ``start`` and moving the named ones."""
    values = {name: _to_free(name, getattr(start, name)) for name in names}
    origin = dict(values)

    def build() -> Efficiency:
        return replace(start, **{name: _from_free(name, value) for name, value in values.items()})

    def cost() -> float:
        efficiency = build()
        misses = (math.log(line.predicted(efficiency) / line.tokens_per_second) for line in lines)
        pull = sum((values[name] - origin[name]) ** 2 for name in names)
        return sum(miss * miss for miss in misses) + _PULL * pull / max(1, len(lines))

    best, step = cost(), 1.0
    while step > 0.005:
        better = False
        for name in names:
            for direction in (step, -step):
                values[name] += direction
                now = cost()
                if now < best - 1e-12:
                    best, better = now, True
                    break
                values[name] -= direction
        step = step if better else step / 2
    efficiency = build()
    residuals = {
        f"{number}: {line.name}": line.predicted(efficiency) / line.tokens_per_second - 1
        for number, line in enumerate(lines, start=1)
    }
    return Calibration(efficiency, residuals)


def read_measured(path: Path, device: Device, devices: Path | None = None) -> list[Measured]:
    """The throughput lines of a file of results: JSON objects with ``config`` (of a run: sections), ``tokens_per_second``, and if
    they are there ``ranks``, ``nodes`` (else 1) and ``device``, a name of the table, without which it is ``device``. What
    ``python -m benchmarks throughput`` writes has the speed under ``values`` and the ranks in its environment. Other lines are
    passed over, and so are those that cannot be planned here.

    Raises:
        ConfigError: the file cannot be read, or holds none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", fix="name a file of benchmark results") from None
    found, refused = [], []
    for number, raw in enumerate(text.splitlines(), start=1):
        try:
            measured = _measured_of(_mapping(json.loads(raw)), device, devices)
        except ZerostreamError as error:
            refused.append(f"line {number}: {error.cause}")
        except ValueError:
            pass  # a line that was cut short
        else:
            if measured is not None:
                found.append(replace(measured, name=measured.name or f"line {number}"))
    if not found and refused:
        raise ConfigError(
            f"{path} holds no line that can be planned: {refused[0]}", fix="correct it, or measure others"
        )
    if not found:
        raise ConfigError(
            f"{path} holds no throughput lines (with config, ranks and tokens_per_second)",
            fix="measure some: `python -m benchmarks throughput --append FILE`",
        )
    return found


def _measured_of(line: Mapping[str, Any], device: Device, devices: Path | None) -> Measured | None:
    """Nothing where it is no throughput line.

    Raises:
        ConfigError: it is one, of a run that cannot be planned.
    """
    rate = _mapping(line.get("values", line)).get("tokens_per_second")
    if isinstance(rate, Mapping):
        rate = rate.get("median")
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate < sys.float_info.max:
        return None
    if not isinstance(line.get("config"), Mapping):
        return None
    ranks = line.get("ranks", _mapping(line.get("environment")).get("world_size", 1))
    nodes = line.get("nodes", 1)
    if not (is_count(ranks) and is_count(nodes) and ranks % nodes == 0):
        raise ConfigError(f"{ranks} ranks on {nodes} nodes", fix="write how many, as many on each node")
    config = build_config(dict(line["config"]), origin="config")
    shape_of(config)
    named, seen = line.get("device"), _mapping(line.get("environment")).get("device")
    if not named and seen is not None and (seen == "cpu") != device.is_host:
        raise ConfigError(f"measured on {seen}, where {device.name} is planned", fix="name the device of the lines")
    on = device_named(str(named), devices) if named and str(named).lower() != device.name else device
    return Measured(config, on, ranks // nodes, nodes, float(rate), str(line.get("name", "")))


def _mapping(value: Any) -> Mapping[str, Any]:
    """Itself, or an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def _to_free(name: str, value: float) -> float:
    if name in SHARES:
        value = min(max(value, 0.001), 0.999)
        return math.log(value / (1 - value))
    return math.log(max(value, 1e-6))


def _from_free(name: str, value: float) -> float:
    return 1 / (1 + math.exp(-value)) if name in SHARES else math.exp(value)
