"""What LoRA saves, and how fast a fine-tuning step is beside Hugging Face's Trainer with peft.

    python -m benchmarks.lora                                     gpt2_mini with random weights, 2,400 synthetic blurbs
    python -m benchmarks.lora --preset gpt2_nano --pairs 2        for a look
    python -m benchmarks.lora engine.micro_batch_size=4           another setting of ours; the Trainer's stays

Two questions, on one classification run:

* memory: bytes of the gradients that the optimizer reads and of its states after the step, counted from the tensors, and the
  process' peak resident memory, in which activations and libraries count too; for LoRA and for full fine-tuning, on the
  plain engine and on ZeRO-1 with one rank;
* speed: tokens of text (padding does not count) a second of ``zerostream``'s loop with its prefetcher and records, and of
  ``transformers.Trainer``, in fp32 on the same threads, from the same base, with the same LoRA and the same examples in
  batches of the same size. The Trainer is left at its defaults: fused AdamW, ``DataCollatorWithPadding``, clipping at 1; it
  neither evaluates nor saves nor reports. Ours is on the default engine, on the plain one, and compiled.

Every side is a process of its own, which warms up and then takes so many steps whenever it is its turn, while the others
wait. Prints one JSON line; ``--append FILE`` keeps it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from launch.local import prepare_environment

CONFIG = """\
run_dir: FOLDER/SIDE
model: {preset: PRESET}
data: {lanes: 16}
engine: {kind: deepspeed, zero_stage: 1, micro_batch_size: 16, global_batch_size: 16}
train: {max_steps: 1000000, eval_every_steps: 1000000}
checkpoint: {every_steps: 1000000}
logging: {tensorboard: false}
plugins:
  lora: {base: FOLDER/base, method: lora, adapter: {rank: 8, alpha: 16.0}, data: {source: embedded}}
"""
OURS = {
    "zerostream": (),
    "zerostream_reference": ("engine.kind=reference",),
    "zerostream_compiled": ("engine.compile=true",),
}
TRAINER = "trainer"
MEMORY = {
    f"{method}_{kind}": (f"engine.kind={kind}", f"plugins.lora.method={method}")
    for kind in ("reference", "deepspeed")
    for method in ("lora", "full")
}
_MEMORY_STEPS, _BOOTSTRAP_SAMPLES = 3, 10_000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="keys of our config, such as engine.micro_batch_size=4")
    parser.add_argument("--preset", default="gpt2_mini", help="size of the base (default gpt2_mini)")
    parser.add_argument("--pairs", type=int, default=7, help="turns of every side; 0: memory alone (default 7)")
    parser.add_argument("--steps", type=int, default=20, help="of a turn (default 20)")
    parser.add_argument("--warmup", type=int, default=20, help="steps before the first turn (default 20)")
    parser.add_argument("--sides", nargs="+", choices=[*OURS, TRAINER], default=[*OURS, TRAINER], help="(default all)")
    parser.add_argument("--append", type=Path, help="add the result to this file")
    parser.add_argument("--as-side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_side:
        config_path, *overrides = arguments.overrides
        _be_side(arguments.as_side, Path(config_path), overrides, arguments.warmup, arguments.steps)
        return
    line = json.dumps(_measure(arguments))
    print(line)
    if arguments.append:
        with arguments.append.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    from framework.metrics.hardware import describe_environment

    prepare_environment(1)
    with tempfile.TemporaryDirectory() as folder:
        template = CONFIG.replace("FOLDER", folder).replace("PRESET", arguments.preset)
        _write_base(_write_config(Path(folder), template, "base_config"), Path(folder, "base"))

        def start(side: str, overrides: Sequence[str]) -> _Side:
            config = _write_config(Path(folder), template, side)
            return _Side.start(side, config, [*overrides, *arguments.overrides], arguments.warmup, arguments.steps)

        memory = {}
        for name, overrides in MEMORY.items():
            with start(name, overrides) as side:
                memory[name] = side.next_turn()
        sides = {name: start(name, OURS.get(name, ())) for name in arguments.sides if arguments.pairs}
        warmups = {name: side.next_turn() for name, side in sides.items()}
        turns = [{name: side.next_turn() for name, side in sides.items()} for _ in range(arguments.pairs)]
        for side in sides.values():
            side.__exit__()
    return {
        "question": "lora",
        "preset": arguments.preset,
        "overrides": arguments.overrides,
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "memory": {**memory, "full_over_lora": _memory_ratios(memory)},
        "speed": {name: _summarise(name, turns, warmups[name]) for name in sides},
        "steps_of_a_turn": arguments.steps,
        "environment": {
            **describe_environment(1, torch.device("cpu")),
            "peers": {package: version(package) for package in ("transformers", "peft", "accelerate")},
        },
    }


def _write_config(folder: Path, template: str, side: str) -> Path:
    path = folder / f"{side}.yaml"
    path.write_text(template.replace("SIDE", side), encoding="utf-8")
    return path


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


def _summarise(name: str, turns: list[dict[str, dict[str, float]]], warmup: dict[str, float]) -> dict[str, Any]:
    rates = [turn[name]["tokens"] / turn[name]["seconds"] for turn in turns]
    values: dict[str, Any] = {
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
    if TRAINER in turns[0] and name != TRAINER:
        ratios = [
            rate * turn[TRAINER]["seconds"] / turn[TRAINER]["tokens"] for rate, turn in zip(rates, turns, strict=True)
        ]
        draws = np.random.default_rng(0).choice(ratios, size=(_BOOTSTRAP_SAMPLES, len(ratios)))
        low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
        values["over_trainer"] = round(statistics.median(ratios), 3)
        values["over_trainer_ci95"] = [round(float(low), 3), round(float(high), 3)]
    return values


@dataclass(frozen=True)
class _Side:
    """A process that waits for its turns."""

    name: str
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, name: str, config: Path, overrides: Sequence[str], warmup: int, steps: int) -> _Side:
        command = [sys.executable, "-m", "benchmarks.lora", "--as-side", name, str(config), *overrides]
        command += ["--warmup", str(warmup), "--steps", str(steps)]
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        pipe = subprocess.PIPE
        return cls(name, subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))

    def next_turn(self) -> dict[str, float]:
        """What it measured over its next steps; the first turn is its warm-up."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}")
        values: dict[str, float] = json.loads(line)
        return values

    def __enter__(self) -> _Side:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.communicate()


