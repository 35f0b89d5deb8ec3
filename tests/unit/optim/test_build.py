from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from framework.config import build_config
from framework.config.schema import OptimizerConfig
from framework.model.build import build_model, count_parameters
from framework.model.language_model import LanguageModel
from framework.optim.build import build_optimizer, hidden_matrices, parameter_groups
from framework.optim.muon import Muon

ADAMW, MUON = OptimizerConfig(weight_decay=0.1), OptimizerConfig(kind="muon", weight_decay=0.1)


def model_of(**model: Any) -> LanguageModel:
    sizes = {"layers": 2, "width": 32, "heads": 4, "context_length": 16}
    return build_model(build_config({"model": {**sizes, **model}}, origin="test"), 50, 0)


def names_in(model: nn.Module, group: dict[str, Any]) -> set[str]:
    chosen = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in chosen}


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_biases_and_norms_do_not_decay_and_all_matrices_do(architecture: str) -> None:
    model = model_of(architecture=architecture)
    decayed, plain = parameter_groups(model, ADAMW)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert all("bias" in name or "norm" in name or ".ln_" in name for name in names_in(model, plain))
    assert not any("bias" in name or "norm" in name or ".ln_" in name for name in names_in(model, decayed))
    assert names_in(model, decayed) | names_in(model, plain) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("overrides", [{}, {"tie_word_embeddings": False}])
def test_every_parameter_is_there_once_also_when_it_is_tied(overrides: dict[str, Any]) -> None:
    model = model_of(overrides=overrides)
    parameters = [parameter for group in parameter_groups(model, ADAMW) for parameter in group["params"]]
    assert len({id(parameter) for parameter in parameters}) == len(parameters)
    assert sum(parameter.numel() for parameter in parameters) == count_parameters(model)


def test_tied_and_untied_embeddings_differ_by_one_matrix() -> None:
    counts = [
        sum(
            parameter.numel()
            for group in parameter_groups(model_of(overrides=overrides), ADAMW)
            for parameter in group["params"]
        )
        for overrides in ({"tie_word_embeddings": False}, {"tie_word_embeddings": True})
    ]
    assert counts[0] - counts[1] == 64 * 32


def test_frozen_parameters_and_empty_groups_are_left_out() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    (only,) = parameter_groups(model, ADAMW)
    assert [parameter.shape for parameter in only["params"]] == [(2, 3)]


def test_a_partitioned_parameter_is_judged_by_its_full_shape() -> None:
    model = nn.Linear(3, 2)
    for parameter in model.parameters():
        parameter.ds_shape = parameter.shape  # type: ignore[union-attr]
        parameter.data = torch.empty(0)
    assert [len(group["params"]) for group in parameter_groups(model, ADAMW)] == [1, 1]


def optimizer_at(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Built as engines build it, at the peak rate, as the loop sets it."""
    optimizer = build_optimizer(model, config)
    for group in optimizer.param_groups:
        assert group["lr"] == 0
        group["lr"] = config.lr
    return optimizer


def test_without_gradients_only_what_decays_shrinks() -> None:
    model = nn.Linear(3, 2)
    optimizer = optimizer_at(model, OptimizerConfig(lr=0.5, weight_decay=0.1))
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), weight * (1 - 0.5 * 0.1))
    assert torch.equal(model.bias.detach(), bias)


def test_a_step_is_the_one_of_the_paper() -> None:
    config = OptimizerConfig(lr=0.01, beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.2)
    model = nn.Linear(1, 1, bias=False)
    optimizer = optimizer_at(model, config)
    weight, mean, square = model.weight.item(), 0.0, 0.0
    for step, gradient in enumerate((0.3, -0.7, 0.1), start=1):
        model.weight.grad = torch.full_like(model.weight, gradient)
        optimizer.step()
        mean, square = 0.8 * mean + 0.2 * gradient, 0.9 * square + 0.1 * gradient**2
        weight *= 1 - 0.01 * 0.2
        weight -= 0.01 * (mean / (1 - 0.8**step)) / ((square / (1 - 0.9**step)) ** 0.5 + 1e-6)
        assert model.weight.item() == pytest.approx(weight, rel=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_muon_takes_the_matrices_of_the_blocks(architecture: str) -> None:
    model = model_of(architecture=architecture, overrides={"tie_word_embeddings": False})
    of_muon, decayed, plain = parameter_groups(model, MUON)
    assert [group["is_muon"] for group in (of_muon, decayed, plain)] == [True, False, False]
    assert [group["weight_decay"] for group in (of_muon, decayed, plain)] == [0.1, 0.1, 0.0]
    blocks = {
        name
        for name, parameter in model.named_parameters()
        if ("layers." in name or ".h." in name) and parameter.ndim == 2
    }
    assert names_in(model, of_muon) == blocks == set(hidden_matrices(model))
    positions = {"transformer.transformer.wpe.weight"} if architecture == "gpt2" else set()
    assert len(names_in(model, decayed)) == 2 + len(positions)
    assert positions <= names_in(model, decayed)


def test_a_model_without_blocks_has_nothing_for_muon() -> None:
    (only, *_) = parameter_groups(nn.Linear(3, 2), MUON)
    assert not only["is_muon"]
    assert isinstance(build_optimizer(nn.Linear(3, 2), MUON), Muon)


def test_an_output_layer_in_a_numbered_place_is_none_of_muons() -> None:
    class Head(nn.Sequential):
        def get_output_embeddings(self) -> nn.Module:
            return self[1]

    assert set(hidden_matrices(Head(nn.Linear(3, 3), nn.Linear(3, 8)))) == {"0.weight"}
