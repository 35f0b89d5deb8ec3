"""What all tests share: a small corpus prepared once, and ranks that are started once and take many jobs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.starts import Zygote

# Before anything imports torch: one thread is faster for models this small, and nothing asks the internet.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))

ROOT = Path(__file__).parent.parent

TINY_MODEL = """\
model: {layers: 2, width: 64, heads: 4, context_length: 64}
tokenizer: {kind: train_bpe, vocab_size: 512}
"""


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 stories in several shards, with a tokenizer of 512."""
    from framework.config import build_config
    from framework.data.prepare import prepare

    folder = tmp_path_factory.mktemp("tiny") / "shards"
    values = {
        "tokenizer": {"kind": "train_bpe", "vocab_size": 512},
        "data": {
            "source": "embedded",
            "documents": 400,
            "shards_dir": str(folder),
            "shard_tokens": 20_000,
            "validation_fraction": 0.05,
        },
    }
    prepare(build_config(values, origin="tests"))
    return folder


@pytest.fixture(scope="session")
def tiny_config(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config over ``tiny_shards``: 20 steps of 8 sequences, no dropout."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(
        TINY_MODEL
        + f"""\
data:
  {{source: embedded, documents: 400, shards_dir: {tiny_shards}, shard_tokens: 20000, validation_fraction: 0.05, lanes: 16}}
optimizer: {{lr: 1.0e-3}}
schedule: {{warmup_steps: 5}}
engine: {{micro_batch_size: 4, global_batch_size: 8}}
train:
  max_steps: 20
  eval_every_steps: 20
  eval_max_sequences: 16
  sample_prompts: ["Once"]
  sample_max_tokens: 4
  step_timeout_seconds: 60
  start_timeout_seconds: 120
checkpoint: {{every_steps: 20}}
logging: {{tensorboard: false}}
"""
    )
    return path


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Forks processes that would take seconds to import what they need; for tests of what they do then."""
    with Zygote() as started:
        yield started


@pytest.fixture(autouse=True)
def _unchanged_working_directory() -> Iterator[None]:
    before = Path.cwd()
    yield
    os.chdir(before)
