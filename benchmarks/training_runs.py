"""One cell of a grid: a short run of the real ``zerostream train``, and what its run directory says afterwards."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import ZEROSTREAM, zerostream
from framework.config import load_config
from framework.metrics.records import read_json_lines
from framework.run_dir import RunDir

_SIGNS_OF_NO_MEMORY = ("out of memory", "killed by signal 9", "Cannot allocate memory", "can't allocate memory")


VOCABULARY = 50_304
"""GPT-2's, to the next multiple of 64: logits weigh what they do in training."""


@dataclass(frozen=True)
class Cell:
    """One setting of a run, on the embedded corpus."""

    preset: str = "gpt2_nano"
    context_length: int = 256
    zero_stage: int = 1
    micro_batch_size: int = 4
    accumulation_steps: int = 1
    ranks: int = 1
    precision: str = "fp32"
    compile: bool = False
    offload: bool = False
    activation_checkpointing: bool = False
    engine: str = "deepspeed"
    vocabulary: int = VOCABULARY

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        words = [
            self.preset,
            f"{self.context_length} tokens",
            f"{self.ranks} x {self.micro_batch_size} sequences",
            self.precision,
        ]
        words.append(f"ZeRO-{self.zero_stage}" if self.engine == "deepspeed" else self.engine)
        words += [word for word in ("compile", "offload", "activation_checkpointing") if getattr(self, word)]
        return ", ".join(words)

    def overrides(self) -> list[str]:
        """Of a config, in full: a cell leaves nothing of what it measures to a default."""
        return [
            f"model.preset={self.preset}",
            f"model.context_length={self.context_length}",
            f"engine.kind={self.engine}",
            f"engine.zero_stage={self.zero_stage}",
            f"engine.micro_batch_size={self.micro_batch_size}",
            f"engine.global_batch_size={self.micro_batch_size * self.accumulation_steps * self.ranks}",
            f"engine.precision={self.precision}",
            f"engine.compile={self.compile}",
            f"engine.offload.optimizer={self.offload}",
            f"engine.activation_checkpointing={self.activation_checkpointing}",
        ]


@dataclass(frozen=True)
class Outcome:
    """What a cell gave. ``kind`` is ``measured``, ``out_of_memory`` or ``failed``; lists hold one value a step that counts."""

    kind: str
    tokens_per_second: Sequence[float] = ()
    step_seconds: Sequence[float] = ()
    data_wait_seconds: Sequence[float] = ()
    peak_memory_bytes: int = 0
    split: Mapping[str, float] | None = None
    result: Mapping[str, Any] | None = None
    last_words: str = ""


def resolved_config(config: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """In sections, as a line of results keeps it: without the folders of this machine."""
    left_out: dict[str, Any] = {"run_dir": True, "data": {"shards_dir"}}
    values = load_config(config, overrides).model_dump(mode="json", exclude=left_out)
    if values["tokenizer"]["path"] is not None:
        values["tokenizer"]["path"] = Path(values["tokenizer"]["path"]).name
    return values


def prepare_corpus(folder: Path) -> Path:
    """Shards of the embedded corpus and a config that reads them; the same for all cells. Returns the config."""
    config = folder / "config.yaml"
    config.write_text(
        f"tokenizer: {{kind: pretrained, path: {write_tokenizer(folder / 'tokenizer', VOCABULARY)}, "
        f"vocab_size: {VOCABULARY}}}\n"
        f"data: {{source: embedded, documents: 4000, shards_dir: {folder / 'shards'}}}\n"
        "train: {eval_max_sequences: 1, sample_prompts: []}\n"
        "logging: {every_steps: 1000, tensorboard: false}\n",
        encoding="utf-8",
    )
    zerostream("prepare", config, timeout=600)
    return config


def write_tokenizer(folder: Path, vocabulary: int) -> Path:
    """Learned from the embedded stories, which have some 2,000 tokens. All others of ``vocabulary`` are there and do not occur: a
    model has them all to choose from, where rows that only pad it would cost next to nothing. Returns ``folder``."""
    from framework.config import build_config
    from framework.data.embedded import generate_stories
    from framework.data.tokenizer import build_tokenizer

    wanted = {"tokenizer": {"vocab_size": min(2048, vocabulary)}}
    build_tokenizer(build_config(wanted, origin="benchmark"), generate_stories(4000, seed=1)).save(folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    ids = content["model"]["vocab"]
    ids.update({f"<{number}>": number for number in range(len(ids), vocabulary)})
    path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def train(
    config: Path,
    overrides: Sequence[str],
    folder: Path,
    ranks: int,
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = 1800,
) -> RunDir:
    """Trains to the end, and returns the run directory.

    Args:
        config: of the run.
        overrides: of the config.
        folder: becomes the run directory; what was there is removed.
        ranks: of the run.
        environment: beside this process's own.
        timeout: seconds for all of it.

    Raises:
        SystemExit: it failed; with its last lines.
    """
    shutil.rmtree(folder, ignore_errors=True)
    words = ("train", config, *overrides, f"run_dir={folder}", "--nproc", ranks)
    zerostream(*words, environment=environment, timeout=timeout)
    return RunDir(folder)


def run_cell(
    cell: Cell, config: Path, folder: Path, *, warmup: int, steps: int, profiled_steps: int = 0, timeout: float = 1800
) -> Outcome:
    """Trains ``warmup + steps`` steps, then so many under the profiler, and reads what was recorded.

    Args:
        cell: what to run.
        config: of ``prepare_corpus``.
        folder: becomes the run directory; must not exist.
        warmup: first steps that do not count.
        steps: that do.
        profiled_steps: after them, which do not count.
        timeout: seconds for all of it.
    """
    last = warmup + steps + profiled_steps
    overrides = [
        *cell.overrides(),
        f"run_dir={folder}",
        f"train.max_steps={last}",
        f"train.eval_every_steps={last}",
        f"checkpoint.every_steps={last}",
        f"train.profile.steps={profiled_steps}",
        f"train.profile.skip_steps={warmup + steps}",
    ]
    command = [*ZEROSTREAM, "train", str(config), "--nproc", str(cell.ranks), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        is_memory = any(sign in done.stderr for sign in _SIGNS_OF_NO_MEMORY)
        return Outcome("out_of_memory" if is_memory else "failed", last_words=" ".join(words))
    run_dir = RunDir(folder)
    counted = read_json_lines(run_dir.metrics)[warmup : warmup + steps]
    return Outcome(
        "measured",
        [line["tokens_per_second"] for line in counted],
        [line["step_seconds"] for line in counted],
        [line["data_wait_seconds"] for line in counted],
        max(line["peak_memory_bytes"] for line in counted),
        json.loads(run_dir.step_split.read_text()) if profiled_steps else None,
        json.loads(run_dir.result.read_text()),
    )
