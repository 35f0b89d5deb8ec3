"""One loader of training rows: a process of ``benchmarks.loader`` and ``benchmarks.peers``.

    python -m benchmarks.sides.loading SIDE FOLDER GATE CONTEXT ROWS WARMUP STEPS

``FOLDER/tokens.npy`` holds the tokens, uint16. A side brings them into its own format, below ``FOLDER/SIDE``, before its first
turn; then a step hands over ROWS rows of CONTEXT inputs and targets, int64, shuffled as that tool shuffles. What zerostream reads
are the shards in ``FOLDER/shards``. Imports what its side needs, and nothing else: a peer may live in an environment of its own.
"""

from __future__ import annotations

import io
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sides.vision import let_torchvision_import
from benchmarks.turn_gate import TurnGate

Rows = tuple[Any, Any]
_SHUFFLED_ROWS, _ROWS_OF_A_SHARD, _END = 1000, 4096, sys.maxsize


@dataclass(frozen=True)
class Task:
    """What a loader has to deliver, and where its own files go."""

    folder: Path
    own: Path
    context: int
    rows: int

    def tokens(self) -> Any:
        """[tokens] uint16, mapped into memory."""
        import numpy as np

        return np.load(self.folder / "tokens.npy", mmap_mode="r")

    def samples(self) -> Iterator[Any]:
        """[context + 1] uint16 each: the text cut into rows, for a tool that stores rows."""
        import numpy as np

        tokens = self.tokens()
        for start in range(0, len(tokens) - self.context - 1, self.context):
            yield np.array(tokens[start : start + self.context + 1])


def _pair(rows: Any) -> Rows:
    """Inputs and targets of [rows, context + 1] ids."""
    import torch

    wide = rows if isinstance(rows, torch.Tensor) else torch.from_numpy(rows.astype("int64"))
    wide = wide.to(torch.int64)
    return wide[:, :-1], wide[:, 1:]


def steps_of(task: Task, first_step: int = 0, **data: Any) -> Iterator[Any]:
    """Our stream of batches from a step on; ``data`` are further keys of that section."""
    from framework.config import build_config, plan_batch
    from framework.data.corpus import load_corpus
    from framework.data.stream import TrainStream

    values = {
        "model": {"context_length": task.context},
        "data": {"shards_dir": str(task.folder / "shards"), "lanes": 1, **data},
        "engine": {"micro_batch_size": task.rows, "global_batch_size": task.rows},
    }
    config = build_config(values, origin="benchmark")
    return TrainStream(load_corpus(config.data), plan_batch(config, 1), lanes=1, seed=1, rank=0).steps(first_step)


def _rows_of(steps: Iterator[Any]) -> Iterator[Rows]:
    for step in steps:
        for batch in step.micro_batches:
            yield batch.input_ids, batch.targets


def zerostream(task: Task) -> Iterator[Rows]:
    """Ours, all work in the thread that asks."""
    return _rows_of(steps_of(task))


def zerostream_ahead(task: Task) -> Iterator[Rows]:
    """Ours as in a run: a thread reads two steps ahead."""
    from framework.data.stream import Prefetcher

    with Prefetcher(steps_of(task), depth=2, pin_memory=False) as ahead:
        yield from _rows_of(ahead)


def zerostream_http(task: Task) -> Iterator[Rows]:
    """Ours, from a server on loopback into an empty cache, which holds a quarter of the shards, or two."""
    sizes = [path.stat().st_size for path in (task.folder / "shards").glob("*.tar")]
    with _served(task.folder / "shards") as url:
        cache: dict[str, Any] = {
            "shards_dir": str(task.own / "cache"),
            "remote": url,
            "cache_bytes": max(sum(sizes) // 4, 2 * max(sizes)),
        }
        yield from _rows_of(steps_of(task, **cache))


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    import functools
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def memory_map(task: Task) -> Iterator[Rows]:
    """Windows at random places of a mapped file, as nanoGPT draws them; no epoch, no order to go on in."""
    return map(_pair, _windows(task))


def memory_map_digest(task: Task) -> Iterator[Rows]:
    """The same with two of the things that ours does: a digest of each row, and inputs and targets that do not overlap."""
    import torch
    import xxhash

    for rows in _windows(task):
        wide = rows.astype("<u4")
        for row in wide:
            xxhash.xxh3_64_intdigest(row.data)
        inputs, targets = wide[:, :-1].astype("int64"), wide[:, 1:].astype("int64")
        yield torch.from_numpy(inputs), torch.from_numpy(targets)


def _windows(task: Task) -> Iterator[Any]:
    import numpy as np

    tokens, generator = task.tokens(), np.random.default_rng(1)
    while True:
        starts = generator.integers(0, len(tokens) - task.context - 1, size=task.rows)
        yield np.stack([tokens[start : start + task.context + 1] for start in starts])


def webdataset_rows(task: Task) -> Iterator[Rows]:
    """Stock webdataset, a row a sample, decoded and shuffled as its documentation shows."""
    os.environ.pop("WDS_SECURE", None)  # ours; webdataset would refuse local files with it
    import numpy as np
    import webdataset

    task.own.mkdir(parents=True, exist_ok=True)
    with webdataset.ShardWriter(str(task.own / "rows-%06d.tar"), maxcount=_ROWS_OF_A_SHARD, verbose=0) as writer:
        for number, row in enumerate(task.samples()):
            buffer = io.BytesIO()
            np.save(buffer, row)
            writer.write({"__key__": f"{number:09d}", "npy": buffer.getvalue()})
    shards = sorted(map(str, task.own.glob("rows-*.tar")))
    pipeline = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=1).shuffle(_SHUFFLED_ROWS).decode()
    rows = pipeline.to_tuple("npy").batched(task.rows, partial=False).repeat()
    for (batch,) in rows:
        yield _pair(np.stack(batch) if isinstance(batch, list) else batch)


