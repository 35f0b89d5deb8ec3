"""Faster, slower or noise: two revisions that train in turns on this machine, or two files of results.

    python -m benchmarks compare v0.1.0 HEAD            two revisions, each checked out beside this tree
    python -m benchmarks compare HEAD .                 what is committed, and what is on the disk
    python -m benchmarks compare old.jsonl new.jsonl    two files of results, line by line where the settings agree

Revisions run the real ``framework.train`` on the same shards, one rank on one core, the same for both, in turns (A B, B A, ...),
in several starts of each: a start has its luck with memory and caches that no repetition within it averages out. Two signals
are compared, time that passed and processor time; the one whose interval is narrower decides, because on a shared machine the
first also counts what others do. An effect below ``--smallest-effect`` is called noise whatever its interval says.

Files are compared by the repeats that their lines hold; they were not interleaved, so only the same machine, at the same peace,
gives an answer worth having.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.command import zerostream
from benchmarks.ratios import Ratio, paired_ratio, unpaired_ratio
from benchmarks.records import add_output, is_answer, new_record, publish, read_records
from benchmarks.turns import interleave, zerostream_side
from framework.errors import UserError

CONFIG = """\
model: {preset: gpt2_nano, context_length: 128}
tokenizer: {kind: train_bpe, vocab_size: 2048}
data: {source: embedded, documents: 2000, shards_dir: FOLDER/shards, lanes: 16}
engine: {kind: deepspeed, zero_stage: 1, micro_batch_size: 4, global_batch_size: 8}
logging: {every_steps: 1000, tensorboard: false}
"""
ROOT = Path(__file__).parent.parent
SPEEDS = ("tokens_per_second", "megabytes_per_second")
"""Names of what a line of results says of speed; the first that is there is compared."""
SIGNALS = {"wall": "seconds", "processor": "cpu_seconds"}
Turns = dict[str, list[dict[str, float]]]


def main() -> None:
    """Measures and says so; the exit code is 0 whatever the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", help="git revision, folder of a tree, or file of results")
    parser.add_argument("b", help="as A; the verdict is B's")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="of the config that both train")
    parser.add_argument("--starts", type=int, default=3, help="of each side (default 3)")
    parser.add_argument("--turns", type=int, default=12, help="of each start (default 12)")
    parser.add_argument("--steps", type=int, default=4, help="of a turn (default 4)")
    parser.add_argument("--warmup", type=int, default=10, help="steps before the first turn (default 10)")
    parser.add_argument("--smallest-effect", type=float, default=0.025, help="that is more than noise (default 0.025)")
    parser.add_argument(
        "--plant", type=float, default=0.0, help="slow B down by this share of a step, to try the comparison"
    )
    add_output(parser)
    arguments = parser.parse_intermixed_args()  # overrides may stand behind options
    if not arguments.smallest_effect >= 0:
        parser.error(f"--smallest-effect is {arguments.smallest_effect}, and must be 0 or more")
    if _are_files(arguments):
        _compare_files(Path(arguments.a), Path(arguments.b), arguments.smallest_effect)
        return
    _stay_on_one_core()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        trees = {name: _tree_of(revision, Path(folder, name), stack) for name, revision in _both(arguments).items()}
        turns = _measure(trees, Path(folder), arguments)
    signals = {name: _ratio(turns, of) for name, of in SIGNALS.items()}
    deciding = min(signals, key=lambda name: signals[name].high / signals[name].low)
    verdict = signals[deciding].verdict(arguments.smallest_effect)
    settings = {"a": arguments.a, "b": arguments.b, "plant": arguments.plant, "overrides": arguments.overrides}
    values = {"verdict": verdict, "by": deciding, **{name: ratio.as_json() for name, ratio in signals.items()}}
    counts = {"starts": arguments.starts, "turns": arguments.turns, "steps": arguments.steps}
    record = new_record(
        "compare", settings | counts, values, warmup=arguments.warmup, repeats=arguments.starts * arguments.turns
    )
    publish(record, arguments.append)
    shown = ", ".join(f"{name} {ratio}" for name, ratio in signals.items())
    print(f"{arguments.b} against {arguments.a}: {verdict} (speed by {deciding} time; {shown})", file=sys.stderr)


