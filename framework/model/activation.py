"""GPT-2's activation function as one operation in place of eight."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import GELUTanh, NewGELUActivation


class TanhGelu(nn.Module):
    """GELU in its tanh form (Hendrycks & Gimpel 2016, arXiv:1606.08415): transformers' ``gelu_new`` and ``gelu_pytorch_tanh``.

    transformers writes ``gelu_new`` as eight operations, each of which reads and writes memory, and whose results autograd keeps:
    an eighth of an eager step of GPT-2 on a CPU, and two fifths of what a block keeps (docs/experiments.md).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As ``x``, element by element: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
        if not torch.compiler.is_compiling():
            return F.gelu(x, approximate="tanh")
        # The same function, for (1 + tanh(z)) / 2 = sigmoid(2 z). The compiler fuses either; a vector of exp takes it half the
        # time of a vector of tanh, forward and backward: 4% of a compiled step.
        return x * torch.sigmoid(x * (_LINEAR + _CUBIC * x * x))


_LINEAR = 2 * (2 / torch.pi) ** 0.5
_CUBIC = 0.044715 * _LINEAR


def fuse_activations(model: nn.Module) -> None:
    """Puts ``TanhGelu`` where ``model`` has the same function in another form. Names of parameters and the config stay."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, (NewGELUActivation, GELUTanh)):
                setattr(parent, name, TanhGelu())