def hf_datasets(task: Task) -> Iterator[Rows]:
    """A map-style data set in Arrow files, shuffled, in torch's format, through torch's DataLoader."""
    import datasets
    from torch.utils.data import DataLoader

    def generate() -> Iterator[dict[str, Any]]:
        for row in task.samples():
            yield {"ids": row.astype("int64")}

    rows = datasets.Dataset.from_generator(generate, cache_dir=str(task.own))
    loader: Any = DataLoader(rows.with_format("torch"), batch_size=task.rows, shuffle=True, drop_last=True)
    for _ in itertools.count():
        for batch in loader:
            yield _pair(batch["ids"])


def litdata(task: Task) -> Iterator[Rows]:
    """LitData's token loader: chunks of one long stream of tokens, cut into blocks."""
    from litdata import StreamingDataLoader, StreamingDataset, TokensLoader, optimize

    optimize(
        fn=_litdata_tokens,
        inputs=[(str(task.folder / "tokens.npy"), task.context)],
        output_dir=str(task.own),
        chunk_size=(task.context + 1) * _ROWS_OF_A_SHARD,
        item_loader=TokensLoader(block_size=task.context + 1),
        num_workers=1,
    )
    rows = StreamingDataset(
        str(task.own), item_loader=TokensLoader(block_size=task.context + 1), shuffle=True, drop_last=True
    )
    for _ in itertools.count():
        for batch in StreamingDataLoader(rows, batch_size=task.rows, num_workers=0, drop_last=True):
            yield _pair(batch)


def _litdata_tokens(where: tuple[str, int]) -> Iterator[Any]:
    import numpy as np
    import torch

    path, context = where
    tokens = np.load(path, mmap_mode="r")
    for start in range(0, len(tokens) - context - 1, context):
        yield torch.from_numpy(np.array(tokens[start : start + context + 1]).astype(np.int32))


def mosaicml_streaming(task: Task) -> Iterator[Rows]:
    """MDS shards with one array a sample, through StreamingDataset and torch's DataLoader."""
    let_torchvision_import()
    from streaming import MDSWriter, StreamingDataset
    from torch.utils.data import DataLoader

    columns = {"ids": f"ndarray:uint16:{task.context + 1}"}
    with MDSWriter(out=str(task.own), columns=columns) as writer:
        for row in task.samples():
            writer.write({"ids": row})
    rows = StreamingDataset(local=str(task.own), shuffle=True, batch_size=task.rows)
    for _ in itertools.count():
        for batch in DataLoader(rows, batch_size=task.rows, num_workers=0, drop_last=True):
            yield _pair(batch["ids"])


SIDES: dict[str, Callable[[Task], Iterator[Rows]]] = {
    side.__name__: side
    for side in (
        zerostream,
        zerostream_ahead,
        zerostream_http,
        memory_map,
        memory_map_digest,
        webdataset_rows,
        hf_datasets,
        litdata,
        mosaicml_streaming,
    )
}


def main() -> None:
    """Prepares, and takes turns until nobody asks for one any more."""
    side, folder, gate_folder, context, rows, warmup, steps = sys.argv[1:]
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    gate = TurnGate(Path(gate_folder), int(warmup), int(steps))
    task = Task(Path(folder), Path(folder, side), int(context), int(rows))
    began = time.perf_counter()
    batches = SIDES[side](task)
    next(batches)  # writes its files, where it has any of its own
    ready = time.perf_counter() - began
    counted = 0
    gate.begin_turn()
    for step in range(1, _END):
        inputs, _ = next(batches)
        counted += inputs.numel()
        if gate.ends_turn(step):
            gate.end_turn({"tokens": counted, "ready_seconds": ready})
            counted = 0
            gate.begin_turn()


if __name__ == "__main__":
    main()