def _are_files(arguments: argparse.Namespace) -> bool:
    """Whether both sides are files of results, for which there is nothing else to say."""
    files = [side for side in (arguments.a, arguments.b) if Path(side).is_file()]
    if len(files) == 1:
        raise UserError(f"{files[0]} is a file, and the other side is none", fix="name two of one kind")
    if files and (arguments.overrides or arguments.append):
        raise UserError("nothing is trained to compare two files", fix="leave overrides and --append out")
    return bool(files)


def _stay_on_one_core() -> None:
    """This process, and so both sides: else moving between cores, and a second thread's waiting, would be measured too."""
    if hasattr(os, "sched_setaffinity"):  # not on macOS
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _both(arguments: argparse.Namespace) -> dict[str, str]:
    return {"a": arguments.a, "b": arguments.b}


def _tree_of(revision: str, folder: Path, stack: ExitStack) -> Path:
    """The folder of a tree: as it is, or a revision checked out for as long as ``stack`` lives."""
    if (Path(revision) / "framework").is_dir():
        return Path(revision).resolve()
    added = _git("worktree", "add", "--detach", str(folder / "tree"), revision)
    if added.returncode:
        raise UserError(
            f"{revision!r} is no revision, no folder with a framework/ in it, and no file of results",
            fix="name two of one kind, such as HEAD~1 and HEAD",
        )
    stack.callback(_git, "worktree", "remove", "--force", str(folder / "tree"))
    return folder / "tree"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def _measure(trees: Mapping[str, Path], folder: Path, arguments: argparse.Namespace) -> Turns:
    config = folder / "config.yaml"
    config.write_text(CONFIG.replace("FOLDER", str(folder)), encoding="utf-8")
    zerostream("prepare", config, *arguments.overrides)
    turns: Turns = {name: [] for name in trees}
    for start in range(arguments.starts):
        print(f"start {start + 1} of {arguments.starts} ...", file=sys.stderr, flush=True)
        with ExitStack() as stack:
            sides = {
                name: stack.enter_context(
                    zerostream_side(
                        config,
                        arguments.overrides,
                        folder / f"{name}-{start}",
                        warmup=arguments.warmup,
                        steps=arguments.steps,
                        tree=tree,
                        slowdown=arguments.plant if name == "b" else 0.0,
                    )
                )
                for name, tree in trees.items()
            }
            for name, taken in interleave(sides, arguments.turns).items():
                turns[name] += taken
    return turns


def _ratio(turns: Turns, of: str) -> Ratio:
    """Of B's speed over A's: A's time by B's, turn by turn."""
    a, b = ([turn[of] / turn["steps"] for turn in turns[name]] for name in ("a", "b"))
    return paired_ratio(a, b, confidence=0.99)


def _compare_files(a: Path, b: Path, smallest_effect: float) -> None:
    lines = [_repeats(read_records(path)) for path in (a, b)]
    common = [key for key in lines[0] if key in lines[1]]
    if not common:
        raise UserError(
            f"{a} and {b} have no line of the same setting with two repeats of a speed or more",
            fix="compare two files of one question",
        )
    for key in common:
        ratio = unpaired_ratio(lines[1][key], lines[0][key])
        print(f"{ratio.verdict(smallest_effect):<7} {ratio}  {key}")


def _repeats(records: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The speed of each repeat, by question and setting; a later line replaces an earlier one. One alone has no spread."""
    found = {}
    for record in filter(is_answer, records):
        speed = next((record["values"][name] for name in SPEEDS if name in record["values"]), None)
        of_each = speed.get("of_each") if isinstance(speed, Mapping) else None
        if isinstance(of_each, list) and len(of_each) > 1 and all(map(_is_speed, of_each)):
            found[f"{record['question']} {json.dumps(record['setting'], sort_keys=True)}"] = of_each
    return found


def _is_speed(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


if __name__ == "__main__":
    main()