class _Gate:
    """In such a process: waits for the turns, and tells what each took. Step 0 ends nothing and begins the first."""

    def __init__(self, warmup: int, steps: int) -> None:
        # Whatever libraries print goes to standard error.
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._warmup = warmup
        self._steps = steps

    def ends_turn(self, step: int) -> bool:
        return step == self._warmup or (step > self._warmup and (step - self._warmup) % self._steps == 0)

    def begin_turn(self) -> None:
        if not sys.stdin.readline():
            os._exit(0)  # whoever asked has gone
        self._began = time.perf_counter(), time.process_time()

    def stop_clock(self) -> dict[str, float]:
        seconds, cpu_seconds = self._began
        return {"seconds": time.perf_counter() - seconds, "cpu_seconds": time.process_time() - cpu_seconds}

    def answer(self, values: dict[str, float]) -> None:
        print(json.dumps(values), file=self._answers, flush=True)


def _be_side(side: str, config_path: Path, overrides: list[str], warmup: int, steps: int) -> None:
    import torch
    from transformers.utils import logging

    from framework.config import load_config
    from framework.plugins.lora.classification import Classification
    from framework.train import preflight

    logging.disable_progress_bar()
    gate = _Gate(warmup, steps)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    found = preflight.check(load_config(config_path, overrides), 1)
    assert isinstance(found.recipe, Classification)
    if side == TRAINER:
        _run_trainer(found.recipe, gate)
    else:
        _run_ours(found, gate, counts_memory=side in MEMORY)


def _run_ours(found: Any, gate: _Gate, *, counts_memory: bool) -> None:
    """The loop of a run as ``framework.train.session`` builds it, without its console and TensorBoard."""
    import torch

    from framework.checkpoint.store import CheckpointStore
    from framework.data.stream import Prefetcher
    from framework.engine import build_engine, join_world
    from framework.model.build import count_parameters
    from framework.plugins.interface import Hook
    from framework.run_dir import RunDir
    from framework.train.events import EventLog
    from framework.train.hooks import RecordHook
    from framework.train.loop import Progress, TrainingLoop
    from framework.train.stopping import StopRequest
    from framework.train.watch import Watch

    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    recipe, config = found.recipe, found.recipe.config
    run_dir = RunDir(config.run_dir)
    run_dir.path.mkdir()
    with join_world(600) as world:
        model = recipe.build_model(recipe.tokenizer)
        engine = build_engine(config, found.plan, world, model)
        last = _MemoryHook(gate) if counts_memory else _TurnHook(gate, found, count_parameters(model))
        hooks: list[Hook] = [RecordHook(run_dir, 0), last]
        with Prefetcher(recipe.stream(found.plan, 0).steps(0), depth=2, pin_memory=False) as batches:
            TrainingLoop(
                config,
                engine,
                batches,
                recipe.evaluator(found.plan, engine),
                CheckpointStore(config, recipe.data_fingerprint, world),
                hooks,
                EventLog(run_dir, 0, lambda _: None, is_main=True),
                StopRequest(),
                Watch(run_dir, 0),
                recipe.ignorant_loss,
            ).run(Progress())


