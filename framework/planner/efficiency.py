"""How much of a device's data-sheet rates training reaches: a few numbers, by default or fitted from measured runs. No torch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from framework.errors import ConfigError

SHARES = ("matrix", "memory", "link", "network", "overlap")
"""Those of an efficiency's numbers that are at most 1."""


@dataclass(frozen=True)
class Efficiency:
    """Shares of the data sheet's rates, and seconds that no data sheet has.

    The defaults are fitted to the lines of ``benchmarks/results/published.jsonl`` that are marked for it; a device of the table
    may have a ``matrix`` share of its own.
    """

    matrix: float = 0.74
    """Of peak FLOP/s, in matrix products of wide layers."""
    half_width: float = 180.0
    """Width of a layer at which products reach half of that."""
    half_tokens: float = 190.0
    """Tokens of a micro-batch at which they do."""
    memory: float = 0.75
    """Of the memory's bandwidth: norms, activation functions, the loss, the optimizer."""
    link: float = 0.7
    """Of the links inside a node, in collectives."""
    network: float = 0.2
    """Of the network cards between nodes: what sharded training shows of them (docs/planning.md), not what a test of collectives
    alone reaches."""
    overlap: float = 0.8
    """Of the time of products, behind which exchanges can hide."""
    launch_seconds: float = 1e-3
    """That it takes to start the kernels of one block in eager mode, there and back: on a GPU a block takes no less, and on a
    host they come on top."""
    straggling: float = 0.008
    """Part by which a step gets longer for each doubling of nodes: the slowest of many decides."""

    @classmethod
    def load(cls, path: Path) -> Efficiency:
        """What ``zerostream plan --calibrate`` wrote.

        Raises:
            ConfigError: it cannot be read, is no such file, or has a number that no fit gives.
        """
        try:
            table = json.loads(path.read_text(encoding="utf-8"))["efficiency"]
            values = {field.name: float(table[field.name]) for field in fields(cls)}
            for name, value in values.items():
                _refuse_impossible(name, value)
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} is no calibration: {type(error).__name__}: {error}",
                fix="write one with `zerostream plan CONFIG --calibrate RESULTS --calibration FILE`",
            ) from None

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def _refuse_impossible(name: str, value: float) -> None:
    if name in SHARES and not 0 < value <= 1:
        raise ValueError(f"{name} is {value:g}, and must be above 0 and at most 1")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value:g}, and must be 0 or more")
