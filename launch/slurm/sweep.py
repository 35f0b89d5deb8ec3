"""``zerostream submit --sweep``: the values of some keys become the tasks of one job array, every combination one run."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from framework.errors import ConfigError

_OPENING, _CLOSING = "[{(", "]})"
_EXAMPLE = "write it as --sweep optimizer.lr=1e-4,3e-4"


def sweep_tasks(sweeps: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The overrides of each task, every combination of values once; the last sweep's values change fastest.

    Args:
        sweeps: each ``key.path=value,value,...``; commas inside brackets or quotes belong to a value.

    Raises:
        ConfigError: not of that form, a key twice, a value twice, or the run directory, which each task has of its own.
    """
    keys = [_split(sweep) for sweep in sweeps]
    for key, count in Counter(key for key, _ in keys).items():
        if count > 1:
            raise ConfigError(f"--sweep {key} is given {count} times", fix="name all of its values in one --sweep")
        if key == "run_dir":
            raise ConfigError("--sweep run_dir: each task gets a folder below run_dir", fix="sweep another key")
    return tuple(
        tuple(f"{key}={value}" for (key, _), value in zip(keys, values, strict=True))
        for values in itertools.product(*(values for _, values in keys))
    )


def array_tasks(command: str, sweeps: Sequence[str], parts: int | None) -> tuple[tuple[str, ...], ...] | None:
    """The further arguments of each task of an array: of ``--sweep``, or of ``prepare`` in ``--tasks`` parts; None for one job.

    Raises:
        ConfigError: they do not go together.
    """
    if parts is not None and command != "prepare":
        raise ConfigError(
            f"--tasks {parts} with --command {command}",
            fix="cut `--command prepare` into tasks; --sweep makes tasks of runs",
        )
    if sweeps and command == "prepare":
        raise ConfigError("--sweep with --command prepare", fix="sweep over runs: --command train or finetune")
    if parts is not None:
        return tuple((f"--part={number}/{parts}",) for number in range(1, parts + 1))
    return sweep_tasks(sweeps) if sweeps else None


def parameters_of(task: Sequence[str], keys: Collection[str] | None = None) -> Mapping[str, str]:
    """Key and value of a task's overrides, as they were typed: of ``keys``, or of all but ``run_dir``."""
    pairs = (override.partition("=") for override in task if not override.startswith("-"))
    return {key: value for key, _, value in pairs if (key != "run_dir" if keys is None else key in keys)}


def _split(sweep: str) -> tuple[str, list[str]]:
    key, equals, text = sweep.partition("=")
    values = [value.strip() for value in _at_commas(text)]
    if not equals or not key.strip() or not all(values):
        raise ConfigError(f"--sweep {sweep!r} is not of the form key.path=value,value", fix=_EXAMPLE)
    if twice := [value for value, count in Counter(values).items() if count > 1]:
        raise ConfigError(f"--sweep {key.strip()} has the value {twice[0]} twice", fix="name each value once")
    return key.strip(), values


def _at_commas(text: str) -> Iterator[str]:
    depth, quote, value = 0, "", ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == "," and depth == 0:
            yield value
            value = ""
            continue
        value += character
    yield value
