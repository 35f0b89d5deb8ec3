"""Names every file of a run. Nothing else in zerostream builds a path below the run directory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_CHECKPOINT_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class RunDir:
    """The paths of one run (ARCHITECTURE.md, "the life of a run")."""

    path: Path

    @property
    def config(self) -> Path:
        """Resolved configuration: its presence is what makes a folder a run directory."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, hardware and git revision of the newest start."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per step."""
        return self.path / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        """One JSON object per evaluation."""
        return self.path / "eval.jsonl"

    @property
    def events(self) -> Path:
        """One JSON object per unusual event: steps left out, loss spikes, skipped shards, saves that failed."""
        return self.path / "events.jsonl"

    @property
    def abandoned_events(self) -> Path:
        """Events of steps that a start took after its last checkpoint and the next one took again, where they may not recur."""
        return self.path / "abandoned_events.jsonl"

    @property
    def lock(self) -> Path:
        """Held by rank 0 of the live start."""
        return self.path / "run.lock"

    def heartbeat(self, rank: int) -> Path:
        """Where a rank says how far it is, every few seconds, for watchers outside."""
        return self.path / "heartbeats" / f"rank-{rank:05d}.json"

    def stacks(self, rank: int) -> Path:
        """Where a rank that has missed its deadline leaves the stacks of its threads."""
        return self.path / "stacks" / f"rank-{rank:05d}.txt"

    @property
    def profile(self) -> Path:
        """Where the time of the traced steps went (`train.profile`)."""
        return self.path / "profile.txt"

    @property
    def step_split(self) -> Path:
        """The same for programs: seconds of each phase in a mean traced step."""
        return self.path / "profile.json"

    @property
    def memory_snapshot(self) -> Path:
        """What was allocated when a GPU of a profiled run had no memory left; https://docs.pytorch.org/memory_viz shows it."""
        return self.path / "memory_snapshot.pickle"

    @property
    def slurm(self) -> Path:
        """What a run on a SLURM cluster leaves beside its results: job, code, history, logs (``launch.slurm.job.JobDir``)."""
        return self.path / "slurm"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def samples(self) -> Path:
        """Generated text, one file per evaluation."""
        return self.path / "samples"

    @property
    def tokenizer(self) -> Path:
        """A copy of the shards' tokenizer, so that the run can be read without its shards."""
        return self.path / "tokenizer"

    @property
    def result(self) -> Path:
        """Final summary; exists only when the run has finished."""
        return self.path / "result.json"

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Everything a run writes, ``config`` last."""
        written = (self.checkpoints, self.metrics, self.evaluations, self.events, self.tensorboard, self.samples)
        around = (
            self.abandoned_events,
            self.result,
            self.tokenizer,
            self.environment,
            self.heartbeat(0).parent,
            self.stacks(0).parent,
        )
        return (*written, *around, self.profile, self.step_split, self.memory_snapshot, self.config)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint taken after ``step`` optimizer steps."""
        return self.checkpoints / f"step-{step:08d}"

    def checkpoint_steps(self) -> list[int]:
        """Steps of all folders that carry a checkpoint's name, oldest first; none of them is verified."""
        if not self.checkpoints.is_dir():
            return []
        steps = (checkpoint_step(entry.name) for entry in self.checkpoints.iterdir())
        return sorted(step for step in steps if step is not None)


def checkpoint_step(folder_name: str) -> int | None:
    """The step whose checkpoint has this folder name; None if no checkpoint has it."""
    match = _CHECKPOINT_NAME.fullmatch(folder_name)
    return int(match[1]) if match else None
