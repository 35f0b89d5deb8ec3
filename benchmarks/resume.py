"""How long a resumed rank takes to know which shards to open, on a manifest of 100 GB.

    python -m benchmarks.resume

Writes the manifest of so many shards and none of the shards, reads it back, and asks the order for the addresses of a step in
the middle of the third epoch and for the shards that one of 64 ranks opens there; as one set, and as a mixture of three.
Prints one JSON line; ``--append FILE`` keeps it.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.records import add_output, publish
from framework.config.batch import BatchPlan
from framework.data.corpus import Corpus, LocalShards, Part
from framework.data.manifest import ShardEntry, ShardManifest, load_manifest
from framework.data.stream import TrainStream
from framework.metrics.hardware import describe_environment

SHARD_BYTES, SHARD_TOKENS = 8_400_000, 4_194_304
RANKS, RANK, LANES, BATCH, CONTEXT = 64, 17, 64, 512, 1024


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=100.0, help="of shards in the manifest (default 100)")
    parser.add_argument("--repeats", type=int, default=5, help="medians of so many (default 5)")
    add_output(parser)
    arguments = parser.parse_args()
    publish(measure(round(arguments.gigabytes * 1e9 / SHARD_BYTES), arguments.repeats), arguments.append)


def measure(shards: int, repeats: int) -> dict[str, Any]:
    """Median seconds of each question, for one set and for a mixture 7 : 2 : 1 of three."""
    with tempfile.TemporaryDirectory() as folder:
        for name, count in (("whole", shards), ("third", shards // 3)):
            (Path(folder) / name).mkdir()
            make_manifest(count).save(Path(folder) / name)
        cases = ((Path(folder) / "whole", [1]), (Path(folder) / "third", [7, 2, 1]))
        times = [resume(*case) for _ in range(repeats) for case in cases]
    medians = {
        name: {key: round(sorted(each[key] for each in times[start::2])[repeats // 2], 4) for key in times[start]}
        for start, name in enumerate(["one_set", "mixture_of_three"])
    }
    return {
        "question": "resume",
        "shards": shards,
        "shard_bytes": shards * SHARD_BYTES,
        "seconds": medians,
        "environment": describe_environment(1, torch.device("cpu")),
    }


def make_manifest(shards: int) -> ShardManifest:
    """Of ``shards`` shards that are nowhere."""
    entries = tuple(
        ShardEntry(
            f"train-{number:06d}.tar", "train", SHARD_BYTES, f"{number:064x}", 20_000, SHARD_TOKENS, 4 * SHARD_TOKENS
        )
        for number in range(shards)
    )
    return ShardManifest("0" * 64, "1" * 64, "2" * 64, 50_257, "uint16", 50_256, entries)


def resume(folder: Path, shares: list[int]) -> dict[str, float]:
    """Seconds to read the manifests, to locate the step's first cursor, and to list what the rank opens first."""
    began = time.perf_counter()
    parts = tuple(Part(folder, load_manifest(folder), LocalShards(folder), share) for share in shares)
    loaded = time.perf_counter()
    plan = BatchPlan(RANKS, BATCH // RANKS, 1, BATCH, CONTEXT)
    stream = TrainStream(Corpus(parts), plan, lanes=LANES, seed=1, rank=RANK)
    sequences = sum(order.sequences_per_epoch for order in stream.order.parts)
    step = round(2.5 * sequences / BATCH)
    stream.order.locate(step * BATCH + RANK)
    located = time.perf_counter()
    first_of_each_part = itertools.islice(stream.openings(step), len(shares))
    assert len([stream.shard_at(address).entry.name for _, address in first_of_each_part]) == len(shares)
    listed = time.perf_counter()
    return {
        "manifest": loaded - began,
        "first_cursor": located - loaded,
        "shards_to_open": listed - located,
        "total": listed - began,
    }


if __name__ == "__main__":
    main()
