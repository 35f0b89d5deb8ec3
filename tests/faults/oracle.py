"""The judge: what a run has recorded and saved, against an undisturbed golden run of the same config."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from framework.checkpoint.manifest import load_manifest, verify
from framework.errors import CheckpointError
from framework.metrics.records import read_json_lines
from framework.run_dir import RunDir
from tests.faults.scenario import Verdict

EXACT = ("step", "batch_digest", "loss", "grad_norm", "lr", "tokens")
CLOSE_RELATIVE = 1e-5


def judge_finished(run_dir: Path, golden: Path, verdict: Verdict, *, same: str) -> None:
    """Compares a finished run with the golden one; differences become problems of ``verdict``."""
    mine, expected = _metrics(run_dir), _metrics(golden)
    _judge_order(mine, expected, verdict)
    if len(mine) == len(expected):
        verdict.loss_difference = max(
            (_relative(a["loss"], b["loss"]) for a, b in zip(mine, expected, strict=True)), default=0.0
        )
    equal_records = _exact(mine) == _exact(expected)
    equal_files = _final_files(run_dir) == _final_files(golden)
    verdict.is_bit_exact = equal_records and equal_files
    if same == "bits":
        if not equal_records:
            verdict.problems.append(f"metrics differ from the golden run's: {_first_difference(mine, expected)}")
        if not equal_files:
            verdict.problems.append("the last checkpoint's weights or optimizer state differ from the golden run's")
    elif verdict.loss_difference > CLOSE_RELATIVE:
        verdict.problems.append(f"losses differ from the golden run's by {verdict.loss_difference:.2e} relative")
    if skipped(run_dir) != skipped(golden):
        verdict.problems.append("events.jsonl or result.json count other skipped sequences than the golden run's")
    verdict.problems += [f"{name} is missing" for name in ("result.json",) if not (run_dir / name).is_file()]
    verdict.problems += [f"{path.relative_to(run_dir)} was left over" for path in run_dir.rglob("*.tmp")]
    verdict.problems += [f"{path.relative_to(run_dir)} was left over" for path in run_dir.glob("heartbeats/*.json")]
    verdict.problems += [f"{path.relative_to(run_dir)} is still locked" for path in _held_locks(run_dir)]


def judge_unfinished(run_dir: Path, golden: Path, *, same: str, damaged: bool) -> list[str]:
    """What is wrong with a run between two starts: records that the golden run does not have, a checkpoint in part."""
    problems = []
    mine, expected = _metrics(run_dir), _metrics(golden)
    if [line["step"] for line in mine] != list(range(1, len(mine) + 1)):
        problems.append(f"metrics.jsonl has the steps {[line['step'] for line in mine]}")
    elif same == "bits" and _exact(mine) != _exact(expected[: len(mine)]):
        problems.append(f"metrics differ from the golden run's: {_first_difference(mine, expected)}")
    if not damaged:
        problems += _checkpoints_in_part(run_dir)
    return problems


def other_digests(run_dir: Path, golden: Path) -> list[str]:
    """Where one run consumed other sequences than the other, and where the other learned nothing."""
    problems = []
    for mine, expected in zip(_metrics(run_dir), _metrics(golden), strict=True):
        if mine["batch_digest"] != expected["batch_digest"]:
            problems.append(f"step {mine['step']} consumed other sequences than an undisturbed run")
    if _final_files(run_dir) == _final_files(golden):
        problems.append("leaving a step out has changed nothing: the fault did not reach the weights' way")
    return problems


def newest_whole_step(run_dir: Path) -> int:
    """Step of the newest checkpoint that verifies; 0 without one."""
    paths = RunDir(run_dir)
    for step in reversed(paths.checkpoint_steps()):
        try:
            return verify(paths.checkpoint(step)).step
        except CheckpointError:
            continue
    return 0


def events(run_dir: Path) -> list[dict[str, Any]]:
    """All lines of events.jsonl."""
    return read_json_lines(RunDir(run_dir).events)


def skipped(run_dir: Path) -> tuple[list[dict[str, Any]], int]:
    """What bad shards have cost each step, and the whole run."""
    path = RunDir(run_dir).result
    result = json.loads(path.read_text()) if path.is_file() else {}
    steps = [event for event in events(run_dir) if event["event"] == "sequences_skipped"]
    return steps, result.get("skipped_sequences", 0)


def _metrics(run_dir: Path) -> list[dict[str, Any]]:
    return read_json_lines(RunDir(run_dir).metrics)


def _exact(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: line.get(key) for key in EXACT} for line in lines]


def _judge_order(mine: list[dict[str, Any]], expected: list[dict[str, Any]], verdict: Verdict) -> None:
    steps = Counter(line["step"] for line in mine)
    digests = {line["step"]: line["batch_digest"] for line in mine}
    wanted = {line["step"]: line["batch_digest"] for line in expected}
    verdict.steps = len(wanted)
    verdict.lost = sum(step not in steps for step in wanted)
    verdict.repeated = sum(count - 1 for count in steps.values()) + sum(step not in wanted for step in steps)
    verdict.reordered = sum(digests[step] != digest for step, digest in wanted.items() if step in digests)
    if [line["step"] for line in mine] != sorted(wanted):
        verdict.problems.append(f"metrics.jsonl has the steps {[line['step'] for line in mine]}")
    if verdict.reordered:
        verdict.problems.append(f"{verdict.reordered} steps consumed other sequences than the golden run")


def _first_difference(mine: list[dict[str, Any]], expected: list[dict[str, Any]]) -> str:
    for left, right in zip(_exact(mine), _exact(expected), strict=False):
        if left != right:
            keys = [key for key in EXACT if left[key] != right[key]]
            return f"step {left['step']}: " + ", ".join(f"{key} {left[key]} not {right[key]}" for key in keys)
    return f"{len(mine)} steps, not {len(expected)}"


def _final_files(run_dir: Path) -> dict[str, str]:
    """Hash of each file of the newest checkpoint."""
    paths = RunDir(run_dir)
    steps = paths.checkpoint_steps()
    if not steps:
        return {}
    return {name: entry.xxh3_128 for name, entry in load_manifest(paths.checkpoint(steps[-1])).files.items()}


def _checkpoints_in_part(run_dir: Path) -> list[str]:
    """Folders that look like a checkpoint newer than all whole ones, and are none.

    An older one without its manifest is a removal that was cut short.
    """
    paths, newest = RunDir(run_dir), newest_whole_step(run_dir)
    problems = []
    for step in paths.checkpoint_steps():
        folder = paths.checkpoint(step)
        if step > newest or (folder / "manifest.json").exists():
            try:
                verify(folder)
            except CheckpointError as error:
                problems.append(f"a checkpoint exists in part: {error.cause}")
    return problems


def _held_locks(run_dir: Path) -> list[Path]:
    held = []
    for path in run_dir.rglob("*.lock"):
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held.append(path)
        finally:
            os.close(descriptor)
    return held


def _relative(mine: float | None, expected: float | None) -> float:
    if mine is None or expected is None:
        return 0.0 if mine is expected else float("inf")
    return abs(mine - expected) / abs(expected)


def describe(verdict: Verdict) -> str:
    """One JSON line."""
    return json.dumps({"passed": verdict.passed, **verdict.__dict__})


def read_verdict(line: str) -> Verdict:
    """What ``describe`` made a line of."""
    values = json.loads(line)
    del values["passed"]
    return Verdict(**values)
