"""Does a rank's peak memory come out as planned? Real short trainings on this machine's CPU, beside the plan of each.

    python -m benchmarks memory --append benchmarks/results/memory_cpu.jsonl --minutes 5
    python -m benchmarks memory --report benchmarks/results/memory_cpu.jsonl
    python -m benchmarks memory --replan FILE     what is measured stays; planned anew, when the planner has changed

Each cell is `zerostream train` as anybody starts it: two models, ZeRO 0 to 3, one, two and four ranks, with and without
recomputed activations, some of them with offload or in bf16. Cells whose line is in the file already are not run again, and none
is begun after ``--minutes``: the same command goes on with the rest.

What is measured is the largest resident memory of any rank up to the end of its last step, as `metrics.jsonl` has it. A C library
that keeps what was freed hides what is in use: under the settings that the launcher chooses for speed it is 2 to 50% more. So
these runs have glibc give back every block above 64 KiB at once (``MALLOC_SETTINGS``). What a rank takes before it has a model,
the libraries, is measured with a model of a few thousand weights under the same command, and is the plan's part `base`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import zerostream
from benchmarks.records import add_output, answers_to, kept_records, key_of, new_record, publish, read_records, rewrite
from benchmarks.training_runs import resolved_config, train
from framework.config import load_config
from framework.metrics.records import read_json_lines
from framework.planner import device_named, plan_memory
from launch.report import print_table

QUESTION = "memory"

MALLOC_SETTINGS = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
GOAL = 0.05
STEPS = 2  # the first step has no moments yet
CONFIG = """\
model: {architecture: gpt2, context_length: 256}
tokenizer: {kind: train_bpe, vocab_size: 2048}
data: {source: embedded, documents: 2000, shards_dir: FOLDER/shards, lanes: 16}
train: {max_steps: STEPS, eval_every_steps: 1000, eval_max_sequences: 4, sample_prompts: []}
checkpoint: {asynchronous: false}
logging: {tensorboard: false}
""".replace("STEPS", str(STEPS))
_MODELS = {
    "21M": {"layers": 6, "width": 512, "heads": 8},
    "60M": {"layers": 8, "width": 768, "heads": 12},
}
_TINY = {"layers": 1, "width": 32, "heads": 2}
_RUN_SECONDS = 300


@dataclass(frozen=True)
class Cell:
    """One run. Every rank takes two micro-steps a step."""

    model: str
    zero_stage: int
    ranks: int
    activation_checkpointing: bool = False
    precision: str = "fp32"
    offload: str = "none"
    micro_batch_size: int = 2

    @property
    def overrides(self) -> list[str]:
        sizes = _MODELS.get(self.model, _TINY)
        return [
            *(f"model.{key}={value}" for key, value in sizes.items()),
            f"engine.zero_stage={self.zero_stage}",
            f"engine.precision={self.precision}",
            f"engine.activation_checkpointing={str(self.activation_checkpointing).lower()}",
            f"engine.offload.optimizer={str(self.offload != 'none').lower()}",
            f"engine.offload.parameters={str(self.offload == 'all').lower()}",
            f"engine.micro_batch_size={self.micro_batch_size}",
            f"engine.global_batch_size={2 * self.micro_batch_size * self.ranks}",
        ]

    @property
    def key(self) -> str:
        return key_of(QUESTION, asdict(self))

    def __str__(self) -> str:
        words = [self.model, f"ZeRO-{self.zero_stage}", f"{self.ranks} ranks", self.precision]
        words += ["recomputing"] * self.activation_checkpointing
        return ", ".join(words + [f"offload {self.offload}"] * (self.offload != "none"))

    @property
    def base(self) -> Cell:
        """The run that tells what the libraries take: they differ by stage, and by how many ranks there are."""
        return Cell("tiny", self.zero_stage, self.ranks, micro_batch_size=1)


def cells() -> Iterator[Cell]:
    """All of them; those that the goal asks for come first."""
    for ranks in (2, 1, 4):
        for stage in (3, 2, 1, 0):
            for number, model in enumerate(_MODELS):
                yield Cell(model, stage, ranks, activation_checkpointing=(stage + ranks // 2 + number) % 2 == 1)
    yield Cell("60M", 2, 2, offload="optimizer")
    yield Cell("60M", 3, 2, offload="all")
    for stage in range(4):
        yield Cell("60M", stage, 2, precision="bf16")
    for stage in range(4):
        for ranks in (1, 2):
            for number, model in enumerate(_MODELS):
                yield Cell(model, stage, ranks, activation_checkpointing=(stage + ranks // 2 + number) % 2 == 0)


def main() -> None:
    """Runs what is missing, or shows what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_output(parser)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no cell after so long (default 60)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="show the lines of this file, and run nothing")
    parser.add_argument("--replan", type=Path, metavar="FILE", help="plan the cells of this file anew, and run nothing")
    arguments = parser.parse_args()
    if arguments.report:
        report(answers_to(QUESTION, read_records(arguments.report), arguments.report))
        return
    if arguments.replan:
        replan(arguments.replan)
        return
    kept = kept_records(arguments.append)
    measured = {key_of(QUESTION, line["setting"]): line["values"]["measured_peak_bytes"] for line in kept}
    ends = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        config = write_config(Path(folder))
        zerostream("prepare", config)
        for cell in cells():
            for each in (cell.base, cell):
                if each.key in measured or time.monotonic() > ends:
                    continue
                print(f"{each} ...", file=sys.stderr, flush=True)
                measured[each.key] = measure(config, each)
                publish(record_of(config, each, measured), arguments.append)


