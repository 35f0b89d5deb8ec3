"""How fast shards become batches: in one thread, read ahead, over HTTP; and how soon the first batch, or a resumed one, is there.

    python -m benchmarks loader                            64M tokens of random documents, rows of 1,024
    python -m benchmarks loader --tokens 256 --rows 16

Our readers take turns with a memory map, with one that also hashes what it reads, as ours does, and with stock webdataset that
stores a row a sample. A step is one batch of ROWS rows, inputs and targets as int64. A turn is as long as a shard, so that
each of ours opens one. The first batch counts from the start of reading, imports done; the resumed one begins in mid-epoch.
``python -m benchmarks peers`` has more loaders. One JSON line a reader.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.ratios import paired_ratio
from benchmarks.records import add_output, new_record, publish, summary
from benchmarks.sides.loading import Task, steps_of
from benchmarks.turns import Side, interleave

READERS = ("zerostream", "zerostream_ahead", "zerostream_http", "memory_map", "memory_map_digest", "webdataset_rows")
_DOCUMENT_TOKENS = 400
_SHARD_TOKENS = 8 * 2**20


def main() -> None:
    """Writes shards, lets the readers take turns, and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_work(parser)
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS), help="(default all)")
    add_output(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_tokens(Path(folder), arguments.tokens * 2**20)
        start = first_batches(Path(folder), arguments.context, arguments.rows)
        for record in measure_readers(
            Path(folder), dict.fromkeys(arguments.readers, sys.executable), arguments, "loader"
        ):
            if record["setting"]["reader"] == "zerostream":
                record["values"] |= start
            publish(record, arguments.append)


def add_work(parser: argparse._ActionsContainer) -> None:
    """What is read, and how often."""
    parser.add_argument("--tokens", type=int, default=64, help="in the shards, in units of 1,048,576 (default 64)")
    parser.add_argument("--context", type=int, default=1024, help="of a row (default 1024)")
    parser.add_argument("--rows", type=int, default=8, help="of a batch (default 8)")
    parser.add_argument("--turns", type=int, default=7, help="of each side (default 7)")
    parser.add_argument("--steps", type=int, default=1024, help="batches of a turn (default 1024)")


def write_tokens(folder: Path, tokens: int) -> None:
    """Random documents, as ``tokens.npy`` and as zerostream's shards; the tokenizer only makes the folder whole."""
    import numpy as np

    from framework.config import build_config
    from framework.data.manifest import ShardEntry, ShardManifest
    from framework.data.shards import ShardWriter, shard_name
    from framework.data.tokenizer import build_tokenizer

    generator = np.random.default_rng(0)
    text = generator.integers(1, 50_257, size=tokens, dtype=np.uint16)
    text[generator.integers(0, tokens, size=tokens // _DOCUMENT_TOKENS)] = 0  # ends of text
    text[-1] = 0
    np.save(folder / "tokens.npy", text)
    shards = folder / "shards"
    shards.mkdir()
    learns = build_config({}, origin="benchmark")
    tokenizer = build_tokenizer(learns, documents=["a remote folder has to bring one"] * 10)
    tokenizer.save(shards / "tokenizer")
    entries: list[ShardEntry] = []
    ends: Any = np.flatnonzero(text == 0) + 1
    first = 0
    while first < tokens:
        writer = ShardWriter(shards, shard_name("train", len(entries)), "train", "uint16")
        last = ends[min(np.searchsorted(ends, first + _SHARD_TOKENS), len(ends) - 1)]
        for start, end in zip(*_documents(ends, first, last), strict=True):
            writer.add(text[start:end], text_bytes=4 * int(end - start))
        entries.append(writer.close())
        first = int(last)
    ShardManifest(tokenizer.fingerprint, "1" * 64, "2" * 64, 50_257, "uint16", 0, tuple(entries)).save(shards)


def _documents(ends: Any, first: int, last: int) -> tuple[Any, Any]:
    import numpy as np

    inside = ends[(ends > first) & (ends <= last)]
    return np.concatenate(([first], inside[:-1])), inside


def first_batches(folder: Path, context: int, rows: int) -> dict[str, float]:
    """Seconds until the first batch of a run, and of one that goes on in the middle of an epoch; medians of five."""
    task = Task(folder, folder, context, rows)
    middle = len(task.tokens()) // (2 * context * rows)

    def seconds(step: int) -> float:
        began = time.perf_counter()
        next(steps_of(task, step))
        return time.perf_counter() - began

    return {
        "first_batch_seconds": round(statistics.median(seconds(0) for _ in range(5)), 4),
        "resumed_batch_seconds": round(statistics.median(seconds(middle) for _ in range(5)), 4),
    }


def measure_readers(
    folder: Path, pythons: dict[str, str], arguments: argparse.Namespace, question: str
) -> list[dict[str, Any]]:
    """One record a reader; ``pythons`` names the interpreter of each."""
    work = [str(arguments.context), str(arguments.rows), "20", str(arguments.steps)]
    root = str(Path(__file__).parent.parent)
    with ExitStack() as stack:
        sides = {}
        for name, python in pythons.items():
            gate = folder / f"gate-{name}"
            command = [python, "-m", "benchmarks.sides.loading", name, str(folder), str(gate), *work]
            environment = {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
            sides[name] = stack.enter_context(Side(command, gate, environment=environment))
            print(f"{name} gets ready ...", file=sys.stderr, flush=True)
        turns = interleave(sides, arguments.turns)
    records = []
    for name, taken in turns.items():
        values: dict[str, Any] = {
            "tokens_per_second": summary([turn["tokens"] / turn["seconds"] for turn in taken]),
            "cpu_seconds_per_million_tokens": summary([1e6 * turn["cpu_seconds"] / turn["tokens"] for turn in taken]),
            "ready_seconds": round(taken[0]["ready_seconds"], 3),
        }
        if "zerostream" in turns and name != "zerostream":
            ours = [turn["tokens"] / turn["seconds"] for turn in turns["zerostream"]]
            theirs = [turn["tokens"] / turn["seconds"] for turn in taken]
            values["zerostream_over_it"] = paired_ratio(ours, theirs).as_json()
        setting = {
            "reader": name,
            "tokens": arguments.tokens * 2**20,
            "context": arguments.context,
            "rows": arguments.rows,
        }
        records.append(new_record(question, setting, values, warmup=20, repeats=arguments.turns))
    return records


if __name__ == "__main__":
    main()
