"""How a step is computed: DeepSpeed ZeRO, or the plain torch reference that checks it. The only importer of deepspeed."""

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