class _StepHook:
    """A hook that minds steps alone."""

    def on_evaluate(self, step: int, metrics: Any) -> None: ...

    def on_finish(self, step: int) -> None: ...


class _TurnHook(_StepHook):
    def __init__(self, gate: _Gate, found: Any, trainable: int) -> None:
        self._gate = gate
        # What each step reads follows from its number: it is read again to be counted, when no clock runs.
        self._counted: Iterator[Any] = found.recipe.stream(found.plan, 0).steps(0)
        self._trainable = trainable
        self._last = 0

    def on_start(self, step: int) -> None:
        self._gate.begin_turn()

    def on_step(self, record: Any) -> None:
        if not self._gate.ends_turn(record.step):
            return
        values = self._gate.stop_clock()
        tokens = places = 0
        for _ in range(record.step - self._last):
            for batch in next(self._counted).micro_batches:
                # The one target of an example stands at its last token.
                tokens += int(((batch.targets >= 0).nonzero()[:, 1] + 1).sum())
                places += batch.input_ids.numel()
        self._last = record.step
        self._gate.answer(
            {**values, "tokens": tokens, "places": places, "trainable_parameters": float(self._trainable)}
        )
        self._gate.begin_turn()


class _MemoryHook(_StepHook):
    """Counts the gradients that the optimizer reads in a step, and its states after that."""

    def __init__(self, gate: _Gate) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        self._gate = gate
        self._gradient_bytes = self._optimizer_bytes = self._resident_bytes = 0
        register_optimizer_step_pre_hook(self._count_gradients)  # of every optimizer, DeepSpeed's inner one too
        register_optimizer_step_post_hook(self._count_states)

    def _count_gradients(self, optimizer: Any, *_: Any) -> None:
        # DeepSpeed calls its inner optimizer for one group after the other, each with that group's gradients alone.
        optimized = (parameter for group in optimizer.param_groups for parameter in group["params"])
        self._gradient_bytes += _bytes_of([each.grad for each in optimized if each.grad is not None])

    def _count_states(self, optimizer: Any, *_: Any) -> None:
        self._optimizer_bytes = _bytes_of([value for state in optimizer.state.values() for value in state.values()])

    def on_start(self, step: int) -> None:
        import psutil

        self._gate.begin_turn()
        self._resident_bytes = psutil.Process().memory_info().rss

    def on_step(self, record: Any) -> None:
        if record.step == _MEMORY_STEPS:
            values = {
                "gradient_bytes": self._gradient_bytes // _MEMORY_STEPS,
                "optimizer_bytes": self._optimizer_bytes,
                "resident_bytes_before_training": self._resident_bytes,
                "peak_resident_bytes": record.peak_memory_bytes,
            }
            self._gate.answer(values)
            self._gate.begin_turn()


def _bytes_of(tensors: Sequence[Any]) -> int:
    """Of their storages, each once: views share theirs."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _run_trainer(recipe: Any, gate: _Gate) -> None:
    """As transformers' and peft's documentation has it, on the examples of ``recipe``."""
    import datasets
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    config, adapter = recipe.config, recipe.options.adapter
    tokenizer = AutoTokenizer.from_pretrained(recipe.base.folder)
    tokenizer.pad_token = tokenizer.eos_token
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        recipe.base.folder, num_labels=len(recipe.classes.names), pad_token_id=tokenizer.pad_token_id
    )
    model = get_peft_model(
        model,
        LoraConfig(
            task_type="SEQ_CLS",
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            target_modules="all-linear",
            modules_to_save=["score"],
        ),
    )
    examples = recipe.train_examples
    rows = datasets.Dataset.from_dict(
        {
            "input_ids": [example.input_ids.tolist() for example in examples],
            "attention_mask": [[1] * len(example.input_ids) for example in examples],
            "label": [int(example.targets[-1]) for example in examples],
        }
    )
    masks: list[Any] = []
    model.register_forward_pre_hook(lambda _, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True)
    trainable = float(sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad))

    class Turns(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            gate.begin_turn()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not gate.ends_turn(state.global_step):
                return
            values = gate.stop_clock()
            tokens, places = sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)
            masks.clear()
            gate.answer({**values, "tokens": tokens, "places": places, "trainable_parameters": trainable})
            gate.begin_turn()

    arguments = TrainingArguments(
        output_dir=str(config.run_dir),
        per_device_train_batch_size=config.engine.global_batch_size,
        max_steps=config.train.max_steps,
        learning_rate=config.optimizer.lr,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[Turns()],
    ).train()


if __name__ == "__main__":
    main()
