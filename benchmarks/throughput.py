"""Tokens per second of training, where a step's time goes, and how much of the machine that uses; over a grid.

    python -m benchmarks throughput                                             one small cell
    python -m benchmarks throughput --stage 0 1 2 3 --ranks 1 2 --precision fp32 bf16
    python -m benchmarks throughput --preset gpt2_small --context 1024 --micro-batch 64 --precision bf16 --compile true

Every cell is a start of the real ``zerostream train``: its median step after the warm-up counts, then some steps are traced to
split the time. A cell that runs out of memory is a result like any other. Model FLOPs utilisation is tokens/s times FLOPs of a
token over the machine's peak; the FLOPs are 6 per weight in a matrix product and 12 x layers x width x context for attention
(Chowdhery et al. 2022, PaLM, arXiv:2204.02311, appendix B); the peak is a data sheet's for a known GPU, else that of a matrix
product on all cores. One JSON line a cell.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.records import add_output, new_record, publish, summary
from benchmarks.training_runs import Cell, Outcome, prepare_corpus, resolved_config, run_cell

_GRID: dict[str, tuple[str, type]] = {
    "preset": ("preset", str),
    "context": ("context_length", int),
    "stage": ("zero_stage", int),
    "micro-batch": ("micro_batch_size", int),
    "accumulation": ("accumulation_steps", int),
    "ranks": ("ranks", int),
    "precision": ("precision", str),
    "engine": ("engine", str),
}
_LOOKS_AT_PEAK = 8
_SWITCHES = {"compile": "compile", "offload": "offload", "checkpointing": "activation_checkpointing"}


def main() -> None:
    """Measures every cell of the grid that the options span."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = Cell()
    for option, (field, kind) in _GRID.items():
        default = getattr(defaults, field)
        parser.add_argument(
            f"--{option}", dest=field, nargs="+", type=kind, default=[default], help=f"(default {default})"
        )
    for option, field in _SWITCHES.items():
        parser.add_argument(
            f"--{option}", dest=field, nargs="+", type=_switch, default=[False], help="true, false or both"
        )
    add_measured_steps(parser)
    add_output(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = prepare_corpus(Path(folder))
        for number, cell in enumerate(cells_of(arguments)):
            print(f"{cell} ...", file=sys.stderr, flush=True)
            outcome = run_cell(
                cell,
                config,
                Path(folder, f"run-{number}"),
                warmup=arguments.warmup,
                steps=arguments.steps,
                profiled_steps=arguments.profiled,
            )
            publish(record_of(cell, resolved_config(config, cell.overrides()), outcome, arguments), arguments.append)


def add_measured_steps(parser: argparse.ArgumentParser) -> None:
    """How long a cell takes."""
    parser.add_argument("--steps", type=int, default=20, help="that count (default 20)")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them (default 5)")
    parser.add_argument("--profiled", type=int, default=3, help="traced steps after them; 0 for none (default 3)")


def _switch(word: str) -> bool:
    if word not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return word == "true"


def cells_of(arguments: argparse.Namespace) -> Iterator[Cell]:
    """The product of all options."""
    fields = [field for field, _ in _GRID.values()] + list(_SWITCHES.values())
    for values in itertools.product(*(getattr(arguments, field) for field in fields)):
        yield Cell(**dict(zip(fields, values, strict=True)))


def record_of(cell: Cell, config: dict[str, Any], outcome: Outcome, arguments: argparse.Namespace) -> dict[str, Any]:
    """The line of one cell."""
    values: dict[str, Any] = {"outcome": outcome.kind}
    if outcome.kind == "measured":
        speed = summary(outcome.tokens_per_second)
        values |= {
            "tokens_per_second": speed,
            "step_seconds": summary(outcome.step_seconds),
            "data_wait_fraction": round(sum(outcome.data_wait_seconds) / sum(outcome.step_seconds), 5),
            "measured_peak_bytes": outcome.peak_memory_bytes,
            "split_seconds": outcome.split,
            "model_flops_utilisation": round(_utilisation(cell, speed["median"], outcome), 4),
        }
    else:
        values["last_words"] = outcome.last_words
    return new_record(
        "throughput",
        cell.as_json(),
        values,
        ranks=cell.ranks,
        config=config,
        warmup=arguments.warmup,
        repeats=arguments.steps,
    )


def _utilisation(cell: Cell, tokens_per_second: float, outcome: Outcome) -> float:
    import torch

    assert outcome.result is not None
    devices = cell.ranks if torch.cuda.is_available() else 1  # ranks of one CPU share its cores
    return float(tokens_per_second * outcome.result["flops_per_token"] / (devices * _peak_flops(cell.precision)))


@functools.cache
def _peak_flops(precision: str) -> float:
    """Of one device; the best of several looks, for another process's moment on the cores would make cells look too good."""
    import torch

    from framework.metrics.hardware import peak_flops

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return max(peak_flops(device, precision) for _ in range(_LOOKS_AT_PEAK))


if __name__ == "__main__":
    main()
