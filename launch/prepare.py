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
from framework.data.cut import PartNumber
from framework.data.manifest import SPLITS, ShardManifest
from framework.data.prepare import prepare
from framework.data.prepare_part import PartOutcome, prepare_part
from framework.data.prepare_progress import Phase, PrepareProgress

_SECONDS_BETWEEN_LINES = 5.0
_SAID: dict[Phase, str] = {
    "waiting": "waiting for another part to learn the tokenizer",
    "tokenizer": "learning the tokenizer",
    "shards": "writing shards",
    "part": "tokenizing",
    "merge": "merging all parts",
}


def run_prepare(config: Config, *, as_json: bool, config_name: str = "CONFIG", part: str | None = None) -> None:
    """Prepares the shards of ``config``, or a part of them, and says what was written.

    Args:
        config: of the run.
        as_json: print one object on standard output in place of the table.
        config_name: the config's file as the user typed it, for the next command.
        part: "K/N" for one part of N.

    Raises:
        UserError, StorageError: as ``framework.data.prepare.prepare``, or ``framework.data.prepare_part.prepare_part``.
        WaitError: as ``prepare_part``.
    """
    started = time.monotonic()
    outcome = None
    if part is None:
        with _shown_progress() as progress:
            manifest: ShardManifest | None = prepare(config, progress=progress)
    else:
        number = PartNumber.parse(part)
        with _shown_progress(f"part {number}: ") as progress:
            outcome = prepare_part(config, number, progress=progress)
        manifest = outcome.manifest
    seconds = time.monotonic() - started
    summary = {} if outcome is None else _summarise_part(outcome, config, seconds)
    if manifest is not None:
        summary |= _summarise(manifest, config, seconds)
    if as_json:
        print(json.dumps(summary))
        return
    if outcome is not None:
        _print_part(summary, config_name)
    if manifest is not None:
        _print_summary(summary, config_name)


def _summarise_part(outcome: PartOutcome, config: Config, seconds: float) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "shards_dir": str(config.data.shards_dir),
        "part": outcome.part.number,
        "parts": outcome.part.of,
        "missing_parts": list(outcome.missing),
        "is_merged": outcome.manifest is not None,
    }
    if outcome.done is not None:
        done = outcome.done
        summary |= {
            "part_documents": done.documents,
            "part_tokens": done.tokens,
            "part_text_bytes": done.text_bytes,
        }
    return {**summary, "seconds": round(seconds, 3)}


def _print_part(summary: dict[str, Any], config_name: str) -> None:
    name = f"part {summary['part']}/{summary['parts']}"
    if "part_documents" in summary:
        documents, tokens = summary["part_documents"], summary["part_tokens"]
        size = _megabytes(summary["part_text_bytes"])
        print(f"{name}: {documents:,} documents, {tokens:,} tokens, {size} (finished after {summary['seconds']:.1f} s)")
    if summary["is_merged"]:
        print(f"{name}: all {summary['parts']} parts are merged")
    elif summary["missing_parts"]:
        missing = summary["missing_parts"]
        named = f"{missing[0]}/{summary['parts']}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        print(f"not finished yet: part {named}; the last one merges, or: zerostream prepare {config_name}")
    else:
        print("all parts are finished; another process is merging them")


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
def _shown_progress(prefix: str = "") -> Iterator[PrepareProgress]:
    """``prefix`` stands before each line, where several processes may write into one log."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _PlainLines(prefix)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        _Rates(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar, prefix)


class _Bar:
    """One bar for each phase."""

    def __init__(self, bar: Progress, prefix: str) -> None:
        self._bar = bar
        self._prefix = prefix
        self._tasks: dict[Phase, TaskID] = {}

    def __call__(self, *, phase: Phase, documents: int, text_bytes: int, total_bytes: int | None) -> None:
        if phase not in self._tasks:
            self._tasks[phase] = self._bar.add_task(self._prefix + _SAID[phase], total=total_bytes, documents=0)
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

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._phase: Phase | None = None
        self._phase_started = self._last_line = 0.0

    def __call__(self, *, phase: Phase, documents: int, text_bytes: int, total_bytes: int | None) -> None:
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._phase_started, self._last_line = phase, now, now
            print(f"{self._prefix}{_SAID[phase]} ...", file=sys.stderr, flush=True)
        if now - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        elapsed = now - self._phase_started
        done = _describe_rates(documents, text_bytes, elapsed) if phase != "waiting" else f"{elapsed:,.0f} s"
        line = f"{self._prefix}{_SAID[phase]}: {done}"
        if total_bytes and text_bytes:
            line += f", about {elapsed * (total_bytes / text_bytes - 1.0):,.0f} s left"
        print(line, file=sys.stderr, flush=True)


def _describe_rates(documents: int, text_bytes: int, elapsed_seconds: float) -> str:
    done = f"{documents:,} documents, {_megabytes(text_bytes)}"
    if elapsed_seconds < 0.1:
        return done
    return f"{done} ({documents / elapsed_seconds:,.0f} documents/s, {_megabytes(text_bytes / elapsed_seconds)}/s)"
