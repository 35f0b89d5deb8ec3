"""Building a model whose weights a checkpoint brings: what would be drawn at random for them is left out.

Random weights of GPT-2 with 124M parameters take seconds on a CPU core, which a start that goes on would wait for in vain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._python_dispatch import (
    TorchDispatchMode,
)  # as https://docs.pytorch.org/docs/stable/notes/extending.html

M = TypeVar("M", bound=nn.Module)
_DRAWS = (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default)


class _LeaveParametersOut(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _DRAWS and isinstance(args[0], nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))


def build_unfilled(build: Callable[[], M]) -> M:
    """The module that ``build`` makes; its parameters may hold anything, all else is as ever.

    Where that cannot be told, ``build`` simply runs again with everything drawn: when it has drawn for something else than a
    parameter, as a buffer's numbers would follow other ones than before; and when a parameter is not trained, as no checkpoint
    brings it.
    """
    before = torch.get_rng_state()
    with _LeaveParametersOut():  # type: ignore[no-untyped-call]  # torch's
        module = build()
    is_all_else_right = torch.equal(torch.get_rng_state(), before)
    if is_all_else_right and all(parameter.requires_grad for parameter in module.parameters()):
        return module
    torch.set_rng_state(before)
    return build()
