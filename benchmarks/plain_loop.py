"""What a plain torch loop learns in a given time: the yardstick for ``configs/tinystories_cpu.yaml``.

    python -m benchmarks.plain_loop configs/tinystories_cpu.yaml --seconds 1200 --precision bf16

The loop is the one most people write: a transformers GPT-2, ``torch.compile``, autocast, fused AdamW, random windows of the
concatenated training tokens, 100 steps of warm-up and a cosine to a tenth. It reads the config's model, shards and validation
rows, so that only the training differs, and knows how long it may take: its cosine ends exactly when its time does.
The warm-up counts steps, not seconds: the first seconds go to compilation, and a warm-up that is over after ten steps
costs the run (docs/experiments.md). Prints one JSON line; ``--append FILE`` keeps it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.records import add_output, publish
from framework.config import Config, load_config
from framework.data.corpus import local_corpus
from framework.data.manifest import load_manifest
from framework.data.shards import read_shard
from framework.metrics.hardware import describe_environment
from framework.model.build import build_model, count_parameters
from framework.model.language_model import LanguageModel
from framework.train.evaluation import evaluate_model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WARMUP_STEPS, FINAL_LR_FRACTION, REPORT_EVERY = 100, 0.1, 50


def main() -> None:
    """Trains for the given time and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    parser.add_argument("--seconds", type=float, required=True, help="of training, compilation included")
    parser.add_argument("--precision", choices=DTYPES, default="bf16", help="of autocast (default bf16)")
    parser.add_argument("--batch-size", type=int, default=16, help="sequences per step (default 16)")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate (default 2e-3)")
    add_output(parser)
    arguments = parser.parse_args()
    # Its windows are the usual ones: rows that begin anywhere, in which every token sees all before it.
    config = load_config(arguments.config, [*arguments.overrides, "model.document_mask=false"])
    result = measure(config, arguments.seconds, arguments.precision, arguments.batch_size, arguments.lr)
    publish(result, arguments.append)


def measure(config: Config, seconds: float, precision: str, batch_size: int, lr: float) -> dict[str, Any]:
    """Trains for ``seconds`` and evaluates on all validation rows."""
    manifest = load_manifest(config.data.shards_dir)
    model = build_model(config, manifest.vocab_size, manifest.end_of_text_id)
    tokens = training_tokens(config)
    began = time.perf_counter()
    steps, loss = train(model, tokens, config, seconds=seconds, precision=precision, batch_size=batch_size, lr=lr)
    elapsed = time.perf_counter() - began
    seen = steps * batch_size * config.model.context_length
    return {
        "question": "plain_loop",
        "precision": precision,
        "batch_size": batch_size,
        "lr": lr,
        "parameters": count_parameters(model),
        "seconds": round(elapsed, 1),
        "steps": steps,
        "tokens": seen,
        "tokens_per_second": round(seen / elapsed, 1),
        "train_loss": loss,
        "validation": evaluate_model(model, config, local_corpus(config.data.shards_dir)),
        "environment": describe_environment(1, torch.device("cpu")),
    }


def training_tokens(config: Config) -> torch.Tensor:
    """[tokens] int64: all documents of the training split, back to back."""
    manifest = load_manifest(config.data.shards_dir)
    shards = (read_shard(config.data.shards_dir / entry.name, entry) for entry in manifest.split("train"))
    documents = [document for shard in shards for document in shard.documents()]
    return torch.from_numpy(np.concatenate(documents).astype(np.int64))


def train(
    model: LanguageModel,
    tokens: torch.Tensor,
    config: Config,
    *,
    seconds: float,
    precision: str,
    batch_size: int,
    lr: float,
) -> tuple[int, float]:
    """Trains ``model`` in place for ``seconds``; returns the number of steps and the last loss."""
    length = config.model.context_length
    compiled = torch.compile(model.transformer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    generator = torch.Generator().manual_seed(config.seed)
    began, step, loss = time.perf_counter(), 0, math.nan
    while (fraction := (time.perf_counter() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = lr * schedule(step, fraction)
        starts = torch.randint(len(tokens) - length - 1, (batch_size,), generator=generator)
        rows = torch.stack([tokens[start : start + length + 1] for start in starts.tolist()])
        with torch.autocast("cpu", dtype=DTYPES[precision], enabled=precision != "fp32"):
            logits = compiled(input_ids=rows[:, :-1]).logits
            batch_loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        batch_loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step, loss = step + 1, batch_loss.item()
        if step % REPORT_EVERY == 0:
            print(f"step {step}, {fraction:.0%} of the time, loss {loss:.3f}", file=sys.stderr, flush=True)
    return step, loss


def schedule(step: int, fraction: float) -> float:
    """Share of the peak rate at this step, when this fraction of the time is over."""
    cosine = FINAL_LR_FRACTION + (1 - FINAL_LR_FRACTION) * 0.5 * (1 + math.cos(math.pi * fraction))
    return min((step + 1) / WARMUP_STEPS, cosine)


if __name__ == "__main__":
    main()
