"""Runs scenarios: prepares the shards once, makes the golden runs, and takes each scenario through its starts."""

from __future__ import annotations

import json
import random
import re
import shutil
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from framework.config import build_config
from framework.data.prepare import prepare
from framework.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED
from framework.run_dir import RunDir
from tests.faults.damage import SHARD_DAMAGES
from tests.faults.oracle import events, judge_finished, judge_unfinished, other_digests, skipped
from tests.faults.scenario import UNDISTURBED, Scenario, Start, Verdict
from tests.faults.trace import cut_power
from tests.starts import DEADLINE_SECONDS, Ended, Running, Zygote, start_launcher

MAX_STEPS = 12
SAVE_EVERY = 3
CONFIG = f"""\
model: {{layers: 2, width: 32, heads: 2, context_length: 32, dropout: 0.1}}
tokenizer: {{kind: train_bpe, vocab_size: 512}}
data: {{source: embedded, documents: 60, shards_dir: SHARDS, shard_tokens: 2000, validation_fraction: 0.05, lanes: 16}}
optimizer: {{lr: 1.0e-3}}
schedule: {{warmup_steps: 5}}
engine: {{micro_batch_size: 2, global_batch_size: 8}}
train:
  max_steps: {MAX_STEPS}
  eval_every_steps: 4
  eval_max_sequences: 8
  sample_prompts: ["Once"]
  sample_max_tokens: 2
  start_timeout_seconds: 90
  step_timeout_seconds: 60
checkpoint: {{every_steps: {SAVE_EVERY}, keep: 3}}
logging: {{tensorboard: false}}
"""
_REMEDY = "To fix it"