def measure(config: Path, cell: Cell) -> int:
    """Trains it, and returns the largest resident memory of any rank, in bytes."""
    folder = config.with_name("run")
    run_dir = train(config, cell.overrides, folder, cell.ranks, environment=MALLOC_SETTINGS, timeout=_RUN_SECONDS)
    return max(int(line["peak_memory_bytes"]) for line in read_json_lines(run_dir.metrics))


def record_of(config: Path, cell: Cell, measured: Mapping[str, int]) -> dict[str, Any]:
    """The line of one cell; ``measured`` has its bytes and those of its base."""
    values: dict[str, Any] = {"measured_peak_bytes": measured[cell.key], "malloc": MALLOC_SETTINGS}
    if cell.model in _MODELS:
        values |= plan_cell(config, cell, measured[cell.base.key], measured[cell.key])
    resolved = resolved_config(config, cell.overrides)
    return new_record(QUESTION, asdict(cell), values, ranks=cell.ranks, config=resolved, warmup=0, repeats=1)


def report(lines: Sequence[Mapping[str, Any]]) -> None:
    """A table, and how many cells are within the goal."""
    planned = [line for line in lines if "predicted_peak_bytes" in line["values"]]
    rows: list[tuple[Any, ...]] = [("cell", "planned MiB", "measured MiB", "of it base", "error", "at")]
    for line in planned:
        values = line["values"]
        rows.append(
            (
                str(Cell(**line["setting"])),
                f"{values['predicted_peak_bytes'] / 2**20:,.0f}",
                f"{values['measured_peak_bytes'] / 2**20:,.0f}",
                f"{values['parts']['base'] / 2**20:,.0f}",
                f"{100 * values['error']:+.1f}%",
                values["moment"],
            )
        )
    print_table(rows)
    errors = [abs(line["values"]["error"]) for line in planned]
    if not errors:
        return  # what libraries take alone has no plan
    print(
        f"\n{sum(error <= GOAL for error in errors)} of {len(errors)} cells within {GOAL:.0%}; median error "
        f"{100 * statistics.median(errors):.1f}%, largest {100 * max(errors):.1f}%"
    )


def replan(path: Path) -> None:
    """Rewrites the plans of a file's lines, with the planner as it is now."""
    lines = read_records(path)
    answers = answers_to(QUESTION, lines, path)
    measured = {key_of(QUESTION, line["setting"]): line["values"]["measured_peak_bytes"] for line in answers}
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        config = write_config(Path(folder))
        for line in answers:
            line["values"] = record_of(config, Cell(**line["setting"]), measured)["values"]
    rewrite(path, lines)
    report(answers)


def plan_cell(config: Path, cell: Cell, base_bytes: int, measured: int) -> dict[str, Any]:
    """The plan of one cell, and how far off it is."""
    device = device_named("cpu").model_copy(update={"base_bytes": base_bytes})
    plan = plan_memory(load_config(config, cell.overrides), cell.ranks, 1, device)
    return {
        "predicted_peak_bytes": plan.peak_bytes,
        "error": round(plan.peak_bytes / measured - 1, 4),
        "moment": plan.moment,
        "parts": dict(plan.parts),
        "parameters": plan.parameters,
        "model_state_bytes": plan.model_state_bytes,
        "zero_formula_bytes": plan.zero_formula_bytes,
    }


def write_config(folder: Path) -> Path:
    """The config that all cells override; returns its path in ``folder``."""
    path = folder / "memory.yaml"
    path.write_text(CONFIG.replace("FOLDER", str(folder)), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
