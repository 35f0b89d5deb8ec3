"""What more ranks bring, and what they have to tell each other.

    python -m benchmarks scaling                                   1 and 2 ranks, ZeRO 0 to 3, strong and weak
    python -m benchmarks scaling --ranks 1 2 4 --preset gpt2_micro --precision bf16

Strong: the same step cut among the ranks. Weak: as many sequences for each rank. Efficiency is tokens/s over that of the smallest
number of ranks, per rank; ranks beside each other on the cores of one CPU share them, so that there perfect scaling is as many
tokens/s as before. The bytes that gloo moves in a step are those that the loopback interface counted meanwhile, over all ranks,
and stand beside ZeRO's theory (Rajbhandari et al. 2020, arXiv:1910.02054, section 7): a rank sends 2P elements with stages 0 to 2
and 3P with stage 3, times (n - 1) / n. NCCL does not pass there: on GPUs they are left out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.records import add_output, new_record, publish, summary
from benchmarks.training_runs import Cell, prepare_corpus
from benchmarks.turns import SideError, zerostream_side

_TURNS = 5
_LOOPBACK = Path("/sys/class/net/lo/statistics/tx_bytes")


def main() -> None:
    """One line for each kind, stage and number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="(default 1 2)")
    parser.add_argument("--stage", type=int, nargs="+", default=[0, 1, 2, 3], help="(default all)")
    parser.add_argument("--preset", default="gpt2_nano", help="(default gpt2_nano)")
    parser.add_argument("--context", type=int, default=256, help="(default 256)")
    parser.add_argument("--micro-batch", type=int, default=4, help="of a rank, weak; of all, strong (default 4)")
    parser.add_argument("--precision", default="fp32", help="(default fp32)")
    parser.add_argument("--steps", type=int, default=5, help=f"of each of {_TURNS} turns (default 5)")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them (default 5)")
    add_output(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = prepare_corpus(Path(folder))
        for kind in ("strong", "weak"):
            for stage in arguments.stage:
                _measure(kind, stage, config, Path(folder), arguments)


def _measure(kind: str, stage: int, config: Path, folder: Path, arguments: argparse.Namespace) -> None:
    per_rank_of_one: float | None = None
    for ranks in sorted(arguments.ranks):
        micro_batch = arguments.micro_batch if kind == "weak" else max(1, arguments.micro_batch // ranks)
        cell = Cell(
            arguments.preset,
            arguments.context,
            zero_stage=stage,
            micro_batch_size=micro_batch,
            ranks=ranks,
            precision=arguments.precision,
        )
        print(f"{kind}: {cell} ...", file=sys.stderr, flush=True)
        values = _run(cell, config, folder / f"{kind}-{stage}-{ranks}", arguments)
        if "tokens_per_second" in values:
            per_rank = values["tokens_per_second"]["median"] / ranks
            per_rank_of_one = per_rank_of_one or per_rank
            values["efficiency"] = round(per_rank / per_rank_of_one, 4)
        setting = {"kind": kind, **cell.as_json()}
        record = new_record("scaling", setting, values, ranks=ranks, warmup=arguments.warmup, repeats=_TURNS)
        publish(record, arguments.append)


def _run(cell: Cell, config: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    speeds, moved = [], []
    counts = {"warmup": arguments.warmup, "steps": arguments.steps}
    try:
        with zerostream_side(config, cell.overrides(), folder, ranks=cell.ranks, **counts) as side:
            side.next_turn()
            for _ in range(_TURNS):
                before = _loopback_bytes()
                turn = side.next_turn()
                moved.append((_loopback_bytes() - before) / turn["steps"])
                speeds.append(turn["tokens"] / turn["seconds"])
    except SideError as error:
        return {"outcome": "failed", "last_words": str(error)}
    values: dict[str, Any] = {"outcome": "measured", "tokens_per_second": summary(speeds)}
    theory = zero_bytes_sent(cell_parameters(cell), cell.zero_stage, cell.ranks, cell.precision)
    values["bytes_of_a_step"] = {"loopback": round(statistics.median(moved)), "theory": cell.ranks * theory}
    return values


def _loopback_bytes() -> int:
    return int(_LOOPBACK.read_text()) if _LOOPBACK.exists() else 0


def cell_parameters(cell: Cell) -> int:
    """Of the cell's model, built without memory."""
    import torch

    from framework.config import build_config
    from framework.model.build import build_model, count_parameters

    values = {"preset": cell.preset, "context_length": cell.context_length}
    with torch.device("meta"):
        return count_parameters(build_model(build_config({"model": values}, origin="cell"), cell.vocabulary, 0))


def zero_bytes_sent(parameters: int, stage: int, ranks: int, precision: str) -> int:
    """What a rank sends in one step with one micro-batch, after ZeRO's paper, with ring collectives."""
    element_bytes = 4 if precision == "fp32" else 2
    passes = 3 if stage == 3 else 2
    return round(passes * parameters * element_bytes * (ranks - 1) / ranks)


if __name__ == "__main__":
    main()
