"""What a cluster is like, in one YAML file a site: ``slurm/profiles/*.yaml`` are examples."""

from __future__ import annotations

import difflib
import os
import re
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator

from framework.config.load import read_yaml
from framework.config.schema import UserPath
from framework.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")
_MEMORY = re.compile(r"\d+[KMGT]?")
_PLAIN = re.compile(r"[^\s'\"`$;&|<>\\]+")


class Profile(BaseModel):
    """How jobs are asked for on one cluster. What is left out, SLURM's own defaults decide."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    partition: str | None = None
    """Queue; the cluster's default partition if none is named."""
    account: str | None = None
    """Who pays."""
    qos: str | None = None
    """Quality of service."""
    gpus_per_node: PositiveInt | None = None
    """GPUs of each node; also the number of ranks of each node, unless `ranks_per_node` says another."""
    gres: str | None = None
    """Generic resources of each node, such as `gpu:h100:8`, where `gpus_per_node` is not enough."""
    device: str | None = None
    """What the GPUs are, as `zerostream plan --device` names them: for the memory check of a submission."""
    cpus_per_task: PositiveInt | None = None
    """Cores of each node for the run: there is one task a node, which starts the node's ranks."""
    memory: str | None = None
    """Memory of each node, such as `64G`; `0` asks for all of it."""
    time_limit: str | None = None
    """Longest time of one start: minutes, `hours:minutes:seconds` or `days-hours:minutes:seconds`, in quotes."""
    constraint: str | None = None
    """Features that nodes must have."""
    exclude: tuple[str, ...] = ()
    """Nodes never to be used."""
    exclusive: bool = False
    """Share nodes with nobody."""
    nodes: PositiveInt = 1
    """How many, if `--nodes` does not say."""
    ranks_per_node: PositiveInt | None = None
    """Ranks of each node, if `--ranks-per-node` does not say: as many as GPUs, or 1."""
    setup: tuple[str, ...] = ()
    """Shell lines on the first node before the run starts, such as `module load cuda`."""
    srun_arguments: tuple[str, ...] = ()
    """Further arguments of srun, such as those of a container: `--container-image=...`."""
    container: tuple[str, ...] = ()
    """Words in front of the interpreter on each node, such as `apptainer exec --nv image.sif`."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables of all ranks."""
    network_interface: str | None = None
    """What ranks talk through (`ib0`, `eth0`): GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME. Found by the route if none is named."""
    scratch: UserPath | None = None
    """A fast disk of each node, for temporary files (TMPDIR)."""
    shared: tuple[UserPath, ...] = ()
    """Folders that all nodes see under the same path. Run directories have to be below one of them; if none is named, that is
    not checked."""
    requeue: bool = True
    """Whether the site lets jobs go back into the queue; if not, a follow-up job takes over."""
    signal_lead_seconds: PositiveInt = 120
    """How long before the time limit the run is told to save."""
    max_starts_without_progress: PositiveInt = 3
    """Starts in a row that may end without a newer checkpoint before the run is given up."""
    python: str = Field(default_factory=lambda: sys.executable)
    """Interpreter on the nodes, where `~` is the home of who submits; the one that submits, if none is named."""
    rendezvous_timeout_seconds: PositiveInt = 300
    """How long nodes wait for each other before they say who is missing."""
    health_timeout_seconds: PositiveInt = 60
    """How long the look at a node's disk, network and devices may take before a start."""
    minimum_megabytes_per_second: float | None = None
    """Slowest link between two nodes that is good enough to start on; not judged if none is given."""
    sbatch_arguments: dict[str, str | Literal[True]] = Field(default_factory=dict)
    """Any other option of sbatch, by its long name without dashes; `true` for one that takes no value."""

    @field_validator("time_limit")
    @classmethod
    def _is_time(cls, value: str | None) -> str | None:
        if value is not None:
            time_limit_seconds(value)
        return value

    @field_validator("memory")
    @classmethod
    def _is_memory(cls, value: str | None) -> str | None:
        if value is not None and not _MEMORY.fullmatch(value):
            raise ValueError(f"{value!r} is no amount of memory: write a number and K, M, G or T, such as 64G")
        return value

    @field_validator("partition", "account", "qos", "gres", "constraint", "network_interface")
    @classmethod
    def _is_one_word(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("is empty: leave the key out")
        return value

    @field_validator("python")
    @classmethod
    def _is_program(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is empty: leave the key out")
        return os.path.expanduser(value)

    @field_validator("sbatch_arguments", mode="before")
    @classmethod
    def _are_options(cls, value: Any) -> Any:
        for name, given in value.items() if isinstance(value, dict) else ():
            if not isinstance(given, str) and given is not True:
                raise ValueError(f"{name} is {given!r}: write its value, or true if it takes none")
        return value

    @field_validator("exclude")
    @classmethod
    def _are_nodes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _PLAIN.fullmatch(name):
                raise ValueError(f"{name!r} is no node name")
        return value

    @field_validator("environment")
    @classmethod
    def _are_variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a variable")
        return value

    def ranks_of_node(self, asked: int | None) -> int:
        """Ranks of each node: what was asked for, what the profile says, one per GPU, or one."""
        return asked or self.ranks_per_node or self.gpus_per_node or _gpus_in(self.gres) or 1

    @property
    def has_gpus(self) -> bool:
        """Whether it asks for any."""
        return self.gpus_per_node is not None or _gpus_in(self.gres) is not None


def load_profile(path: Path) -> Profile:
    """Reads a cluster profile.

    Raises:
        ConfigError: it cannot be read; a key is unknown (the nearest is named); a value does not fit.
    """
    if not path.is_file():
        there = ", ".join(sorted(str(entry) for entry in path.parent.glob("*.yaml"))) if path.parent.is_dir() else ""
        fix = f"name one of {there}" if there else "name a profile, such as slurm/profiles/local.yaml"
        raise ConfigError(f"cluster profile {path} does not exist", fix=fix)
    values = read_yaml(path)
    for key in values:
        if str(key) not in Profile.model_fields:
            near = difflib.get_close_matches(str(key), Profile.model_fields, n=1, cutoff=0.0)
            known = ", ".join(Profile.model_fields)
            raise ConfigError(f"{path}: unknown key {key}", fix=f"write {near[0]}; all keys: {known}")
    try:
        return Profile.model_validate(_quoted_numbers(values, path))
    except ValidationError as error:
        raise _first_error(error, path) from None


def time_limit_seconds(text: str) -> int:
    """Seconds of a time limit as SLURM writes it: `90`, `90:00`, `1:30:00`, `1-12`, `1-12:00:00`.

    Raises:
        ValueError: it is not of that form, or is no time at all.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is no time limit: write minutes, hours:minutes:seconds or days-hours:minutes:seconds"
        )
    parts = [int(part) for part in match["parts"].split(":")]
    if match["days"] is not None:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = (*parts, 0, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:  # minutes[:seconds]
        hours, (minutes, seconds) = 0, (*parts, 0)[:2]
    total = ((int(match["days"] or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    if total <= 0:
        raise ValueError(f"{text!r} is no time at all")
    return total


def memory_megabytes(text: str) -> int:
    """Megabytes of an amount as SLURM writes it; a bare number is megabytes."""
    factor = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}.get(text[-1])
    return int(text) if factor is None else int(int(text[:-1]) * factor)


def _gpus_in(gres: str | None) -> int | None:
    for part in (gres or "").split(","):
        name, *rest = part.split(":")
        if name == "gpu":
            return int(rest[-1]) if rest and rest[-1].isdigit() else 1
    return None


def _quoted_numbers(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """YAML reads 2:00:00 as the number 7200 and 0 as a number: names and amounts have to be text."""
    made = dict(values)
    time_limit = made.get("time_limit")
    if time_limit is not None and not isinstance(time_limit, str):
        raise ConfigError(
            f"{path}: time_limit is the number {time_limit} after YAML has read it (it takes 2:00:00 for 7200)",
            fix='put it in quotes, such as time_limit: "2:00:00"',
        )
    for key in ("memory", "account", "partition", "qos", "constraint"):
        if isinstance(made.get(key), int) and not isinstance(made[key], bool):
            made[key] = str(made[key])
    for key in ("environment", "sbatch_arguments"):
        if isinstance(made.get(key), dict):
            made[key] = {str(name): _as_text(value) for name, value in made[key].items()}
    return made


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _first_error(error: ValidationError, path: Path) -> ConfigError:
    details = error.errors()[0]
    key = ".".join(str(part) for part in details["loc"])
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "tuple_type":
        return ConfigError(f"{path}: {key} is {details['input']!r}", fix=f"write a list, such as {key}: [...]")
    if details["type"] == "value_error":
        return ConfigError(f"{path}: {key}: {message}", fix=f"correct {key}")
    return ConfigError(
        f"{path}: {key} is {details['input']!r}: {message[0].lower()}{message[1:]}", fix=f"correct {key}"
    )
