"""``zerostream verify PATH``: compares shards, a checkpoint or a whole run with what their manifests say, and changes nothing.

    what PATH is          what is looked at
    shards                every shard's size and hash, and that it decodes to its tokens and documents; the tokenizer
    a checkpoint          every file's size and hash
    a run directory       its config and records, every checkpoint, and that they belong to that config

Only decoding shards needs torch: a checkpoint or a run is verified on a login node as well.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from framework.durable import size_of
from framework.errors import CheckpointError, ShardError, TokenizerError, UserError
from framework.metrics.records import parse_object
from framework.run_dir import RunDir, checkpoint_step

if TYPE_CHECKING:
    from framework.checkpoint.manifest import FileEntry
    from framework.data.manifest import ShardEntry, ShardManifest

State = Literal["ok", "leftover", "missing", "wrong size", "wrong hash", "wrong content", "unreadable", "extra"]
Kind = Literal["shards", "checkpoint", "checkpoints", "run"]

_SECONDS_BETWEEN_LINES = 5.0
_THREADS = 4
_SHARD_FIX = "copy it again from where it was prepared, or remove the folder and run `zerostream prepare` again"
_CACHE_FIX = "; in a cache of remote shards nothing has to be done, as what is missing is fetched when it is needed"
_EXTRA_FIX = "remove it, or move it elsewhere: nothing reads it"


@dataclass(frozen=True)
class Finding:
    """What was found at one path, relative to the verified folder; ``fix`` says what to do about it."""

    path: str
    state: State
    detail: str = ""
    fix: str = ""

    @property
    def is_damage(self) -> bool:
        return self.state not in ("ok", "leftover")


@dataclass(frozen=True)
class Check:
    """One look at one file of so many bytes."""

    size_bytes: int
    look: Callable[[], Finding]


def run_verify(path: Path, *, as_json: bool) -> None:
    """Looks at everything below ``path`` and prints each finding, or one JSON object.

    Raises:
        UserError: the path is nothing that can be verified; or the first damage, when there is any.
    """
    kind = _kind_of(path)
    checks = list(_PLANS[kind](path))
    findings = list(_look(checks))
    damaged = [finding for finding in findings if finding.is_damage]
    counts = dict(Counter(finding.state for finding in findings).most_common())
    if as_json:
        files = [{key: value for key, value in asdict(finding).items() if value} for finding in findings]
        print(json.dumps({"path": str(path), "kind": kind, "ok": not damaged, "counts": counts, "files": files}))
    else:
        for finding in findings:
            print(f"{finding.state:<13}  {finding.path}" + (f"  ({finding.detail})" if finding.detail else ""))
        megabytes = sum(check.size_bytes for check in checks) / 1e6
        print(f"{kind} {path}: {', '.join(f'{count} {state}' for state, count in counts.items())}; {megabytes:,.1f} MB")
    if damaged:
        first = damaged[0]
        others = f", and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        detail = f" ({first.detail})" if first.detail else ""
        raise UserError(f"{path / first.path}: {first.state}{detail}{others}", fix=first.fix)


def _kind_of(path: Path) -> Kind:
    """What the folder is, also when what should say so is damaged."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UserError(f"{path} {what}", fix="name a folder of shards, a checkpoint's folder, or a run directory")
    if RunDir(path).config.exists() or RunDir(path).checkpoints.is_dir():
        return "run"
    if checkpoint_step(path.name) is not None:
        return "checkpoint"
    manifest = _read_object(path / "manifest.json")
    if "shards" in manifest or any(path.glob("*.tar")):
        return "shards"
    if "files" in manifest or any(path.glob("*.safetensors")):
        return "checkpoint"
    if any(checkpoint_step(entry.name) is not None for entry in path.iterdir()):
        return "checkpoints"
    raise UserError(
        f"{path} holds no shards, no checkpoint and no run",
        fix="name a folder of shards, a checkpoint's folder, or a run directory",
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return parse_object(path.read_bytes()) or {}
    except OSError:
        return {}


# --- Shards ---


def _plan_shards(folder: Path) -> Iterator[Check]:
    from framework.data.journal import JOURNAL_NAME
    from framework.data.manifest import MANIFEST_NAME, TOKENIZER_FOLDER, load_manifest

    try:
        manifest = load_manifest(folder)
    except ShardError as error:
        state: State = "unreadable" if (folder / MANIFEST_NAME).exists() else "missing"
        yield _known(Finding(MANIFEST_NAME, state, error.cause, _SHARD_FIX))
        return
    import framework.data.stream  # noqa: F401 - webdataset, which fails when two threads import it at once

    yield _known(Finding(MANIFEST_NAME, "ok"))
    yield Check(0, partial(_look_at_tokenizer, folder, manifest))
    fix = _SHARD_FIX if (folder / JOURNAL_NAME).exists() else _SHARD_FIX + _CACHE_FIX
    for entry in manifest.shards:
        yield Check(entry.size_bytes, partial(_look_at_shard, folder, entry, fix))
    named = {MANIFEST_NAME, JOURNAL_NAME, TOKENIZER_FOLDER, *(entry.name for entry in manifest.shards)}
    yield from _extras(folder, named, _EXTRA_FIX)


def _look_at_shard(folder: Path, entry: ShardEntry, fix: str) -> Finding:
    from framework.data.shards import hash_shard, read_shard

    path = folder / entry.name
    finding = _look_at_size(path, entry.name, entry.size_bytes, fix)
    if finding.is_damage:
        return finding
    try:
        read_shard(path, entry)
    except ShardError as error:
        try:
            is_as_written = hash_shard(path) == entry.sha256
        except OSError:
            return Finding(entry.name, "unreadable", error.cause, fix)
        if is_as_written:
            return Finding(entry.name, "wrong content", error.cause, fix)
        return Finding(entry.name, "wrong hash", "", fix)
    return Finding(entry.name, "ok", f"{entry.tokens} tokens in {entry.documents} documents")


def _look_at_tokenizer(folder: Path, manifest: ShardManifest) -> Finding:
    from framework.data.manifest import TOKENIZER_FOLDER
    from framework.data.tokenizer import load_tokenizer

    try:
        found = load_tokenizer(folder / TOKENIZER_FOLDER).fingerprint
    except TokenizerError as error:
        state: State = "unreadable" if (folder / TOKENIZER_FOLDER).exists() else "missing"
        return Finding(TOKENIZER_FOLDER, state, error.cause, _SHARD_FIX)
    if found != manifest.tokenizer_fingerprint:
        return Finding(TOKENIZER_FOLDER, "wrong content", "it is not the tokenizer that wrote the shards", _SHARD_FIX)
    return Finding(TOKENIZER_FOLDER, "ok")


# --- Checkpoints ---


def _plan_checkpoint(folder: Path, *, root: Path | None = None, identity: str | None = None) -> Iterator[Check]:
    """Everything of one checkpoint; paths are relative to ``root``, and it has to be of the run ``identity``."""
    from framework.checkpoint.manifest import MANIFEST_NAME, load_manifest

    where = "" if root is None else f"{folder.relative_to(root)}/"
    fix = f"remove {folder}: training goes on from the newest checkpoint that verifies, or restore it from a backup"
    try:
        manifest = load_manifest(folder)
    except CheckpointError as error:
        state: State = "unreadable" if (folder / MANIFEST_NAME).exists() else "missing"
        yield _known(Finding(where + MANIFEST_NAME, state, error.cause, fix))
        return
    problem = ""
    if checkpoint_step(folder.name) not in (None, manifest.step):
        problem = f"it is of step {manifest.step}"
    elif identity is not None and manifest.identity_fingerprint != identity:
        problem = "it belongs to another run than config.yaml"
    yield _known(Finding(where + MANIFEST_NAME, "wrong content" if problem else "ok", problem, fix if problem else ""))
    for name, entry in manifest.files.items():
        yield Check(size_of(folder / name) or 0, partial(_look_at_file, folder / name, where + name, entry, fix))
    yield from _extras(folder, {MANIFEST_NAME, *manifest.files}, _EXTRA_FIX, where)


def _look_at_file(path: Path, name: str, entry: FileEntry, fix: str) -> Finding:
    from framework.checkpoint.manifest import hash_file

    finding = _look_at_size(path, name, entry.size_bytes, fix)
    if finding.is_damage:
        return finding
    try:
        found = hash_file(path)
    except OSError as error:
        return Finding(name, "unreadable", error.strerror or "", fix)
    return Finding(name, "ok") if found == entry.xxh3_128 else Finding(name, "wrong hash", "", fix)


def _plan_checkpoints(folder: Path, *, root: Path | None = None, identity: str | None = None) -> Iterator[Check]:
    root = root or folder
    for entry in sorted(folder.iterdir()):
        if checkpoint_step(entry.name) is not None:
            yield from _plan_checkpoint(entry, root=root, identity=identity)
        else:
            yield _stray(entry, str(entry.relative_to(root)), _EXTRA_FIX)


# --- A run ---


def _plan_run(path: Path) -> Iterator[Check]:
    from framework.config import identity_fingerprint
    from framework.errors import RunDirError
    from framework.train.preflight import read_run_config

    run_dir, identity = RunDir(path), None
    try:
        identity = identity_fingerprint(read_run_config(path))
        yield _known(Finding(run_dir.config.name, "ok"))
    except RunDirError as error:
        state: State = "unreadable" if run_dir.config.exists() else "missing"
        fix = "start the run again with its config: the file is written anew, and its checkpoints are compared with it"
        yield _known(Finding(run_dir.config.name, state, error.cause, fix))
    steps = run_dir.checkpoint_steps()
    yield Check(size_of(run_dir.metrics) or 0, partial(_look_at_metrics, run_dir.metrics, max(steps, default=0)))
    for records in (run_dir.evaluations, run_dir.events, run_dir.abandoned_events):
        if records.exists():
            yield Check(size_of(records) or 0, partial(_look_at_lines, records))
    for values in (run_dir.environment, run_dir.result):
        if values.exists():
            yield Check(size_of(values) or 0, partial(_look_at_object, values))
    yield Check(0, partial(_look_at_run_tokenizer, run_dir))
    if run_dir.checkpoints.is_dir():
        yield from _plan_checkpoints(run_dir.checkpoints, root=path, identity=identity)


def _look_at_metrics(path: Path, newest_checkpoint: int) -> Finding:
    """Steps 1, 2, 3, ... to the newest checkpoint at least."""
    fix = "nothing has to be done to go on: training does not read it, only the curve has a hole"
    last = 0
    try:
        for number, values in _read_lines(path):
            if values is None:
                return Finding(path.name, "wrong content", f"line {number} is no JSON object", fix)
            if values.get("step") != last + 1:
                found = f"line {number} has step {values.get('step')}, not {last + 1}"
                return Finding(path.name, "wrong content", found, fix)
            last += 1
    except FileNotFoundError:
        return Finding(path.name, "missing", "", fix) if newest_checkpoint else Finding(path.name, "ok", "no step yet")
    except OSError as error:
        return Finding(path.name, "unreadable", error.strerror or "", fix)
    if last < newest_checkpoint:
        found = f"it ends at step {last}, before the checkpoint of step {newest_checkpoint}"
        return Finding(path.name, "wrong content", found, fix)
    return Finding(path.name, "ok", f"{last} steps")


def _look_at_lines(path: Path) -> Finding:
    fix = "nothing has to be done to go on: training does not read it"
    try:
        for number, values in _read_lines(path):
            if values is None or not isinstance(values.get("step"), int):
                return Finding(path.name, "wrong content", f"line {number} is no JSON object with a step", fix)
    except OSError as error:
        return Finding(path.name, "unreadable", error.strerror or "", fix)
    return Finding(path.name, "ok")


def _read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Line numbers and objects; a last line that a kill cut short is no damage, as the next start drops it."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield number, parse_object(line)


def _look_at_object(path: Path) -> Finding:
    fix = "start the run again: it is written anew"
    try:
        values = parse_object(path.read_bytes())
    except OSError as error:
        return Finding(path.name, "unreadable", error.strerror or "", fix)
    if values is None:
        return Finding(path.name, "wrong content", "no JSON object", fix)
    return Finding(path.name, "ok")


def _look_at_run_tokenizer(run_dir: RunDir) -> Finding:
    from framework.data.tokenizer import load_tokenizer

    name = run_dir.tokenizer.name
    try:
        load_tokenizer(run_dir.tokenizer)
    except TokenizerError as error:
        state: State = "unreadable" if run_dir.tokenizer.exists() else "missing"
        return Finding(name, state, error.cause, "start the run again: it is copied from the shards anew")
    return Finding(name, "ok")


# --- What all of them need ---


def _known(finding: Finding) -> Check:
    """For what was found while planning."""
    return Check(0, lambda: finding)


def _look_at_size(path: Path, name: str, expected: int, fix: str) -> Finding:
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return Finding(name, "missing", "", fix)
    except OSError as error:
        return Finding(name, "unreadable", error.strerror or "", fix)
    if not path.is_file():
        return Finding(name, "unreadable", "it is no file", fix)
    if size != expected:
        return Finding(name, "wrong size", f"{size} bytes, not {expected}", fix)
    return Finding(name, "ok")


def _extras(folder: Path, named: Iterable[str], fix: str, where: str = "") -> Iterator[Check]:
    known = set(named)
    for entry in sorted(folder.iterdir()):
        if entry.name not in known:
            yield _stray(entry, where + entry.name, fix)


def _stray(entry: Path, name: str, fix: str) -> Check:
    if entry.name.endswith((".tmp", ".lock")) or entry.name.startswith("."):
        return _known(Finding(name, "leftover", "unfinished, a lock, or hidden: nothing reads it"))
    return _known(Finding(name, "extra", "not in the manifest", fix))


def _look(checks: list[Check]) -> Iterator[Finding]:
    """All findings in order, several files at a time: hashing and reading let go of Python's lock."""
    total = sum(check.size_bytes for check in checks)
    threads = min(_THREADS, os.cpu_count() or 1)
    with _shown_progress(total) as advance, ThreadPoolExecutor(threads, "verify") as pool:
        for check, finding in zip(checks, pool.map(lambda check: check.look(), checks), strict=True):
            advance(check.size_bytes)
            yield finding


@contextmanager
def _shown_progress(total: int) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _PlainLines(total)
        return
    columns = (
        TextColumn("verifying"), BarColumn(bar_width=20), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda size_bytes: bar.advance(task, size_bytes)


class _PlainLines:
    """A line every few seconds, for logs."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._last_line = time.monotonic()

    def __call__(self, size_bytes: int) -> None:
        self._done += size_bytes
        if time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            print(f"verifying: {self._done / 1e6:,.0f} of {self._total / 1e6:,.0f} MB", file=sys.stderr, flush=True)


_PLANS: dict[Kind, Callable[[Path], Iterator[Check]]] = {
    "shards": _plan_shards,
    "checkpoint": _plan_checkpoint,
    "checkpoints": _plan_checkpoints,
    "run": _plan_run,
}
