"""How a step is computed: DeepSpeed ZeRO, or the plain torch reference that checks it. The only importer of deepspeed."""

import os

import torch

# Not only the ZeRO engine imports deepspeed: transformers does when it saves a model, and without these its log would stand
# on standard output, where --json promises one object.
if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("DS_LOG_LEVEL", "warning")

from framework.engine.build import build_engine
from framework.engine.engine import (
    BACKWARD,
    FORWARD,
    OPTIMIZER,
    WEIGHT,
    Engine,
    FragmentReader,
    StepOutcome,
    sum_losses,
)
from framework.engine.world import World, join_world

__all__ = [
    "BACKWARD",
    "FORWARD",
    "OPTIMIZER",
    "WEIGHT",
    "Engine",
    "FragmentReader",
    "StepOutcome",
    "World",
    "build_engine",
    "join_world",
    "sum_losses",
]
