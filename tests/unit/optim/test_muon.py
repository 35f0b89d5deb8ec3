from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from framework.optim.muon import Matrix, Muon, Piece, orthogonalized

SHAPES = [(8, 8), (8, 20), (20, 8), (6, 64), (64, 6), (1, 5)]


def matrix_of(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_near_one_and_singular_vectors_stay(shape: tuple[int, int]) -> None:
    matrix = matrix_of(shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    seen = left.T @ orthogonalized(matrix) @ right.T
    assert values.min() > 0
    assert torch.all(seen.diagonal() > 0.6)
    assert torch.all(seen.diagonal() < 1.3)
    assert torch.allclose(seen - torch.diag(seen.diagonal()), torch.zeros_like(seen), atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_quintic_of_torchs_own_muon(shape: tuple[int, int]) -> None:
    """Against torch.optim.Muon, which iterates in bfloat16: one step of each from the same gradient, and a second one."""
    ours, theirs = torch.nn.Parameter(matrix_of(shape)), torch.nn.Parameter(matrix_of(shape))
    options = {"lr": 0.02, "weight_decay": 0.1}
    muon = Muon([{"params": [ours], "is_muon": True, **options}], momentum=0.9)
    muon.place([Matrix(torch.Size(shape), Piece(ours, 0, 0, ours.numel()), is_cut=False)], lambda _: None)
    torchs = torch.optim.Muon([theirs], momentum=0.9, adjust_lr_fn="match_rms_adamw", **options)
    for seed in (1, 2):
        ours.grad, theirs.grad = matrix_of(shape, seed), matrix_of(shape, seed)
        muon.step()
        torchs.step()
    step = 0.02 * 0.2 * math.sqrt(max(shape))  # what singular values of one come to
    assert torch.linalg.matrix_norm(ours - theirs, 2) < 0.1 * step


def test_a_vector_is_updated_as_adamw_does() -> None:
    ours, theirs = torch.nn.Parameter(torch.ones(5)), torch.nn.Parameter(torch.ones(5))
    groups = [{"params": [ours], "is_muon": False}]
    muon, adamw = Muon(groups, momentum=0.9, lr=0.1), torch.optim.AdamW([theirs], lr=0.1)
    for optimizer, parameter in ((muon, ours), (adamw, theirs)):
        parameter.grad = torch.arange(5.0)
        optimizer.step()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("cuts", [(0, 96), (0, 1, 96), (0, 40, 41, 96), (0, 96, 96)])
def test_a_matrix_that_ranks_share_is_updated_as_a_whole_one(cuts: tuple[int, ...]) -> None:
    """Ranks in turn: a sum over ranks is made of what each would give, which it tells when it is asked."""
    shape = (8, 12)
    spans = list(pairwise(cuts))
    gradient, weight = matrix_of(shape, 1), matrix_of(shape, 2)

    def updated(spans: list[tuple[int, int]]) -> torch.Tensor:
        parts = []
        for first, last in spans:
            part = torch.nn.Parameter(weight.view(-1)[first:last].clone())
            part.grad = gradient.view(-1)[first:last].clone()
            muon = Muon([{"params": [part], "is_muon": True, "lr": 0.1, "weight_decay": 0.0}], momentum=0.0)

            def everybodys(own: torch.Tensor, span: tuple[int, int] = (first, last)) -> None:
                others = gradient.reshape(-1).clone()
                others[slice(*span)] = 0
                own += others

            muon.place(
                [Matrix(torch.Size(shape), Piece(part, 0, first, last - first), is_cut=len(spans) > 1)], everybodys
            )
            muon.step()
            parts.append(part.detach())
        return torch.cat(parts)

    assert torch.equal(updated(spans), updated([(0, 96)]))


def test_a_matrix_without_a_gradient_is_left_alone_as_adamw_does() -> None:
    used, dropped = (torch.nn.Parameter(matrix_of((4, 6), seed)) for seed in (1, 2))
    before = dropped.detach().clone()
    muon = Muon([{"params": [used, dropped], "is_muon": True, "lr": 0.1, "weight_decay": 0.5}], momentum=0.9)
    muon.place([Matrix(each.shape, Piece(each, 0, 0, 24), is_cut=False) for each in (used, dropped)], lambda _: None)
    used.grad = matrix_of((4, 6), 3)
    muon.step()
    assert torch.equal(dropped, before)
    assert dropped not in muon.state
    assert not torch.equal(used, matrix_of((4, 6), 1))
