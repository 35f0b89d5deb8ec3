from __future__ import annotations

import os
import subprocess
import sys

JOINING = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# A start in a process of its own, as what it imports is the question.
START = """
import sys
from framework.config import build_config, plan_batch
from framework.engine import build_engine, join_world
from framework.model.build import build_model

sizes = {"layers": 1, "width": 16, "heads": 2, "context_length": 8}
engine = {"kind": "deepspeed", "micro_batch_size": 2, "global_batch_size": 4}
with join_world(60) as world:
    for stage, precision in ((2, "bf16"), (3, "fp32")):
        more = {"zero_stage": stage, "precision": precision}
        config = build_config({"model": sizes, "engine": {**engine, **more}}, origin="test")
        build_engine(config, plan_batch(config, 1), world, build_model(config, 50, 0))
print(*sorted(name for name in sys.modules if name.startswith(("torch._inductor.lowering", "torch._inductor.compile_fx"))))
"""


# At a rate that would show what the step does that DeepSpeed takes when it starts.
START_WITHOUT_ZERO = """
import torch
from framework.config import build_config, plan_batch
from framework.engine import build_engine, join_world
from framework.model.build import build_model

sizes = {"layers": 1, "width": 16, "heads": 2, "context_length": 8}
engine = {"kind": "deepspeed", "zero_stage": 0, "precision": "bf16", "micro_batch_size": 2, "global_batch_size": 4}
unchanged = []
with join_world(60) as world:
    for kind in ("adamw", "muon"):
        optimizer = {"kind": kind, "lr": 0.5, "weight_decay": 0.5}
        config = build_config({"model": sizes, "engine": engine, "optimizer": optimizer}, origin="test")
        model = build_model(config, 50, 0)
        drawn = {name: parameter.detach().bfloat16().float().view(-1) for name, parameter in model.named_parameters()}
        built = build_engine(config, plan_batch(config, 1), world, model)
        unchanged.append(all(torch.equal(held.weight, drawn[held.name]) for held in built._held()))
        unchanged.append(not built._torch_optimizer().state)
print(unchanged)
"""


def last_line_of(script: str) -> str:
    # A test before this one may have joined a world of its own, which leaves its address behind.
    alone = {name: value for name, value in os.environ.items() if name not in JOINING}
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=alone)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout.splitlines()[-1]


def test_a_start_does_not_wait_for_a_compiler_that_it_does_not_use() -> None:
    assert last_line_of(START) == ""


def test_a_start_without_zero_in_bf16_changes_no_weight() -> None:
    assert last_line_of(START_WITHOUT_ZERO) == str([True] * 4)
