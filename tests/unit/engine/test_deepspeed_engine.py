from __future__ import annotations

import os
import subprocess
import sys

import pytest

JOINING = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# A start in a process of its own, as what it imports is the question.
START = """
import sys
from framework.config import build_config, plan_batch
from framework.engine import build_engine, join_world
from framework.model.build import build_model

sizes = {"layers": 1, "width": 16, "heads": 2, "context_length": 8}
engine = {"kind": "deepspeed", "zero_stage": int(sys.argv[1]), "micro_batch_size": 2, "global_batch_size": 4}
config = build_config({"model": sizes, "engine": {**engine, "precision": sys.argv[2]}}, origin="test")
with join_world(60) as world:
    build_engine(config, plan_batch(config, 1), world, build_model(config, 50, 0))
print(*sorted(name for name in sys.modules if name.startswith(("torch._inductor.lowering", "torch._inductor.compile_fx"))))
"""


@pytest.mark.parametrize(("stage", "precision"), [(2, "bf16"), (3, "fp32")])
def test_a_start_does_not_wait_for_a_compiler_that_it_does_not_use(stage: int, precision: str) -> None:
    command = [sys.executable, "-c", START, str(stage), precision]
    # A test before this one may have joined a world of its own, which leaves its address behind.
    alone = {name: value for name, value in os.environ.items() if name not in JOINING}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=alone)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.splitlines()[-1] == ""
