"""Settles, before threads can race for it, which vector math kernels this process uses."""

from __future__ import annotations

import torch

# Each is one that torch hands to the vector math of Intel's MKL (aten/src/ATen/cpu/vml.h), if it was built with it.
_FUNCTIONS = ("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos", "tan", "tanh", "erf", "erfc")


def settle_vector_math() -> None:
    """Calls each vector math function once, on one number and in one thread. Calling it again changes nothing.

    MKL looks for a function's kernel at its first call. When several threads make that call together, one of them can
    compute its share with a kernel of low accuracy, that once: about one start in five of a small fine-tuning on two
    threads began with a loss that differed in its sixth digit (https://github.com/pytorch/pytorch/issues/188792).
    """
    for dtype in (torch.float32, torch.float64):
        number = torch.full((1,), 0.5, dtype=dtype, device="cpu")
        for name in _FUNCTIONS:
            getattr(torch, name)(number)
