"""Low-rank adapters around a model, by peft: the only module that imports it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from framework.errors import ConfigError, UserError
from framework.plugins.lora.options import AdapterOptions

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

ALL_LINEAR = "all-linear"
_HEAD = "score"
_TASKS = {"classification": "SEQ_CLS", "causal_lm": "CAUSAL_LM"}


def add_adapters(model: PreTrainedModel, options: AdapterOptions, *, task: str, base_name: str) -> PeftModel:
    """Wraps ``model``: its weights are frozen, and each target gets an adapter that begins as the identity.

    The head of a classifier is trained whole, and belongs to the adapter. Draws from torch's generator.

    Raises:
        ConfigError: a target names no projection of the model.
    """
    from peft import get_peft_model

    model.name_or_path = base_name  # what adapter_config.json says the adapter is for
    with warnings.catch_warnings():
        # GPT-2's Conv1D keeps its weight the other way round; peft notices, acts on it, and warns.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
        adapted: PeftModel = get_peft_model(model, _lora_config(model, options, task))
    _refuse_nothing_adapted(adapted, options.targets)
    return adapted


def _lora_config(model: PreTrainedModel, options: AdapterOptions, task: str) -> LoraConfig:
    from peft import LoraConfig

    targets: Any = ALL_LINEAR
    if options.targets != (ALL_LINEAR,):
        refuse_unknown_targets(options.targets, projections(model))
        targets = list(options.targets)
    return LoraConfig(
        task_type=_TASKS[task],
        r=options.rank,
        lora_alpha=options.alpha,  # type: ignore[arg-type]  # peft takes any number
        lora_dropout=options.dropout,
        target_modules=targets,
        use_rslora=options.rslora,
        use_dora=options.dora,
        bias="none",
        modules_to_save=[_HEAD] if task == "classification" else None,
    )


def projections(model: torch.nn.Module) -> list[str]:
    """Last parts of the names of all modules that an adapter can sit on, each once: neither output matrix nor head is one."""
    inside = model.base_model if isinstance(model, PreTrainedModel) else model
    names = (
        name.rpartition(".")[2]
        for name, module in inside.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    )
    return list(dict.fromkeys(names))


def refuse_unknown_targets(targets: Sequence[str], there: Sequence[str]) -> None:
    """Raises:
    ConfigError: one of ``targets`` is none of the projections ``there``.
    """
    for target in targets:
        if target not in there:
            raise ConfigError(
                f"plugins.lora.adapter.targets: {target!r} names no projection of the model",
                fix=f"choose from {', '.join(there)}, or write [{ALL_LINEAR}]",
            )


def _refuse_nothing_adapted(adapted: Any, targets: Sequence[str]) -> None:
    if not any("lora_A" in name for name, parameter in adapted.named_parameters() if parameter.requires_grad):
        raise ConfigError(
            f"plugins.lora.adapter.targets {list(targets)} matched no module, so nothing would be trained",
            fix=f"write [{ALL_LINEAR}]",
        )


def set_dropout(model: torch.nn.Module, dropout: float) -> None:
    """Of all the base's layers, whatever they are called: the value that pretraining had was chosen for pretraining."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
        elif isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", dropout)  # noqa: B010 - torch types attributes as tensors


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """``model`` with the adapter of ``folder``, for use.

    Raises:
        UserError: the folder holds no adapter that fits it.
    """
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")  # peft would leave them random
            return PeftModel.from_pretrained(model, str(folder), is_trainable=False)
    except KeyError as error:  # peft's own words where the head is missing
        raise UserError(
            f"adapter {folder} does not fit the base: it lacks {error}", fix="give it the base that it was made on"
        ) from error
    except (OSError, ValueError, RuntimeError, SafetensorError, UserWarning) as error:
        raise UserError(
            f"adapter {folder} does not fit the base: {' '.join(str(error).split())[:300]}",
            fix="give it the base that it was made on",
        ) from error


def merged(model: Any) -> torch.nn.Module:
    """The base of a ``PeftModel`` with the adapters worked into its weights: the same outputs, and no adapter any more."""
    whole: torch.nn.Module = model.merge_and_unload()
    return whole
