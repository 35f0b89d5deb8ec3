"""What LoRA saves, and how fast a fine-tuning step is beside Hugging Face's Trainer with peft.

    python -m benchmarks.lora                                     gpt2_mini with random weights, 2,400 synthetic blurbs
    python -m benchmarks.lora --preset gpt2_nano --pairs 2        for a look
    python -m benchmarks.lora engine.micro_batch_size=8           another setting of ours
    python -m benchmarks.lora --preset gpt2_small --pairs 0       memory alone

Two questions, on one classification run:

* memory: bytes of the gradients that the optimizer reads and of its states after the step, counted from the tensors, and the
  process' peak resident memory, in which activations and libraries count too; for LoRA and for full fine-tuning, on the
  plain engine and on ZeRO-1 with one rank;
* speed: tokens of text (padding does not count) a second of ``zerostream``'s loop with its prefetcher and records, and of
  ``transformers.Trainer``, in fp32 on the same threads, from the same base, with the same LoRA and the same examples, 16 a
  step. The Trainer is left at its defaults: fused AdamW, clipping at 1, batches drawn at random, padded by
  ``DataCollatorWithPadding``; it neither evaluates nor saves nor reports. Ours takes a step in micro-batches of 8, which it
  fills with texts of like length, on the default engine, on the plain one, and compiled; ``zerostream_grouped`` puts texts of
  like length into one step and takes it whole, on the plain engine.

So that nobody has to ask: ``trainer_micro_batches`` is the Trainer with the same micro-batches, accumulated, and
``trainer_grouped`` with ``train_sampling_strategy="group_by_length"``, which draws texts of like length into one step.

Every side is a process of its own, which warms up and then takes so many steps whenever it is its turn, while the others
wait. Prints one JSON line; ``--append FILE`` keeps it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.lora_sides import MEMORY, PEERS
from benchmarks.ratios import paired_ratio
from benchmarks.records import add_output, publish
from benchmarks.turns import Side
from launch.local import prepare_environment

CONFIG = """\
model: {preset: PRESET}
data: {lanes: 16}
engine: {kind: deepspeed, zero_stage: 1, micro_batch_size: 8, global_batch_size: 16}
train: {max_steps: 1000000, eval_every_steps: 1000000, step_timeout_seconds: 86400}  # it waits while others take turns
checkpoint: {every_steps: 1000000}
logging: {tensorboard: false}
plugins:
  lora: {base: FOLDER/base, method: lora, adapter: {rank: 8, alpha: 16.0}, data: {source: embedded}}
"""
OURS = {
    "zerostream": (),
    "zerostream_reference": ("engine.kind=reference",),
    "zerostream_compiled": ("engine.compile=true",),
    "zerostream_grouped": ("engine.kind=reference", "engine.micro_batch_size=16", "plugins.lora.group_by_length=true"),
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="keys of our config, such as engine.micro_batch_size=4")
    parser.add_argument("--preset", default="gpt2_mini", help="size of the base (default gpt2_mini)")
    parser.add_argument("--pairs", type=int, default=7, help="turns of every side; 0: memory alone (default 7)")
    parser.add_argument("--steps", type=int, default=20, help="of a turn (default 20)")
    parser.add_argument("--warmup", type=int, default=20, help="steps before the first turn (default 20)")
    parser.add_argument("--sides", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS], help="(default all)")
    add_output(parser)
    arguments = parser.parse_args()
    publish(_measure(arguments), arguments.append)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    from framework.metrics.hardware import describe_environment

    prepare_environment(1)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        config = Path(folder, "config.yaml")
        config.write_text(CONFIG.replace("FOLDER", folder).replace("PRESET", arguments.preset), encoding="utf-8")
        _write_base(config, Path(folder, "base"))

        def start(name: str, side: str, *overrides: str) -> Side:
            gate = Path(folder, f"gate-{name}")
            mine = [str(config), f"run_dir={folder}/{name}", *overrides, *arguments.overrides]
            counts = [str(gate), str(arguments.warmup), str(arguments.steps)]
            command = [sys.executable, "-m", "benchmarks.lora_sides", side, *counts, *mine]
            return Side(command, gate, environment={"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"})

        memory = {}
        for method, kind in itertools.product(("lora", "full"), ("reference", "deepspeed")):
            name = f"{method}_{kind}"
            with start(name, MEMORY, f"plugins.lora.method={method}", f"engine.kind={kind}") as side:
                memory[name] = side.next_turn()
        names = arguments.sides if arguments.pairs else []
        sides = {name: stack.enter_context(start(name, name, *OURS.get(name, ()))) for name in names}
        warmups = {name: side.next_turn() for name, side in sides.items()}
        turns = [{name: side.next_turn() for name, side in sides.items()} for _ in range(arguments.pairs)]
    return {
        "question": "lora",
        "preset": arguments.preset,
        "overrides": arguments.overrides,
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "memory": {**memory, "full_over_lora": _memory_ratios(memory)},
        "speed": {name: _summarise(name, turns, warmups[name]) for name in sides},
        "ratios": {
            f"{ours}_over_{peer}": paired_ratio(_speeds(turns, ours), _speeds(turns, peer)).as_json()
            for ours in OURS
            for peer in PEERS
            if {ours, peer} <= {*sides}
        },
        "steps_of_a_turn": arguments.steps,
        "environment": {
            **describe_environment(1, torch.device("cpu")),
            "peers": {package: version(package) for package in ("transformers", "peft", "accelerate")},
        },
    }


def _write_base(config_path: Path, folder: Path) -> None:
    """A causal model with random weights, and a tokenizer of the blurbs, in Hugging Face's format."""
    from transformers import PreTrainedModel

    from framework.config import load_config
    from framework.data.tokenizer import build_tokenizer
    from framework.model.build import build_model
    from framework.plugins.lora.options import LabelledDataOptions
    from framework.plugins.lora.splits import load_folds

    config = load_config(config_path)
    tokenizer = build_tokenizer(config, load_folds(LabelledDataOptions())[0].texts)
    transformer = build_model(config, tokenizer.vocab_size, tokenizer.end_of_text_id).transformer
    assert isinstance(transformer, PreTrainedModel)
    transformer.save_pretrained(folder)
    tokenizer.save_for_transformers(folder)


def _memory_ratios(memory: dict[str, dict[str, float]]) -> dict[str, float]:
    def of(name: str) -> float:
        return memory[name]["gradient_bytes"] + memory[name]["optimizer_bytes"]

    return {kind: round(of(f"full_{kind}") / of(f"lora_{kind}"), 2) for kind in ("reference", "deepspeed")}


def _speeds(turns: list[dict[str, dict[str, float]]], name: str) -> list[float]:
    return [turn[name]["tokens"] / turn[name]["seconds"] for turn in turns]


def _summarise(name: str, turns: list[dict[str, dict[str, float]]], warmup: dict[str, float]) -> dict[str, Any]:
    rates = _speeds(turns, name)
    return {
        "tokens_per_second": round(statistics.median(rates), 1),
        "of_each_turn": [round(rate, 1) for rate in rates],
        "cpu_microseconds_per_token": round(
            statistics.median(1e6 * turn[name]["cpu_seconds"] / turn[name]["tokens"] for turn in turns), 2
        ),
        "padding_fraction": round(
            1 - sum(turn[name]["tokens"] for turn in turns) / sum(turn[name]["places"] for turn in turns), 4
        ),
        "trainable_parameters": int(warmup["trainable_parameters"]),
        "warmup_seconds": round(warmup["seconds"], 1),
    }


if __name__ == "__main__":
    main()
