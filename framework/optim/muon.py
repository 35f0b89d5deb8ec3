"""Muon for the matrices of the hidden layers, AdamW for everything else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) turns the momentum of a matrix into the nearest orthogonal
one, so that every direction learns at the same pace. The update is scaled to the size that AdamW's has (Liu et al. 2025,
arXiv:2502.16982, section 2.2), so both share one learning rate and one weight decay.

ZeRO cuts what it shares out anywhere, a matrix in the middle too. Momentum is elementwise and stays cut; only the update of a
cut matrix is put together, in every rank's memory, one matrix at a time. With ZeRO 1 and 2 that is one matrix for each border
between two ranks, with ZeRO 3 it is all of them (docs/decisions/0012-muon-of-our-own.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

ADAMW_MOMENTS, MUON_MOMENTS = ("exp_avg", "exp_avg_sq"), ("exp_avg",)
"""What each keeps of an element that it updates, by its key in the optimizer's state; both count their steps as well."""

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of Jordan's quintic: singular values above 0.002 come to between 0.7 and 1.2 in five steps."""
_STEPS = 5
_ADAMW_RMS = 0.2
"""Root mean square of the elements of AdamW's typical update, over its learning rate (Liu et al. 2025)."""

SumOverRanks = Callable[[torch.Tensor], None]


@dataclass(frozen=True)
class Piece:
    """Consecutive elements of a matrix that this rank updates.

    Args:
        tensor: the optimizer's, which may hold other parameters too.
        offset: where these elements begin in it, flattened.
        start: number of the first one in the flattened matrix.
        count: how many.
    """

    tensor: torch.Tensor
    offset: int
    start: int
    count: int

    def of(self, flat: torch.Tensor) -> torch.Tensor:
        """[count] view of these elements in a flat tensor of ``tensor``'s size."""
        return flat[self.offset : self.offset + self.count]


@dataclass(frozen=True)
class Matrix:
    """One matrix of the model, and what this rank has of it: all, a piece, or nothing.

    Args:
        shape: rows and columns.
        piece: None if other ranks have all of it; it may be of no elements.
        is_cut: whether several ranks have a piece each, which then sum up their parts of the update together.
    """

    shape: torch.Size
    piece: Piece | None
    is_cut: bool


class Muon(torch.optim.AdamW):
    """AdamW whose groups with ``is_muon`` are updated by Muon instead. Its state has ``exp_avg`` (the momentum) and ``step``.

    ``place`` has to be called before the first step. On several ranks all must step together.
    """

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float, **adamw: Any) -> None:
        super().__init__(groups, **adamw)
        self._momentum = momentum
        self._matrices: Sequence[Matrix] = ()
        self._sum_over_ranks: SumOverRanks = lambda _: None

    def place(self, matrices: Sequence[Matrix], sum_over_ranks: SumOverRanks) -> None:
        """Says where the matrices are; the same ones in the same order on all ranks.

        Args:
            matrices: of all groups with ``is_muon``.
            sum_over_ranks: sums a float32 tensor over the ranks, in place.
        """
        self._matrices, self._sum_over_ranks = matrices, sum_over_ranks

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of the groups as they are: DeepSpeed hands them over one after the other."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["is_muon"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        # As AdamW, it leaves alone what took no part in the loss: a block that was dropped.
        muon = [
            (tensor, group)
            for group in groups
            if group["is_muon"]
            for tensor in group["params"]
            if tensor.grad is not None
        ]
        if muon:
            self._step_matrices(dict(muon))

    def _step_matrices(self, group_of: dict[torch.Tensor, dict[str, Any]]) -> None:
        updates = {tensor: self._nesterov(tensor) for tensor in group_of}
        for tensor, group in group_of.items():
            tensor.mul_(1 - group["lr"] * group["weight_decay"])
        for matrix in self._matrices:
            piece = matrix.piece
            if piece is None and not matrix.is_cut:
                continue  # another rank's
            if piece is not None and piece.tensor not in updates:
                continue  # of another call
            whole = self._whole(matrix, updates)
            if piece is not None:
                rate = group_of[piece.tensor]["lr"] * _ADAMW_RMS * math.sqrt(max(matrix.shape))
                direction = orthogonalized(whole).reshape(-1)[piece.start : piece.start + piece.count]
                piece.of(piece.tensor.view(-1)).add_(direction, alpha=-rate)

    def _nesterov(self, tensor: torch.Tensor) -> torch.Tensor:
        """[count] flat: what momentum makes of the gradient, in the gradient's memory."""
        state, gradient = self.state[tensor], tensor.grad
        assert gradient is not None
        if not state:
            state["exp_avg"] = torch.zeros_like(tensor)
            state["step"] = torch.tensor(0.0)
        state["step"] += 1
        state["exp_avg"].lerp_(gradient, 1 - self._momentum)
        return gradient.lerp_(state["exp_avg"], self._momentum).view(-1)

    def _whole(self, matrix: Matrix, updates: dict[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """[rows, columns] float32: the update before it is made orthogonal. A cut one is summed from all ranks' pieces."""
        piece = matrix.piece
        if not matrix.is_cut and piece is not None:
            return piece.of(updates[piece.tensor]).view(matrix.shape)
        whole = torch.zeros(math.prod(matrix.shape), device=next(iter(updates)).device)
        if piece is not None:
            whole[piece.start : piece.start + piece.count] = piece.of(updates[piece.tensor])
        if matrix.is_cut:
            self._sum_over_ranks(whole)
        return whole.view(matrix.shape)


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """[rows, columns], as ``matrix``: its singular vectors, with singular values near 1, by five Newton-Schulz steps.

    bfloat16 on a GPU, where that is fast and accurate enough; float32 on a CPU, where long matrices iterate on their Gram matrix.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    X = matrix.T if is_tall else matrix
    X = X / (X.norm() + 1e-7)
    if matrix.is_cuda:
        X = _newton_schulz(X.bfloat16())
    elif X.shape[1] >= 2 * X.shape[0]:
        X = _newton_schulz_of_gram(X)
    else:
        X = _newton_schulz(X)
    return (X.T if is_tall else X).to(matrix.dtype)


def _newton_schulz(X: torch.Tensor) -> torch.Tensor:
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        A = X @ X.T
        X = torch.addmm(X, torch.addmm(A, A, A, beta=b, alpha=c), X, beta=a)
    return X


def _newton_schulz_of_gram(X: torch.Tensor) -> torch.Tensor:
    """The same polynomial of ``X``, with all but the last product between small square matrices.

    Half the time for GPT-2's 256 x 1,024 and 768 x 3,072 on a CPU, and as accurate in float32 (docs/experiments.md).
    """
    R = X @ X.T
    product = P = _polynomial(R)
    for _ in range(_STEPS - 1):
        R = P @ R @ P
        P = _polynomial(R)
        product = P @ product
    return product @ X


def _polynomial(R: torch.Tensor) -> torch.Tensor:
    """a + b R + c R²: what one step multiplies the matrix with."""
    a, b, c = _COEFFICIENTS
    P = torch.addmm(R, R, R, beta=b, alpha=c)
    P.diagonal().add_(a)
    return P
