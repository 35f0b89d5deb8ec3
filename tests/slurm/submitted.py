"""Submits small runs through ``zerostream submit`` and follows them, with a deadline for everything."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

import psutil
import yaml

from framework.config import build_config
from framework.data.prepare import prepare
from framework.metrics.records import read_json_lines
from framework.run_dir import RunDir
from launch.slurm.job import JobDir
from tests.conftest import ROOT
from tests.faults.oracle import judge_finished
from tests.faults.scenario import Verdict
from tests.slurm.local_cluster import LocalCluster, wait_for

MAX_STEPS, SAVE_EVERY = 24, 4
_DATA = {"source": "embedded", "documents": 60, "shard_tokens": 2000, "validation_fraction": 0.05, "lanes": 16}
_CONFIG = {
    "model": {"layers": 2, "width": 32, "heads": 2, "context_length": 32},
    "tokenizer": {"kind": "train_bpe", "vocab_size": 512},
    "optimizer": {"lr": 1.0e-3},
    "schedule": {"warmup_steps": 5},
    "engine": {"kind": "reference", "micro_batch_size": 2, "global_batch_size": 8},
    "train": {
        "max_steps": MAX_STEPS,
        "eval_every_steps": 8,
        "eval_max_sequences": 8,
        "sample_prompts": ["Once"],
        "sample_max_tokens": 2,
        "start_timeout_seconds": 120,
        "step_timeout_seconds": 90,
    },
    "checkpoint": {"every_steps": SAVE_EVERY, "keep": 3},
    "logging": {"tensorboard": True, "every_steps": 1},
}
_GONE = ("", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
_SECONDS_TO_FOLLOW = 3.0  # from the end of a job until one that takes over is in the queue, at most
FINISH_SECONDS = 300.0  # of the slowest run on a busy machine


def slow(first: int, last: int, seconds: float) -> dict[str, str]:
    """Environment in which rank 0 takes its time for these steps, without computing: a disturbance finds the run on its way."""
    entries = (f"forward@{step}#0=sleep:{seconds}" for step in range(first, last + 1))
    return {"ZEROSTREAM_FAILPOINTS": ",".join(entries)}


ON_ITS_WAY = slow(5, 16, 1.0)


class Bench:
    """What all tests on one cluster share: shards, a config, golden runs.

    Args:
        cluster: that is up.
        folder: where runs are written.
        shared: where shards and golden runs are; other processes may use it at the same time.
    """

    def __init__(self, cluster: LocalCluster, folder: Path, shared: Path) -> None:
        self.cluster, self.folder, self.shared = cluster, folder, shared
        self.shards = shared / "shards"
        data = _DATA | {"shards_dir": str(self.shards)}
        with self._once("shards") as is_first:
            if is_first:
                prepare(build_config({"tokenizer": _CONFIG["tokenizer"], "data": data}, origin="tests/slurm"))
        self.config = folder / "small.yaml"
        self.config.write_text(yaml.safe_dump(_CONFIG | {"data": data}))

    def profile(self, name: str, **changes: Any) -> Path:
        """The local cluster's profile with some keys changed."""
        values = yaml.safe_load((ROOT / "slurm" / "profiles" / "local.yaml").read_text()) | changes
        values["environment"] = {"OMP_NUM_THREADS": "1"} | changes.get("environment", {})
        path = self.folder / f"{name}.profile.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    def all_but(self, *nodes: str) -> list[str]:
        """For ``exclude``: a run that may use these nodes only."""
        return [node for node in self.cluster.nodes if node not in nodes]

    def submit(
        self, name: str, *overrides: str, nodes: int = 2, profile: Path | None = None, **changes: Any
    ) -> Submitted:
        """Submits ``name``'s run; ``changes`` are those of its profile, if none is given."""
        run_dir = self.folder / "runs" / name
        profile = profile or self.profile(name, **({"environment": ON_ITS_WAY} | changes))
        words = ["--cluster", str(profile), "--nodes", str(nodes), f"run_dir={run_dir}", *overrides]
        said = self.zerostream("submit", str(self.config), *words, "--json")
        return Submitted(self, run_dir, json.loads(said.stdout)["job_id"])

    def zerostream(self, *arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """A user's command on the login node."""
        command = [sys.executable, "-m", "launch.cli", *map(str, arguments)]
        environment = self.cluster.environment | {"PYTHONPATH": str(ROOT)}
        result = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert result.returncode == expect, f"{result.returncode}: {result.stdout[-3000:]}{result.stderr[-3000:]}"
        return result

    def golden(self, *overrides: str) -> Path:
        """The same run undisturbed, by plain torchrun on two ranks of this machine."""
        name = "golden-" + hashlib.sha256(repr(overrides).encode()).hexdigest()[:8]
        with self._once(name) as is_first:
            if is_first:
                _torchrun(self.config, f"run_dir={self.shared / name}", *overrides)
        return self.shared / name

    @contextmanager
    def _once(self, name: str) -> Iterator[bool]:
        """Whether the caller is the first that gets so far; others wait until it is done."""
        self.shared.mkdir(exist_ok=True)
        with (self.shared / f"{name}.lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.seek(0)
            is_first = not lock.read()
            yield is_first
            lock.write("done\n")


def _parent_of(pid: int) -> int | None:
    try:
        return psutil.Process(pid).ppid()
    except psutil.NoSuchProcess:
        return None


@dataclass(frozen=True)
class Process:
    """One of a job's processes."""

    pid: int
    node: str
    command: str

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Submitted:
    """A run in the queue, at work or at its end."""

    bench: Bench
    path: Path
    job_id: str

    @property
    def job_dir(self) -> JobDir:
        return JobDir(self.path)

    def metrics(self) -> list[dict[str, Any]]:
        path = RunDir(self.path).metrics
        return read_json_lines(path) if path.exists() else []

    def step(self) -> int:
        """The last one that is recorded."""
        lines = self.metrics()
        return int(lines[-1]["step"]) if lines else 0

    def events(self, *kinds: str) -> list[Any]:
        return [event for event in self.job_dir.history.read() if not kinds or event.event in kinds]

    def starts(self) -> int:
        return len(self.events("started"))

    def current_id(self) -> str:
        """A follow-up job has another one than the first."""
        return self.job_dir.read().job_id or self.job_id

    def wait(self, what: str, holds: Callable[[], Any], seconds: float = FINISH_SECONDS) -> Any:
        """As ``wait_for``; what the run said is in the error."""
        try:
            return wait_for(f"{self.path.name}: {what}", holds, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.report()}") from None

    def wait_for_step(self, step: int) -> None:
        self.wait(f"step {step}", lambda: self.step() >= step)

    def wait_for_start(self, number: int) -> None:
        """The first start is number 1."""
        self.wait(f"start {number}", lambda: self.starts() >= number)

    def is_gone(self) -> bool:
        """Whether its newest job is no longer in the queue."""
        return self.bench.cluster.job_state(self.current_id()) in _GONE

    def wait_until_gone(self) -> None:
        """Until none of its jobs is left in the queue, and none follows; whatever has become of the run."""
        self.wait("gone from the queue", lambda: self.is_gone() and not sleep(_SECONDS_TO_FOLLOW) and self.is_gone())

    def wait_until_finished(self) -> None:
        """Until the run has its result.

        Raises:
            AssertionError: it has none, and there is no job left that could still bring it.
        """
        self.wait("result.json, or an end", lambda: RunDir(self.path).result.exists() or self.is_gone())
        self.wait_until_gone()
        assert RunDir(self.path).result.exists(), self.report()

    def processes(self, word: str) -> list[Process]:
        """Those of its current job whose command holds a word, node by node; not the children of such a one, which may be about
        to become something else. Without a word, all."""
        mark = f"SLURM_JOB_ID={self.current_id()}".encode()
        conf = f"SLURM_CONF={self.bench.cluster.environment['SLURM_CONF']}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if mark in environment and conf in environment and word in command:
                values = dict(item.split(b"=", 1) for item in environment if b"=" in item)
                found.append(Process(int(entry.name), values.get(b"SLURMD_NODENAME", b"").decode(), command))
        pids = {process.pid for process in found}
        return sorted(
            (process for process in found if not word or _parent_of(process.pid) not in pids),
            key=lambda process: (process.node, process.pid),
        )

    def problems(self, golden: Path, *, same: str = "bits") -> list[str]:
        """What differs from the golden run, as the judge of the fault matrix sees it; and breaks in TensorBoard's curve."""
        verdict = Verdict("slurm", self.path.name, 1)
        judge_finished(self.path, golden, verdict, same=same)
        expected = [line["step"] for line in read_json_lines(RunDir(golden).metrics)]
        shown = tensorboard_steps(self.path)
        if shown != expected:
            verdict.problems.append(f"TensorBoard's curve has the steps {shown}")
        return verdict.problems

    def report(self) -> str:
        """History, queue and the ends of all logs."""
        parts = [event.model_dump_json(exclude_defaults=True) for event in self.events()]
        parts.append(self.bench.cluster.run("squeue", "--states=all", "--format=%i %T %r %N", expect=None))
        for start in self.job_dir.starts():
            for path in sorted(start.glob("*")):
                lines = path.read_text(errors="replace").splitlines()[-15:]
                parts.append("\n".join((f"== {start.name}/{path.name}", *lines)))
        return "\n".join(parts)[-12_000:]


def tensorboard_steps(run_dir: Path) -> list[int]:
    """Steps of the one curve that TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(RunDir(run_dir).tensorboard), size_guidance={"scalars": 0})
    events.Reload()
    return [event.step for event in events.Scalars("train/loss")]


def _torchrun(config: Path, *overrides: str) -> None:
    command: Sequence[str] = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [*command, "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    command = [*command, "-m", "framework.train", str(config), *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]
