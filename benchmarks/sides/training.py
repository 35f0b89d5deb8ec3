"""One training loop of another tool: a process of ``benchmarks.peers``.

    python -m benchmarks.sides.training SIDE FOLDER GATE SETTING WARMUP STEPS

``FOLDER/tokens.npy`` holds the training tokens, uint16; SETTING is JSON: vocabulary, layers, width, heads, context, rows of a
step, learning rate, threads. All train the same GPT-2 by transformers, from random weights, with AdamW and clipping at 1, on rows
drawn at random; a step is ROWS rows. None evaluates, saves or reports. zerostream's own side is the real ``framework.train``
(``benchmarks.turns``), with its records and checks.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sides.vision import let_torchvision_import
from benchmarks.turn_gate import TurnGate

_LONG = 10**7


@dataclass(frozen=True)
class Setting:
    """What all sides train."""

    vocabulary: int
    layers: int
    width: int
    heads: int
    context: int
    rows: int
    lr: float
    threads: int


def _model(setting: Setting) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=setting.vocabulary,
        n_layer=setting.layers,
        n_embd=setting.width,
        n_head=setting.heads,
        n_positions=setting.context,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    return GPT2LMHeadModel(config)


class _Rows:
    """A map-style data set: row i begins at token i x context."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        import numpy as np

        self._tokens = np.load(folder / "tokens.npy", mmap_mode="r")
        self._context = setting.context

    def __len__(self) -> int:
        return (len(self._tokens) - 1) // self._context

    def __getitem__(self, index: int) -> dict[str, Any]:
        import torch

        start = index * self._context
        ids = torch.from_numpy(self._tokens[start : start + self._context].astype("int64"))
        return {"input_ids": ids, "labels": ids}


def _take_turns(step: Callable[[], None], gate: TurnGate, setting: Setting) -> None:
    gate.begin_turn()
    last = 0
    for number in range(1, _LONG):
        step()
        if gate.ends_turn(number):
            gate.end_turn(_counts(number - last, setting))
            last = number
            gate.begin_turn()


def _counts(steps: int, setting: Setting) -> dict[str, float]:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"steps": steps, "tokens": steps * setting.rows * setting.context, "peak_memory_bytes": peak}


def _plain_loop(folder: Path, setting: Setting, gate: TurnGate, *, compiled: bool, bf16: bool) -> None:
    """As nanoGPT's train.py does it: random windows, autocast, fused AdamW."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    model = _model(setting)
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=setting.lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = np.load(folder / "tokens.npy", mmap_mode="r")

    def step() -> None:
        starts = torch.randint(len(tokens) - setting.context - 1, (setting.rows,)).tolist()
        windows = (tokens[start : start + setting.context + 1].astype(np.int64) for start in starts)
        rows = torch.stack([torch.from_numpy(window) for window in windows])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = run(input_ids=rows[:, :-1]).logits
            loss = F.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    _take_turns(step, gate, setting)


def _trainer(folder: Path, setting: Setting, gate: TurnGate, **tuned: Any) -> None:
    """Hugging Face's Trainer; ``tuned`` are arguments that its performance guide recommends."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Turns(TrainerCallback):
        last = 0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            gate.begin_turn()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if gate.ends_turn(state.global_step):
                gate.end_turn(_counts(state.global_step - self.last, setting))
                self.last = state.global_step
                gate.begin_turn()

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=setting.rows,
        learning_rate=setting.lr,
        max_steps=_LONG,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **tuned,
    )
    rows: Any = _Rows(folder, setting)
    Trainer(model=_model(setting), args=arguments, train_dataset=rows, callbacks=[Turns()]).train()


def _lightning(folder: Path, setting: Setting, gate: TurnGate) -> None:
    """Lightning's Trainer on a LightningModule, in bf16-mixed precision, compiled, as its speed guide has it."""
    let_torchvision_import()
    import lightning
    import torch
    from torch.utils.data import DataLoader

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = _model(setting)

        def training_step(self, batch: Any, _: int) -> Any:
            return self.model(**batch).loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=setting.lr, weight_decay=0.1, fused=True)

    class Turns(lightning.Callback):  # type: ignore[misc]
        last = 0

        def on_train_start(self, *_: Any) -> None:
            gate.begin_turn()

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if gate.ends_turn(trainer.global_step):
                gate.end_turn(_counts(trainer.global_step - self.last, setting))
                self.last = trainer.global_step
                gate.begin_turn()

    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        precision="bf16-mixed",
        max_steps=_LONG,
        # Lightning's own clipping cannot read the norm of a fused optimizer's gradients; it is left out, to its favour.
        callbacks=[Turns()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder / "lightning"),
    )
    module = Module()
    module.model = torch.compile(module.model)
    rows: Any = _Rows(folder, setting)
    trainer.fit(module, DataLoader(rows, batch_size=setting.rows, shuffle=True, drop_last=True))


TUNED: dict[str, Any] = {"bf16": True, "torch_compile": True, "optim": "adamw_torch_fused", "dataloader_num_workers": 1}
SIDES: dict[str, Callable[[Path, Setting, TurnGate], None]] = {
    "plain_loop": lambda *them: _plain_loop(*them, compiled=False, bf16=False),
    "plain_loop_compiled": lambda *them: _plain_loop(*them, compiled=True, bf16=False),
    "plain_loop_compiled_bf16": lambda *them: _plain_loop(*them, compiled=True, bf16=True),
    "trainer": lambda *them: _trainer(*them),
    "trainer_tuned": lambda *them: _trainer(*them, **TUNED),
    "lightning_tuned": lambda *them: _lightning(*them),
}


def main() -> None:
    """Builds the side and takes its turns."""
    import torch

    side, folder, gate_folder, setting_json, warmup, steps = sys.argv[1:]
    setting = Setting(**json.loads(setting_json))
    torch.set_num_threads(setting.threads)
    torch.manual_seed(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    SIDES[side](Path(folder), setting, TurnGate(Path(gate_folder), int(warmup), int(steps)))


if __name__ == "__main__":
    main()
