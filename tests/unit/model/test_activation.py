"""GPT-2's activation function in one operation is the function that transformers computes in eight."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.activations import GELUTanh, NewGELUActivation

from framework.model.activation import TanhGelu, fuse_activations

# Where the function bends, its flat ends, and numbers whose cube is no float32 any more.
NUMBERS = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-0.0, 1e-30, 3e4, -3e4, 1e15, -1e15])])


def value_and_slope(activation: nn.Module, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = NUMBERS.to(dtype).requires_grad_()
    value = activation(numbers)
    (slope,) = torch.autograd.grad(value.sum(), numbers)
    return value.detach(), slope


@pytest.mark.parametrize("is_compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_value_and_slope_are_those_of_transformers_in_float64(is_compiled: bool) -> None:
    activation = torch.compile(TanhGelu(), fullgraph=True) if is_compiled else TanhGelu()
    value, slope = value_and_slope(activation, torch.float32)
    expected_value, expected_slope = value_and_slope(NewGELUActivation(), torch.float64)
    torch.testing.assert_close(value.double(), expected_value, rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(slope.double()[:-4], expected_slope[:-4], rtol=1e-6, atol=2e-6)
    assert torch.isfinite(slope).all()


def test_both_forms_are_the_same_function() -> None:
    compiled_form = torch.compile(
        TanhGelu(), backend="eager", fullgraph=True
    )  # what is compiled, computed without a compiler
    for ours, compiled in zip(
        value_and_slope(TanhGelu(), torch.float64), value_and_slope(compiled_form, torch.float64), strict=True
    ):
        torch.testing.assert_close(compiled, ours, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "kind"), [("gelu_new", NewGELUActivation), ("gelu_pytorch_tanh", GELUTanh)])
def test_a_model_keeps_its_names_and_its_config(name: str, kind: type[nn.Module]) -> None:
    sizes = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 64, "n_positions": 16}
    special = {"bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **special, activation_function=name)).eval()
    ids = torch.arange(16)[None]
    before, names = model(ids).logits, list(model.state_dict())
    fuse_activations(model)
    assert not any(isinstance(module, kind) for module in model.modules())
    assert sum(isinstance(module, TanhGelu) for module in model.modules()) == 2
    torch.testing.assert_close(model(ids).logits, before, rtol=1e-5, atol=1e-6)
    assert list(model.state_dict()) == names
    assert model.config.activation_function == name


def test_other_functions_stay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.SiLU())
    fuse_activations(model)
    assert [type(module) for module in model] == [nn.Linear, nn.GELU, nn.SiLU]