class Workshop:
    """Everything that scenarios share: the zygote, the shards, the golden runs. Threads may use it at the same time.

    Args:
        folder: where all runs are written.
        zygote: already up.
        seed: of all that is drawn at random.
    """

    def __init__(self, folder: Path, zygote: Zygote, seed: int) -> None:
        self.folder = folder
        self.zygote = zygote
        self.seed = seed
        self._golden: dict[str, tuple[threading.Lock, Path]] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self.shards = folder / "shards"
        self.config = folder / "faults.yaml"
        self.config.write_text(CONFIG.replace("SHARDS", str(self.shards)))
        values = {
            "tokenizer": {"kind": "train_bpe", "vocab_size": 512},
            "data": {
                "source": "embedded",
                "documents": 60,
                "shards_dir": str(self.shards),
                "shard_tokens": 2000,
                "validation_fraction": 0.05,
            },
        }
        prepare(build_config(values, origin="tests/faults"))

    def damaged_shards(self, damage: str) -> Path:
        """A copy of the shards, damaged once for all starts that read it."""
        target = self.folder / f"shards-{damage}"
        with self._lock:
            if not target.exists():
                shutil.copytree(self.shards, target)
                SHARD_DAMAGES[damage](target, random.Random(f"{self.seed} {damage}"))
        return target

    def golden(self, overrides: tuple[str, ...], ranks: int, failpoints: str = "", shards: str = "") -> Path:
        """The run directory of an undisturbed run; made by whoever asks first."""
        key = " ".join([*overrides, str(ranks), failpoints, shards])
        with self._lock:
            lock, folder = self._golden.setdefault(
                key, (threading.Lock(), self.folder / "golden" / f"{len(self._golden):03d}")
            )
        with lock:
            if not (folder / "run" / "result.json").exists():
                self._run_golden(folder, overrides, ranks, failpoints, shards)
        return folder / "run"

    def _run_golden(self, folder: Path, overrides: tuple[str, ...], ranks: int, failpoints: str, shards: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        arguments = [str(self.config), f"run_dir={folder / 'run'}", *overrides, "checkpoint.keep=100"]
        if shards:
            arguments.append(f"data.shards_dir={self.damaged_shards(shards)}")
        ended = self.zygote.start(
            arguments, ranks, folder / "ranks", fault_environment(failpoints, folder / "fired")
        ).wait(DEADLINE_SECONDS)
        if ended.exit_code != EXIT_FINISHED:
            raise RuntimeError(f"the golden run {overrides} ended with {ended.exit_code}:\n{ended.text[-3000:]}")

    def judge(self, scenario: Scenario) -> Verdict:
        """Takes a scenario through all its starts. Never raises: what goes wrong is a problem of the verdict."""
        began = time.monotonic()
        verdict = Verdict(scenario.kind, scenario.name, scenario.injections)
        try:
            _Case(self, scenario, verdict).run()
        except Exception as error:
            verdict.problems.append(f"{type(error).__name__}: {error}")
        verdict.seconds = time.monotonic() - began
        return verdict


class _Case:
    """One scenario on its way; fulfils ``Scene``."""

    def __init__(self, workshop: Workshop, scenario: Scenario, verdict: Verdict) -> None:
        self._workshop = workshop
        self._scenario = scenario
        self._verdict = verdict
        self._folder = workshop.folder / "cases" / re.sub(r"[^a-zA-Z0-9]+", "-", f"{scenario.kind} {scenario.name}")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._count = 0
        self.run_dir = self._folder / "run"
        self.rng = random.Random(f"{workshop.seed} {scenario.kind} {scenario.name}")
        self.shards = workshop.damaged_shards(scenario.shards) if scenario.shards else workshop.shards
        if any(start.before for start in (*scenario.starts, scenario.finish)) and not scenario.damages_checkpoints:
            self.shards = self._folder / "shards"
            self.restore_shards()

    def restore_shards(self) -> None:
        shutil.rmtree(self.shards, ignore_errors=True)
        shutil.copytree(self._workshop.shards, self.shards)

    def golden(self, overrides: tuple[str, ...], ranks: int) -> Path:
        return self._workshop.golden(overrides, ranks)

    def start_beside(self) -> Ended:
        return self._start(replace(UNDISTURBED, ranks=self._scenario.golden_ranks), "beside").wait(DEADLINE_SECONDS)

    def run(self) -> None:
        """All starts of the scenario, and then as many undisturbed ones as it takes."""
        scenario, verdict = self._scenario, self._verdict
        golden = self._workshop.golden(
            scenario.overrides, scenario.golden_ranks, scenario.golden_failpoints, scenario.shards
        )
        for start in scenario.starts:
            self._take(start, golden)
        finish = replace(scenario.finish, exits=(*scenario.finish.exits, EXIT_PREEMPTED))
        for _ in range(2):
            if self._take(finish, golden).exit_code != EXIT_PREEMPTED:
                break
        judge_finished(self.run_dir, golden, verdict, same=scenario.same)
        if scenario.shards and not skipped(golden)[1]:
            verdict.problems.append(
                "no sequence of the damaged shard was counted: the damage did not reach the run's way"
            )
        if scenario.golden_failpoints:  # it left steps out; what it read must be what an undisturbed run reads
            plain = self._workshop.golden(scenario.overrides, scenario.golden_ranks)
            verdict.problems += other_digests(golden, plain)

    def _take(self, start: Start, golden: Path) -> Ended:
        """One start, from what is done before it to what is true after it."""
        verdict = self._verdict
        if start.repair:
            start.repair(self)
        if start.before:
            start.before(self)
        name = f"start-{self._count}"
        self._count += 1
        running = self._start(start, name)
        outside_problem = ""
        if start.outside:
            try:
                start.outside(self, running)
            except AssertionError as error:
                outside_problem = f"{name}: {error}"
        ended = running.wait(DEADLINE_SECONDS)
        verdict.exits.append(ended.exit_code)
        verdict.last_words.append(ended.last_words)
        problems = [outside_problem] if outside_problem else []
        problems += [f"{name}: {problem}" for problem in _what_is_wrong(start, ended, running, self.run_dir)]
        if start.records and start.records not in json.dumps(events(self.run_dir)):
            problems.append(f"{name}: no line of events.jsonl says {start.records!r}")
        if start.power_cut:
            cut_power(self._folder / name / "durability.jsonl", RunDir(self.run_dir).checkpoints)
        same = "close" if start.learns_otherwise else self._scenario.same
        wrong = judge_unfinished(self.run_dir, golden, same=same, damaged=self._scenario.damages_checkpoints)
        problems += [f"{name}: {problem}" for problem in wrong]
        verdict.problems += problems
        self._note_time(start, ended, running)
        return ended

    def _start(self, start: Start, name: str) -> Running:
        folder = self._folder / name
        arguments = [
            str(self._workshop.config),
            f"run_dir={self.run_dir}",
            f"data.shards_dir={self.shards}",
            *self._scenario.overrides,
            *start.overrides,
        ]
        environment = fault_environment(start.failpoints, self._folder / f"{name}.fired")
        if start.through_launcher:
            return start_launcher(arguments, start.ranks, folder, environment)
        trace = folder / "durability.jsonl" if start.power_cut else None
        return self._workshop.zygote.start(arguments, start.ranks, folder, environment, trace)

    def _note_time(self, start: Start, ended: Ended, running: Running) -> None:
        fired = running.fired()
        if fired and ended.exit_code != EXIT_FINISHED:
            noticed = ended.time - max(line["time"] for line in fired) - (start.deadline_seconds or 0.0)
            self._verdict.noticed_seconds.append(noticed)


def _what_is_wrong(start: Start, ended: Ended, running: Running, run_dir: Path) -> Iterable[str]:
    """Everything about the end of a start that is not as expected."""
    tail = "\n".join(ended.text.splitlines()[-6:])
    if ended.too_long:
        yield f"was still running after {DEADLINE_SECONDS:.0f} s: {tail}"
        return
    if ended.exit_code not in start.exits:
        yield f"exit code {ended.exit_code}, not {' or '.join(map(str, start.exits))}: {tail}"
    fired = {line["fault"] for line in running.fired()}
    for fault in filter(None, map(str.strip, start.failpoints.split(","))):
        if fault not in fired:
            yield f"{fault} never happened"
    if start.says and not re.search(start.says, ended.text + "\n" + ended.last_words):
        yield f"nobody said {start.says!r}: {tail}"
    if start.deadline_seconds and ended.exit_code == EXIT_FAILED:
        written = [path.read_text() for path in (run_dir / "stacks").glob("*.txt")]
        if not any("Timeout (" in text for text in (*written, ended.text)):
            yield "no rank wrote down where it stood"
    elif ended.exit_code > 0 and (not ended.codes or min(ended.codes) >= 0) and _REMEDY not in ended.last_words:
        yield f"the last words do not say what to do: {ended.last_words!r}"
    if ended.left_over:
        yield f"{len(ended.left_over)} processes were left over"


def fault_environment(failpoints: str, log: Path) -> dict[str, str]:
    """What arms the failpoints of a start, and where they say that they fired."""
    return {"ZEROSTREAM_FAILPOINTS": failpoints, "ZEROSTREAM_FAILPOINTS_LOG": str(log)}
