"""The processes of ``benchmarks.lora``: each is one side, and measures itself whenever it is its turn.

python -m benchmarks.lora_sides SIDE GATE WARMUP STEPS CONFIG [key.path=value ...]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.turn_gate import TurnGate

MEMORY, PEERS = "memory", ("trainer", "trainer_micro_batches", "trainer_grouped")
"""Names of sides; any other is ours, as its overrides say."""
_MEMORY_STEPS = 3


def main() -> None:
    """Builds the side and takes its turns, until nobody asks for one any more."""
    import torch
    from transformers.utils import logging

    from framework.config import load_config
    from framework.plugins.lora.classification import Classification
    from framework.train import preflight

    logging.disable_progress_bar()
    side, gate_folder, warmup, steps, config_path, *overrides = sys.argv[1:]
    gate = TurnGate(Path(gate_folder), int(warmup), int(steps))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    found = preflight.check(load_config(Path(config_path), overrides), 1)
    assert isinstance(found.recipe, Classification)
    if side in PEERS:
        _run_trainer(side, found.recipe, found.plan, gate)
    else:
        _run_ours(found, gate, counts_memory=side == MEMORY)


def _run_ours(found: Any, gate: TurnGate, *, counts_memory: bool) -> None:
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
    def __init__(self, gate: TurnGate, found: Any, trainable: int) -> None:
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
        taken = self._gate.stop_clock()
        tokens = places = 0
        for _ in range(record.step - self._last):
            for batch in next(self._counted).micro_batches:
                # The one target of an example stands at its last token.
                tokens += int(((batch.targets >= 0).nonzero()[:, 1] + 1).sum())
                places += batch.input_ids.numel()
        self._last = record.step
        self._gate.answer({**taken, "tokens": tokens, "places": places, "trainable_parameters": float(self._trainable)})
        self._gate.begin_turn()


class _MemoryHook(_StepHook):
    """Counts the gradients that the optimizer reads in a step, and its states after that."""

    def __init__(self, gate: TurnGate) -> None:
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


def _run_trainer(side: str, recipe: Any, plan: Any, gate: TurnGate) -> None:
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

    in_micro_batches = side == "trainer_micro_batches"
    arguments = TrainingArguments(
        output_dir=str(config.run_dir),
        per_device_train_batch_size=plan.micro_batch_size if in_micro_batches else plan.global_batch_size,
        gradient_accumulation_steps=plan.accumulation_steps if in_micro_batches else 1,
        train_sampling_strategy="group_by_length" if side == "trainer_grouped" else "random",
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
