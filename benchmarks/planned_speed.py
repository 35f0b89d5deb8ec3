"""Are tokens per second as planned, for runs that the calibration has not seen? Real short trainings on this machine's CPU.

    python -m benchmarks planned_speed --append benchmarks/results/planned_speed_cpu.jsonl --minutes 5
    python -m benchmarks planned_speed --report benchmarks/results/planned_speed_cpu.jsonl

Asked is what `zerostream plan --calibrate` is for: measure a few cheap runs, plan the ones that cost. So the efficiencies are
fitted to the runs on one rank, and to a single one on two; planned, and then compared, are the others on two ranks. The machine
must be idle: on two cores another process is half of the result. A line is one that `--calibrate` reads, too. Lines that are in
the file already are not measured again, and no run is begun after ``--minutes``; ``--report`` writes into each line what it is
planned to be.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import zerostream
from benchmarks.records import (
    add_output,
    answers_to,
    kept_records,
    key_of,
    new_record,
    publish,
    read_records,
    rewrite,
    summary,
)
from benchmarks.training_runs import resolved_config, train
from framework.config import build_config
from framework.metrics.records import read_json_lines
from framework.planner import Measured, device_named, fit, plan_speed
from launch.report import print_table

QUESTION = "planned_speed"
GOAL = 0.15
STEPS, WARMUP_STEPS = 14, 4
CONFIG = """\
model: {architecture: gpt2, context_length: 256}
tokenizer: {kind: train_bpe, vocab_size: 2048}
data: {source: embedded, documents: 4000, shards_dir: FOLDER/shards, lanes: 16}
train: {max_steps: STEPS, eval_every_steps: 1000, eval_max_sequences: 2, sample_prompts: []}
checkpoint: {asynchronous: false}
logging: {tensorboard: false}
""".replace("STEPS", str(STEPS))
_MODELS = {
    "2M": {"layers": 4, "width": 192, "heads": 6},
    "7M": {"layers": 4, "width": 384, "heads": 6},
    "14M": {"layers": 4, "width": 512, "heads": 8},
}


@dataclass(frozen=True)
class Cell:
    """One run; sequences are those of a step of all ranks."""

    model: str
    zero_stage: int
    ranks: int
    micro_batch_size: int
    sequences: int = 16

    @property
    def calibrates(self) -> bool:
        """Whether the fit may see it."""
        return self.ranks == 1 or (self.model == "7M" and self.zero_stage == 1)

    def __str__(self) -> str:
        return f"{self.model}, ZeRO-{self.zero_stage}, {self.ranks} ranks, micro-batch {self.micro_batch_size}"

    @property
    def overrides(self) -> list[str]:
        return [
            *(f"model.{key}={value}" for key, value in _MODELS[self.model].items()),
            f"engine.zero_stage={self.zero_stage}",
            f"engine.micro_batch_size={self.micro_batch_size}",
            f"engine.global_batch_size={self.sequences}",
        ]


def cells() -> Iterator[Cell]:
    """Six that calibrate on one rank, one on two, and eight that are planned."""
    for model in _MODELS:
        yield Cell(model, 1, 1, 8)
        yield Cell(model, 1, 1, 2)
    for model in _MODELS:
        for stage in (0, 1, 2):
            yield Cell(model, stage, 2, 4)


def main() -> None:
    """Measures what is missing, or plans what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_output(parser)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no run after so long (default 60)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="fit, plan and compare the lines of this file")
    arguments = parser.parse_args()
    if arguments.report:
        report(arguments.report)
        return
    kept = kept_records(arguments.append)
    known = {key_of(QUESTION, line["setting"]) for line in kept}
    ends = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="planned-speed-") as folder:
        config = Path(folder, "planned_speed.yaml")
        config.write_text(CONFIG.replace("FOLDER", folder), encoding="utf-8")
        zerostream("prepare", config)
        for cell in cells():
            if key_of(QUESTION, asdict(cell)) not in known and time.monotonic() < ends:
                print(f"{cell} ...", file=sys.stderr, flush=True)
                publish(measure(config, cell), arguments.append)


def measure(config: Path, cell: Cell) -> dict[str, Any]:
    """The line of one run: its steps after the first few."""
    run_dir = train(config, cell.overrides, config.with_name("run"), cell.ranks)
    steps = read_json_lines(run_dir.metrics)[WARMUP_STEPS:]
    values = {
        "step_seconds": summary([step["step_seconds"] for step in steps]),
        "tokens_per_second": summary([step["tokens_per_second"] for step in steps]),
    }
    resolved = resolved_config(config, cell.overrides)
    counts = {"ranks": cell.ranks, "warmup": WARMUP_STEPS, "repeats": len(steps)}
    return new_record(QUESTION, asdict(cell), values, config=resolved, **counts)


def report(path: Path) -> None:
    """Fits, writes what is planned into each line, and prints it beside what was measured."""
    lines = read_records(path)
    answers = answers_to(QUESTION, lines, path)
    measured = [(Cell(**line["setting"]), _measured_of(line)) for line in answers]
    calibration = fit([line for cell, line in measured if cell.calibrates], device_named("cpu").efficiency())
    rows: list[tuple[Any, ...]] = [("run", "measured tokens/s", "planned", "error", "")]
    errors = []
    for record, (cell, line) in zip(answers, measured, strict=True):
        planned = plan_speed(line.config, line.ranks_per_node, 1, line.device, calibration.efficiency).tokens_per_second
        error = planned / line.tokens_per_second - 1
        record["values"] |= {
            "predicted_tokens_per_second": round(planned, 1),
            "error": round(error, 4),
            "calibrates": cell.calibrates,
        }
        if not cell.calibrates:
            errors.append(abs(error))
        seen = "calibrates" if cell.calibrates else ""
        rows.append((str(cell), f"{line.tokens_per_second:,.0f}", f"{planned:,.0f}", f"{100 * error:+.1f}%", seen))
    rewrite(path, lines)
    print_table(rows)
    print(f"\nfitted: {json.dumps(calibration.as_dict()['efficiency'])}")
    if errors:
        print(
            f"{sum(error <= GOAL for error in errors)} of {len(errors)} runs that were not used in the fit within {GOAL:.0%}; "
            f"median error {statistics.median(errors):.1%}, largest {max(errors):.1%}"
        )


def _measured_of(line: Mapping[str, Any]) -> Measured:
    config = build_config(dict(line["config"]), origin="config")
    speed = line["values"]["tokens_per_second"]["median"]
    return Measured(config, device_named("cpu"), int(line["setting"]["ranks"]), 1, float(speed))


if __name__ == "__main__":
    main()
