"""The optimizer that the config names, over its groups of parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from framework.config.schema import OptimizerConfig
from framework.optim.muon import Muon


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW or Muon over ``parameter_groups``; the loop sets the rate of every step, the engine places Muon's matrices.

    Until then the rate is 0: without ZeRO in bf16, DeepSpeed takes a step of its own when it starts, which would shrink weights.
    """
    groups = parameter_groups(model, config)
    adamw: dict[str, Any] = {
        "lr": 0.0,
        "betas": (config.beta1, config.beta2),
        "eps": config.eps,
        "fused": True,
    }
    if config.kind == "muon":
        return Muon(groups, momentum=config.momentum, **adamw)
    return torch.optim.AdamW(groups, **adamw)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Up to three groups: the matrices that Muon updates, if it is chosen; other matrices and embeddings, which decay too;
    biases, norms and other vectors, which do not. Tied parameters count once.

    Works on parameters that ZeRO stage 3 has partitioned too: their shape is then in ``ds_shape``.
    """
    hidden = hidden_matrices(model) if config.kind == "muon" else {}
    of_muon, decayed, plain = list(hidden.values()), list[nn.Parameter](), list[nn.Parameter]()
    taken = set(map(id, of_muon))
    for parameter in model.parameters():
        if parameter.requires_grad and id(parameter) not in taken:
            (decayed if len(whole_shape(parameter)) >= 2 else plain).append(parameter)
    groups = [
        {"params": of_muon, "weight_decay": config.weight_decay, "is_muon": True},
        {"params": decayed, "weight_decay": config.weight_decay, "is_muon": False},
        {"params": plain, "weight_decay": 0.0, "is_muon": False},
    ]
    return [group for group in groups if group["params"]]


def hidden_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trained matrices of the repeated blocks by name, in the model's order; no embeddings, positions or output.

    What has three dimensions, as the stacked experts of a mixture, is no matrix: AdamW trains it.
    """
    outside = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    outside |= {id(output.weight) for output in map(_output_embeddings, model.modules()) if output is not None}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        # transformers numbers its blocks: `h.0.attn.c_attn.weight`. What stands once is no hidden layer.
        if any(part.isdigit() for part in name.split("."))
        and parameter.requires_grad
        and len(whole_shape(parameter)) == 2
        and id(parameter) not in outside
    }


def _output_embeddings(module: nn.Module) -> Any:
    """What transformers says gives the logits, in a module that it knows; None otherwise."""
    ask = getattr(module, "get_output_embeddings", None)
    return None if ask is None else ask()


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """Its shape before ZeRO stage 3 partitioned it."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape
