"""What tests of remote shards need: a real HTTP server that fails on demand, shards to serve, and streams that read them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from framework.config.batch import BatchPlan
from framework.data.corpus import Corpus, Part
from framework.data.manifest import load_manifest
from framework.data.remote import RemoteFolder, RemoteShards, Retry, open_cache
from framework.data.stream import StepBatch, TrainStream
from framework.durable import size_of

QUICK = Retry(attempts=4, first_wait_seconds=0.01, longest_wait_seconds=0.02, attempt_seconds=5.0)
CONTEXT, LANES, BATCH = 8, 8, 8
PLENTY = 10**9


class Server:
    """Serves a folder. ``faults`` holds, for a file, what happens to its next requests, one fault each."""

    def __init__(self, folder: Path) -> None:
        self.faults: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.hung_up: list[str] = []
        self.let_go = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.removeprefix("/shards/")
                server.asked.append(name)
                fault = (server.faults.get(name) or [None]).pop(0)  # type: ignore[list-item]
                if fault is None and not (folder / name).is_file():
                    fault = "404"
                if fault is not None and fault.isdigit():
                    self.send_error(int(fault))
                    return
                content = (folder / name).read_bytes()
                if fault == "wrong":
                    content = bytes(byte ^ 1 for byte in content)
                elif fault == "short":
                    content = content[: len(content) // 2]
                elif fault == "endless":
                    content += bytes(50_000_000)
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if fault == "hang":
                    server.let_go.wait(30)
                try:
                    self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
                except OSError:
                    server.hung_up.append(name)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/shards"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def make_shards(shards: int = 12, seed: int = 0) -> list[list[list[int]]]:
    """Documents of each shard, of random tokens."""
    random = np.random.default_rng(seed)
    return [
        [random.integers(1, 60_000, size=random.integers(1, 30)).tolist() for _ in range(random.integers(3, 12))]
        for _ in range(shards)
    ]


def source_of(url: str, cache: Path, cache_bytes: int = PLENTY, retry: Retry = QUICK) -> RemoteShards:
    remote = RemoteFolder(url, retry)
    open_cache(remote, cache)
    return RemoteShards(remote, cache, cache_bytes)


def corpus_of(source: RemoteShards, cache: Path) -> Corpus:
    return Corpus((Part(cache, load_manifest(cache), source),))


def stream_of(corpus: Corpus, ranks: int = 1, rank: int = 0) -> TrainStream:
    plan = BatchPlan(ranks, BATCH // ranks, 1, BATCH, CONTEXT)
    return TrainStream(corpus, plan, lanes=LANES, seed=7, rank=rank)


def digests(batches: Iterator[StepBatch], steps: int) -> list[str]:
    return [str(batch.digest) for batch in itertools.islice(batches, steps)]


def cached(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("*.tar")}


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.suffix in (".tmp", ".lock")]


def bytes_in(cache: Path) -> int:
    """Of shards, finished or not; some may leave while they are counted."""
    return sum(size_of(path) or 0 for path in cache.glob("*.tar*"))


def is_reading_ahead() -> bool:
    return any(each.name == "shard-ahead" for each in threading.enumerate())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
