"""``zerostream prepare``: text to shards, with progress on standard error and a summary on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from framework.config.schema import Config
from framework.data.manifest import SPLITS, ShardManifest
from framework.data.prepare import prepare
from framework.data.prepare_progress import Phase, PrepareProgress

_SECONDS_BETWEEN_LINES = 5.0
_SAID = {"tokenizer": "learning the tokenizer", "shards": "writing shards"}


def run_prepare(config: Config, *, as_json: bool, config_name: str = "CONFIG") -> None:
    """Prepares the shards of ``config`` and says what was written.

    Args:
        config: of the run.
        as_json: print one object on standard output in place of the table.
        config_name: the config's file as the user typed it, for the next command.

    Raises:
        UserError, StorageError: as ``framework.data.prepare.prepare``.
    """
    started = time.monotonic()
    with _shown_progress() as progress:
        manifest = prepare(config, progress=progress)
    summary = _summarise(manifest, config, time.monotonic() - started)
    if as_json:
        print(json.dumps(summary))
    else:
        _print_summary(summary, config_name)


def _summarise(manifest: ShardManifest, config: Config, seconds: float) -> dict[str, Any]:
    splits = {
        split: {
            "shards": len(manifest.split(split)),
            "documents": sum(shard.documents for shard in manifest.split(split)),
            "tokens": manifest.tokens(split),
            "text_bytes": manifest.text_bytes(split),
            "shard_bytes": sum(shard.size_bytes for shard in manifest.split(split)),
        }
        for split in SPLITS
    }
    text_bytes = sum(split["text_bytes"] for split in splits.values())
    return {
        "shards_dir": str(config.data.shards_dir),
        "splits": splits,
        "bytes_per_token": round(text_bytes / sum(split["tokens"] for split in splits.values()), 4),
        "vocab_size": manifest.vocab_size,
        "token_dtype": manifest.token_dtype,
        "end_of_text_id": manifest.end_of_text_id,
        "tokenizer_fingerprint": manifest.tokenizer_fingerprint,
        "source_fingerprint": manifest.source_fingerprint,
        "data_fingerprint": manifest.data_fingerprint,
        "seconds": round(seconds, 3),
    }


def _print_summary(summary: dict[str, Any], config_name: str) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("split")
    for title in ("shards", "documents", "tokens", "text"):
        table.add_column(title, justify="right")
    for name, split in summary["splits"].items():
        counts = (f"{split[key]:,}" for key in ("shards", "documents", "tokens"))
        table.add_row(name, *counts, _megabytes(split["text_bytes"]))
    console = Console(highlight=False)
    console.print(table)
    size, dtype, density = (summary[key] for key in ("vocab_size", "token_dtype", "bytes_per_token"))
    print(f"vocabulary {size:,} ({dtype}), {density:.2f} bytes per token")
    print(f"folder     {summary['shards_dir']} (ready after {summary['seconds']:.1f} s)")
    print(f"next       zerostream train {config_name}")


def _megabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


@contextmanager
def _shown_progress() -> Iterator[PrepareProgress]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _PlainLines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        _Rates(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar)


class _Bar:
    """One bar for each phase."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[Phase, TaskID] = {}

    def __call__(self, *, phase: Phase, documents: int, text_bytes: int, total_bytes: int | None) -> None:
        if phase not in self._tasks:
            self._tasks[phase] = self._bar.add_task(_SAID[phase], total=total_bytes, documents=0)
        self._bar.update(self._tasks[phase], completed=text_bytes, total=total_bytes, documents=documents)


class _Rates(ProgressColumn):
    """Documents, megabytes, and both per second."""

    def render(self, task: Task) -> Text:
        documents = task.fields["documents"]
        return Text(
            _describe_rates(documents, int(task.completed), task.finished_time or task.elapsed or 0.0),
            style="progress.data.speed",
        )


class _PlainLines:
    """A line every few seconds, for logs."""

    def __init__(self) -> None:
        self._phase: Phase | None = None
        self._phase_started = self._last_line = 0.0

    def __call__(self, *, phase: Phase, documents: int, text_bytes: int, total_bytes: int | None) -> None:
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._phase_started, self._last_line = phase, now, now
            print(f"{_SAID[phase]} ...", file=sys.stderr, flush=True)
        if now - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        elapsed = now - self._phase_started
        line = f"{_SAID[phase]}: {_describe_rates(documents, text_bytes, elapsed)}"
        if total_bytes:
            line += f", about {elapsed * (total_bytes / text_bytes - 1.0):,.0f} s left"
        print(line, file=sys.stderr, flush=True)


def _describe_rates(documents: int, text_bytes: int, elapsed_seconds: float) -> str:
    done = f"{documents:,} documents, {_megabytes(text_bytes)}"
    if elapsed_seconds < 0.1:
        return done
    return f"{done} ({documents / elapsed_seconds:,.0f} documents/s, {_megabytes(text_bytes / elapsed_seconds)}/s)"
