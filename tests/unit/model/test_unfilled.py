from __future__ import annotations

import pytest
import torch
from torch import nn

from framework.config import build_config
from framework.model.build import build_model
from framework.model.unfilled import build_unfilled

SIZES = {"layers": 2, "width": 32, "heads": 2, "context_length": 16}


def built(architecture: str, *, weights_follow: bool) -> nn.Module:
    config = build_config({"seed": 5, "model": {**SIZES, "architecture": architecture}}, origin="test")
    return build_model(config, 50, 0, weights_follow=weights_follow)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox"])
def test_what_no_checkpoint_brings_is_as_ever(architecture: str) -> None:
    filled, unfilled = (built(architecture, weights_follow=follows) for follows in (False, True))
    assert unfilled.state_dict().keys() == filled.state_dict().keys()
    assert dict(unfilled.named_parameters()).keys() == dict(filled.named_parameters()).keys()  # tied ones once
    buffers = dict(unfilled.named_buffers())
    assert buffers.keys() == dict(filled.named_buffers()).keys()
    for name, expected in filled.named_buffers():
        assert torch.equal(buffers[name], expected), name
    with torch.no_grad():
        for name, parameter in filled.named_parameters():
            unfilled.get_parameter(name).copy_(parameter)
    tokens = torch.arange(8).reshape(1, 8)
    filled.eval()
    unfilled.eval()
    assert torch.equal(unfilled(tokens, tokens), filled(tokens, tokens))


def test_nothing_is_drawn_for_weights_that_follow() -> None:
    torch.manual_seed(5)
    expected = torch.get_rng_state()
    built("gpt2", weights_follow=True)
    assert torch.equal(torch.get_rng_state(), expected)


class Drawn(nn.Module):
    def __init__(self, *, frozen: bool = False, buffer: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.other = nn.Linear(4, 4).requires_grad_(not frozen)
        if buffer:
            self.register_buffer("noise", torch.randn(4))


@pytest.mark.parametrize("kind", [{"frozen": True}, {"buffer": True}])
def test_where_more_than_trained_weights_is_drawn_everything_is(kind: dict[str, bool]) -> None:
    torch.manual_seed(1)
    expected = Drawn(**kind).state_dict()
    torch.manual_seed(1)
    found = build_unfilled(lambda: Drawn(**kind)).state_dict()
    for name, values in expected.items():
        assert torch.equal(found[name], values), name
