"""What does the planner say of runs that others have published?

    python -m benchmarks.published            a line for each published figure, with the plan's error
    python -m benchmarks.published --json     the same, and the plans of 1.5B, 7B and 70B, as one object

``benchmarks/results/published.jsonl`` holds the figures: tokens per second and device, with their source. Lines marked ``fitted``
were used to choose the default efficiencies (docs/planning.md) and do not count in the error. Where a system shares out its model
in another way, the line says so: it is planned as the ZeRO stage that we would use. Nothing is measured here, and torch is not
needed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework.config import Config, build_config
from framework.planner import Plan, device_named, make_plan, plan_speed
from launch.report import print_table

PUBLISHED = Path(__file__).parent / "results" / "published.jsonl"
_GPUS_PER_NODE = 8
_GRID_DEVICE = "h100"
_GRID = {
    "1.5B": {"layers": 48, "width": 1600, "heads": 25, "context_length": 1024},
    "7B": {"layers": 32, "width": 4096, "heads": 32, "context_length": 2048},
    "70B": {"layers": 80, "width": 8192, "heads": 64, "context_length": 2048},
}
_GRID_GPUS = (8, 64, 1024)
_GRID_SEQUENCES_PER_GPU = 8
_NEAR = 2.0  # published models and numbers of devices within this factor of ours stand beside it


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    lines = [compare(line) for line in read_published()]
    errors = [abs(line["error"]) for line in lines if not line["fitted"]]
    summary = {
        "lines": len(errors),
        "median_error": round(statistics.median(errors), 4),
        "within_15_percent": sum(error <= 0.15 for error in errors),
        "largest_error": round(max(errors), 4),
    }
    grid = [plan_cell(name, gpus) for name in _GRID for gpus in _GRID_GPUS]
    if arguments.json:
        print(json.dumps({"question": "published", **summary, "published": lines, "plans": grid}))
        return
    print_table(
        [
            ("system and model", "devices", "published", "planned", "error", ""),
            *(
                (
                    f"{line['system']}: {line['model']}",
                    f"{line['devices']} x {line['device']}",
                    f"{line['published']:,.0f}",
                    f"{line['planned']:,.0f}",
                    f"{100 * line['error']:+.0f}%",
                    "fitted" if line["fitted"] else "",
                )
                for line in lines
            ),
        ]
    )
    print(
        f"\ntokens per second and device; median error {summary['median_error']:.1%} over the {summary['lines']} lines that were "
        f"not fitted, {summary['within_15_percent']} of them within 15%, the largest {summary['largest_error']:.0%}\n"
    )
    print_table(
        [("model", "GPUs", "recommended", "GiB a rank", "tokens/s/GPU", "nearest published"), *map(_grid_row, grid)]
    )


def read_published(path: Path = PUBLISHED) -> list[dict[str, Any]]:
    """The published lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def compare(line: Mapping[str, Any]) -> dict[str, Any]:
    """One published line beside the plan of the same run, in tokens per second and device."""
    devices = int(line["devices"])
    per_node = min(_GPUS_PER_NODE, devices)
    speed = plan_speed(
        _config_of(line),
        per_node,
        devices // per_node,
        device_named(line["device"]),
        fused_attention=bool(line.get("fused_attention", True)),
    )
    planned, published = speed.tokens_per_second / devices, float(line["tokens_per_second_per_device"])
    kept = ("system", "model", "parameters", "device", "devices", "fitted", "source")
    return {
        **{key: line[key] for key in kept},
        "published": published,
        "planned": round(planned, 1),
        "error": round(planned / published - 1, 4),
    }


def plan_cell(name: str, gpus: int) -> dict[str, Any]:
    """Our plan for one size on so many GPUs, with the published figure that is nearest to it."""
    shape = {"architecture": "gpt2", "vocab_size": 50257, "zero_stage": 3, "micro_batch_size": 1, **_GRID[name]}
    config = _config_of(
        {**shape, "activation_checkpointing": False, "global_batch_size": gpus * _GRID_SEQUENCES_PER_GPU}
    )
    plan = make_plan(config, _GPUS_PER_NODE, gpus // _GPUS_PER_NODE, device_named(_GRID_DEVICE))
    best = plan.recommended
    result: dict[str, Any] = {"model": name, "devices": gpus, "device": _GRID_DEVICE, "fits": best is not None}
    if best is not None:
        result |= {
            "way": best.words,
            "micro_batch_size": best.micro_batch,
            "predicted_peak_bytes": best.best_memory.peak_bytes,
            "tokens_per_second_per_device": round(best.speed.tokens_per_second / gpus, 1),
        }
    return {**result, "nearest": _nearest(plan, gpus)}


def _nearest(plan: Plan, gpus: int) -> dict[str, Any] | None:
    """Nearest in size first, then in number of devices; nothing when none is near."""

    def distance(line: Mapping[str, Any]) -> tuple[float, float]:
        size = max(line["parameters"] / plan.parameters, plan.parameters / line["parameters"])
        count = max(line["devices"] / gpus, gpus / line["devices"])
        return size, count

    near = [line for line in read_published() if all(factor <= _NEAR for factor in distance(line))]
    if not near:
        return None
    found = min(near, key=lambda line: (line["device"] != _GRID_DEVICE, distance(line)[1], distance(line)[0]))
    kept = ("system", "model", "device", "devices", "source")
    return {**{key: found[key] for key in kept}, "tokens_per_second_per_device": found["tokens_per_second_per_device"]}


def _grid_row(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    near = cell["nearest"]
    beside = None
    if near is not None:
        system = f"{near['system']} {near['model']}, {near['devices']} x {near['device']}"
        beside = f"{near['tokens_per_second_per_device']:,.0f}, {system}"
    if not cell["fits"]:
        return cell["model"], cell["devices"], "does not fit", None, None, beside
    return (
        cell["model"],
        cell["devices"],
        f"{cell['way']}, micro-batch {cell['micro_batch_size']}",
        f"{cell['predicted_peak_bytes'] / 2**30:.1f}",
        f"{cell['tokens_per_second_per_device']:,.0f}",
        beside,
    )


def _config_of(line: Mapping[str, Any]) -> Config:
    model = {key: line[key] for key in ("layers", "width", "heads", "context_length")}
    config = build_config(
        {
            "model": {
                **model,
                "architecture": line.get("architecture", "gpt2"),
                "overrides": line.get("overrides", {}),
            },
            "tokenizer": {"vocab_size": line["vocab_size"]},
            "data": {"shards_dir": "published", "lanes": 4096},
            "engine": {
                "zero_stage": line["zero_stage"],
                "precision": "bf16",
                "micro_batch_size": line["micro_batch_size"],
                "global_batch_size": line["global_batch_size"],
                "activation_checkpointing": line["activation_checkpointing"],
            },
        },
        origin="published",
    )
    # All of them fuse what can be fused, by a compiler or by hand; ours does with stages 0 to 2.
    return config.model_copy(update={"engine": config.engine.model_copy(update={"compile": True})})


if __name__ == "__main__":
    main()
