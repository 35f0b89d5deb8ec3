"""QLoRA's base (Dettmers et al. 2023, arXiv:2305.14314): frozen projections in 4 bits, through bitsandbytes.

Training holds them packed. Whoever only uses what was trained gets the same values unpacked (``round_to_nf4``): the answers
are those of training, and merging an adapter loses nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from framework.errors import ConfigError

_KIND = "nf4"


def refuse_missing_bitsandbytes() -> None:
    """Raises:
    ConfigError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "plugins.lora.quantization nf4 needs bitsandbytes, which is not installed",
            fix="pip install bitsandbytes, or leave plugins.lora.quantization out",
        )


def quantize_to_nf4(model: PreTrainedModel) -> None:
    """Replaces every projection inside ``model``, neither head nor output matrix, by one in 4 bits, on its device.

    Biases stay as they are; what is computed has the precision of the input.
    """
    bnb: Any = importlib.import_module("bitsandbytes")
    for name, module in _projections(model):
        weight, bias = _linear_weight(module), module.bias
        packed = bnb.nn.Linear4bit(weight.shape[1], weight.shape[0], bias=bias is not None, quant_type=_KIND)
        packed.weight = bnb.nn.Params4bit(weight.data, requires_grad=False, quant_type=_KIND)
        if bias is not None:
            packed.bias = bias
        # An evaluation on a CPU would otherwise pack them anew for its instructions, rounding once more; it wants sizes that are
        # multiples of 64, and training would go on with other weights.
        packed.support_avx512bf16_for_cpu = False
        model.base_model.set_submodule(name, packed.to(weight.device))
    # What peft asks for before it puts an adapter on such a module.
    model.is_loaded_in_4bit = True  # type: ignore[assignment]


def round_to_nf4(model: PreTrainedModel) -> None:
    """Gives every projection inside ``model`` the values that it has in 4 bits, in place and in its own precision."""
    functional: Any = importlib.import_module("bitsandbytes.functional")
    with torch.no_grad():
        for _, module in _projections(model):
            weight = _linear_weight(module)
            # As Params4bit does: the scales of blocks are quantized as well.
            packed, state = functional.quantize_4bit(weight.data, quant_type=_KIND, compress_statistics=True)
            rounded = functional.dequantize_4bit(packed, state)
            module.weight.copy_(rounded.T if isinstance(module, Conv1D) else rounded)


def _projections(model: PreTrainedModel) -> list[tuple[str, Any]]:
    return [
        (name, module) for name, module in model.base_model.named_modules() if isinstance(module, nn.Linear | Conv1D)
    ]


def _linear_weight(module: Any) -> torch.Tensor:
    """[outputs, inputs], as Linear has it and Conv1D has not."""
    weight: torch.Tensor = module.weight.T.contiguous() if isinstance(module, Conv1D) else module.weight
    return weight.detach()
