"""Cross-entropy of a linear output layer that never holds all logits.

For GPT-2 with 64 x 1,024 tokens the logits of a micro-batch are 6.6 GB in bf16, and their log-probabilities and gradients 13 GB
each in float32: more than all else that training keeps. Here rows are taken a chunk at a time, and each chunk's gradient is
computed beside its loss, so that nothing as wide as the vocabulary outlives its chunk:

    for a chunk of hidden states x, with output matrix W and targets t:
        logits = x W^T                              padded rows of the vocabulary at minus infinity
        e, z   = exp(logits - max), sum(e)          of each row, in float32
        loss  += -sum(log(e[t] / z))
        g      = e - z one_hot(t)                   z times the gradient of the loss by the logits
        dx     = g W / z                            kept for the backward pass, in the compute precision
        dW    += g^T (x / z)                        kept, in float32

What is as wide as the vocabulary is passed over as seldom as can be: rows are divided by z where they are narrow. In half
precision e is divided, before it is rounded.

The backward pass multiplies ``dx`` and ``dW`` by one number. (The idea: Hsu et al. 2024, Liger Kernel, arXiv:2410.10989.)
Why not torch's own, and how large a chunk is: docs/decisions/0014.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from framework.model.loss_model import IGNORED_TARGET

CHUNK_ROWS = {"cpu": 1024}
"""Of logits at a time, by kind of device. Each chunk adds to all of ``dW``: the fewer rows, the larger is that beside the
products. The more rows, the more memory, and the more a CPU's caches miss (docs/experiments.md)."""
CHUNK_ROWS_ELSEWHERE = 4096
"""A GPU computes 300 products in the time of reading one number, a core of a CPU ten. Reckoned, not measured."""


class LinearCrossEntropy(nn.Module):
    """The loss of a model whose logits are ``hidden @ weight.T``.

    A module of its own that shares the output matrix with the model, as tied embeddings do: so ZeRO stage 3, which gathers
    a module's weights for as long as its forward runs, has it whole when it is read.

    Args:
        weight: [padded vocabulary, width], the model's output matrix itself.
        vocab_size: rows beyond it get no probability and no gradient.
    """

    def __init__(self, weight: nn.Parameter, vocab_size: int) -> None:
        super().__init__()
        self.weight = weight
        self.vocab_size = vocab_size

    def forward(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of the negative log-probabilities of the targets; ``IGNORED_TARGET`` does not count.

        Args:
            hidden: [batch, sequence, width], in the weight's dtype.
            targets: [batch, sequence] int64.

        Returns:
            float32 scalar, in nats; float64 from float64.
        """
        return linear_cross_entropy(hidden.flatten(0, -2), self.weight, targets.flatten(), self.vocab_size)


def linear_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    vocab_size: int,
    chunk_rows: int | None = None,
) -> torch.Tensor:
    """As ``LinearCrossEntropy``, of [rows, width] and [rows] int64. Without gradients it computes none.

    Args:
        chunk_rows: without it, as measured for the device.

    Raises:
        RuntimeError: a target is outside of the padded vocabulary (on a GPU, torch's assertion on the device).
    """
    is_learned = torch.is_grad_enabled()
    loss: torch.Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch's
        hidden,
        weight,
        targets,
        vocab_size,
        chunk_rows or CHUNK_ROWS.get(hidden.device.type, CHUNK_ROWS_ELSEWHERE),
        is_learned and hidden.requires_grad,
        is_learned and weight.requires_grad,
    )
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        vocab_size: int,
        chunk_rows: int,
        needs_hidden: bool,
        needs_weight: bool,
    ) -> torch.Tensor:
        counts = targets != IGNORED_TARGET
        targets = targets.where(counts, 0)
        loss = torch.zeros((), dtype=_exact(hidden), device=hidden.device)
        hidden_gradients: list[torch.Tensor] = []
        weight_gradient: torch.Tensor | None = None
        for x, t, counted in zip(*(each.split(chunk_rows) for each in (hidden, targets, counts)), strict=True):
            chunk_loss, dx, dw = _of_chunk(x, weight, t, counted, vocab_size, needs_hidden, needs_weight)
            loss += chunk_loss
            if dx is not None:
                hidden_gradients.append(dx)
            if dw is not None:
                weight_gradient = dw.to(loss.dtype) if weight_gradient is None else weight_gradient.add_(dw)
        ctx.save_for_backward(torch.cat(hidden_gradients) if needs_hidden else None, weight_gradient)
        ctx.dtype = weight.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        [scale] = gradients
        return (
            None if hidden_gradient is None else (hidden_gradient * scale).to(ctx.dtype),
            None if weight_gradient is None else (weight_gradient * scale).to(ctx.dtype),
            *(None,) * 5,
        )


def _exact(hidden: torch.Tensor) -> torch.dtype:
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def _of_chunk(
    x: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    counts: torch.Tensor,
    vocab_size: int,
    needs_hidden: bool,
    needs_weight: bool,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Loss, and its gradients by ``x`` and by ``weight`` in their dtype. A function, so that all else is freed at its end."""
    logits = F.linear(x, weight).to(_exact(x))
    logits[:, vocab_size:] = -torch.inf
    targets, counts = targets.unsqueeze(1), counts.unsqueeze(1)
    largest = logits.amax(dim=-1, keepdim=True)
    target_logits = logits.gather(1, targets) - largest
    e = logits.sub_(largest).exp_()
    del logits
    z = e.sum(dim=-1, keepdim=True)
    target_log_probs = target_logits - z.log()
    loss = -target_log_probs.where(counts, 0).sum()
    if not (needs_hidden or needs_weight):
        return loss, None, None
    if x.dtype != e.dtype:  # half precision rounds z and x / z, and float16 ends below the z of a large vocabulary
        e, z = e.div_(z), torch.ones_like(z)
    g = e.to(x.dtype)
    del e
    g.scatter_(1, targets, (target_log_probs.expm1() * z).to(x.dtype))
    dx = ((g @ weight) / z).where(counts, 0).to(x.dtype) if needs_hidden else None
    dw = g.T @ (x / z).where(counts, 0).to(x.dtype) if needs_weight else None
    return loss, dx, dw
