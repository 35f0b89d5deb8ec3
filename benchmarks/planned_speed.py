"""Are tokens per second as planned, for runs that the calibration has not seen? Real short trainings on this machine's CPU.

    python -m benchmarks.planned_speed --append benchmarks/results/planned_speed_cpu.jsonl --minutes 5
    python -m benchmarks.planned_speed --report benchmarks/results/planned_speed_cpu.jsonl

Asked is what `zerostream plan --calibrate` is for: measure a few cheap runs, plan the ones that cost. So the efficiencies are
fitted to the runs on one rank, and to a single one on two; planned, and then compared, are the others on two ranks. The machine
must be idle: on two cores another process is half of the result. A line is a throughput line as `--calibrate` reads it. Lines
that are in the file already are not measured again, and no run is begun after ``--minutes``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import zerostream
from framework.config import build_config, load_config
from framework.metrics.records import read_json_lines
from framework.planner import Measured, device_named, fit, plan_speed
from framework.run_dir import RunDir
from launch.report import print_table

GOAL = 0.15
STEPS, WARMUP_STEPS = 14, 4
CONFIG = """\
run_dir: FOLDER/run
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
    """Measures what is missing, or shows what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--append", type=Path, help="keep the lines in this file, and measure only what it lacks")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no run after so long (default 60)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="fit and compare the lines of this file")
    arguments = parser.parse_args()
    if arguments.report:
        report(read_json_lines(arguments.report))
        return
    ends = time.monotonic() + 60 * arguments.minutes
    known = [line["cell"] for line in (read_json_lines(arguments.append) if arguments.append else [])]
    with tempfile.TemporaryDirectory(prefix="planned-speed-") as folder:
        bench = _Bench(Path(folder))
        for cell in cells():
            if asdict(cell) in known or time.monotonic() > ends:
                continue
            line = json.dumps(bench.measure(cell))
            print(line, flush=True)
            if arguments.append:
                with arguments.append.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


def report(lines: Sequence[Mapping[str, Any]]) -> None:
    """Fits, and prints what was planned beside what was measured."""
    measured = [(Cell(**line["cell"]), _measured_of(line)) for line in lines]
    calibration = fit([line for cell, line in measured if cell.calibrates], device_named("cpu").efficiency())
    rows: list[tuple[Any, ...]] = [("run", "measured tokens/s", "planned", "error", "")]
    errors = []
    for cell, line in measured:
        planned = plan_speed(line.config, line.ranks_per_node, 1, line.device, calibration.efficiency).tokens_per_second
        error = planned / line.tokens_per_second - 1
        if not cell.calibrates:
            errors.append(abs(error))
        words = f"{cell.model}, ZeRO-{cell.zero_stage}, {cell.ranks} ranks, micro-batch {cell.micro_batch_size}"
        seen = "calibrates" if cell.calibrates else ""
        rows.append((words, f"{line.tokens_per_second:,.0f}", f"{planned:,.0f}", f"{100 * error:+.1f}%", seen))
    print_table(rows)
    print(f"\nfitted: {json.dumps(calibration.as_dict()['efficiency'])}")
    if errors:
        print(
            f"{sum(error <= GOAL for error in errors)} of {len(errors)} runs that were not used in the fit within {GOAL:.0%}; "
            f"median error {statistics.median(errors):.1%}, largest {max(errors):.1%}"
        )


def _measured_of(line: Mapping[str, Any]) -> Measured:
    config = build_config(dict(line["config"]), origin="config")
    return Measured(config, device_named("cpu"), int(line["ranks"]), 1, float(line["tokens_per_second"]))


class _Bench:
    """Prepares the text once, and runs cells.

    Args:
        folder: empty; everything is written there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "planned_speed.yaml"
        self._config.write_text(CONFIG.replace("FOLDER", str(folder)), encoding="utf-8")
        zerostream("prepare", self._config)

    def measure(self, cell: Cell) -> dict[str, Any]:
        """The throughput line of one run: medians of its steps after the first few."""
        run_dir = RunDir(self._folder / "run")
        shutil.rmtree(run_dir.path, ignore_errors=True)  # of the cell before
        zerostream("train", self._config, *cell.overrides, "--nproc", cell.ranks)
        steps = read_json_lines(run_dir.metrics)[WARMUP_STEPS:]
        seconds = sorted(step["step_seconds"] for step in steps)
        config = load_config(self._config, cell.overrides).model_dump(mode="json")
        return {
            "question": "throughput",
            "cell": asdict(cell),
            "config": {
                **config,
                "run_dir": "runs/planned_speed",
                "data": {**config["data"], "shards_dir": "data/none"},
            },
            "device": "cpu",
            "ranks": cell.ranks,
            "warmup_steps": WARMUP_STEPS,
            "steps": len(steps),
            "step_seconds": statistics.median(seconds),
            "step_seconds_spread": [seconds[0], seconds[-1]],
            "tokens_per_second": statistics.median(step["tokens_per_second"] for step in steps),
            "environment": json.loads(run_dir.environment.read_text(encoding="utf-8")),
        }


if __name__ == "__main__":
    main()
