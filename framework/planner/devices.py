"""What devices can do: a table in the package (``devices.yaml``), and the user's own beside it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from framework.errors import ConfigError
from framework.planner.efficiency import Efficiency

_TABLE = Path(__file__).with_name("devices.yaml")


class PeakFlops(BaseModel):
    """FLOP/s for dense matrices; fp16 is as fast as bf16."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bf16: PositiveFloat
    fp32: PositiveFloat


class Device(BaseModel):
    """One device, or one node's cores: bytes, and rates per second in one direction."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    memory_bytes: PositiveFloat
    """Of a GPU, as its driver reports it; of a host, what all ranks of a node share."""
    peak_flops: PeakFlops
    """Of a GPU, or of all cores of a node."""
    memory_bytes_per_second: PositiveFloat
    link_bytes_per_second: PositiveFloat
    """To the other ranks of the node."""
    nic_bytes_per_second: PositiveFloat
    """To other nodes: one device's share."""
    host_memory_bytes: PositiveFloat
    """One device's share of it."""
    host_bytes_per_second: PositiveFloat
    """To host memory."""
    base_bytes: float = Field(ge=0)
    """What a rank takes before the model: context, workspaces, communicators; on a host, the libraries."""
    matrix_share: float | None = Field(default=None, gt=0, le=1)
    """Of its peak that wide matrix products reach, where that is known to differ from most."""
    is_host: bool = False
    has_bf16: bool = True
    """Older GPUs have fp16 alone."""
    price_per_hour: float | None = Field(default=None, ge=0)
    source: str = ""

    def efficiency(self) -> Efficiency:
        """What training reaches of these rates, without a calibration."""
        return Efficiency() if self.matrix_share is None else replace(Efficiency(), matrix=self.matrix_share)

    def flops_per_second(self, precision: str) -> float:
        return self.peak_flops.fp32 if precision == "fp32" else self.peak_flops.bf16

    def rank_memory_bytes(self, ranks_per_node: int) -> float:
        """What one rank may use: its GPU's memory, or its share of the node's."""
        return self.memory_bytes / ranks_per_node if self.is_host else self.memory_bytes


def load_devices(extra: Path | None = None) -> Mapping[str, Device]:
    """The packaged table by name, with the devices of the YAML file ``extra`` added or put in their place.

    Raises:
        ConfigError: the file cannot be read, or one of its devices lacks something.
    """
    devices = _read(_TABLE)
    return devices if extra is None else {**devices, **_read(extra)}


def device_named(name: str, extra: Path | None = None) -> Device:
    """One device of the table, in any case of letters.

    Raises:
        ConfigError: it is not there; the message names the nearest.
    """
    devices = load_devices(extra)
    found = devices.get(name.lower())
    if found is None:
        near = difflib.get_close_matches(name.lower(), devices, n=1, cutoff=0.0)
        raise ConfigError(
            f"device {name!r} is not in the table (it has {', '.join(devices)})",
            fix=f"write --device {near[0]}, or describe yours in a file for --devices (docs/planning.md)",
        )
    return found


def _read(path: Path) -> dict[str, Device]:
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: the device table cannot be read: {' '.join(str(error).split())}",
            fix="name a YAML file as docs/planning.md describes it",
        ) from None
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise ConfigError(f"{path} is no table of devices", fix="write one name with its keys for each device")
    return {str(name).lower(): _build(path, str(name).lower(), entry) for name, entry in table.items()}


def _build(path: Path, name: str, entry: dict[str, object]) -> Device:
    try:
        return Device.model_validate({"name": name, **entry})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join((name, *map(str, first["loc"])))
        raise ConfigError(f"{path}: {key}: {first['msg']}", fix=f"correct {key} (docs/planning.md)") from None
