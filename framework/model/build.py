"""Builds a model with random weights from the config: any causal language model that transformers knows."""

from __future__ import annotations

import difflib
import math
from functools import partial
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from framework.config.schema import Config, ModelConfig
from framework.errors import ConfigError
from framework.model.language_model import LanguageModel
from framework.model.unfilled import build_unfilled
from framework.plugins.registry import active_plugins

# Every transformers architecture has its own names for dropout; those it has are set, the others are not made up.
_DROPOUT_KEYS = (
    "resid_pdrop", "embd_pdrop", "attn_pdrop", "attention_dropout", "hidden_dropout", "embedding_dropout", "dropout",
)  # fmt: skip

# Under these keys transformers keeps attention from looking far back, with masks that ours would take the place of.
_WINDOW_KEYS = ("sliding_window", "attention_chunk_size")
_PROBE_TOKENS = 8
_PROBE_TOLERANCE = 1e-3
"""Of the largest logit. Rounding gives 1e-6; another document's tokens or positions change logits by hundredths and more."""


def build_model(config: Config, vocab_size: int, end_of_text_id: int, *, weights_follow: bool = False) -> LanguageModel:
    """A model initialised at random from ``config.seed``, the same on every rank.

    Args:
        config: of the run.
        vocab_size: of the tokenizer; the embedding is padded to ``model.pad_vocab_to_multiple``.
        end_of_text_id: token id.
        weights_follow: a checkpoint will overwrite all trained weights: a model of transformers may be left without numbers.

    Raises:
        ConfigError: an unknown architecture, keys it does not have, or one that cannot keep documents apart and is to.
    """
    torch.manual_seed(config.seed)
    transformer = _build_transformer(config, vocab_size, end_of_text_id, weights_follow=weights_follow)
    if not config.model.document_mask:
        return LanguageModel(transformer, vocab_size)
    model = LanguageModel(transformer, vocab_size, first_token_id=end_of_text_id)
    if not weights_follow:  # which were there before, and so has the mask been
        _refuse_if_documents_are_seen(model, config.model, end_of_text_id)
    return model


def _build_transformer(config: Config, vocab_size: int, end_of_text_id: int, *, weights_follow: bool) -> nn.Module:
    for active in active_plugins(config):
        factory = active.plugin.models.get(config.model.architecture)
        if factory is not None:
            return factory(config, vocab_size, end_of_text_id)
    hf_config = transformers_config(config.model, vocab_size, end_of_text_id)
    if weights_follow:
        return build_unfilled(lambda: _from_config(hf_config))
    return _from_config(hf_config)


def _refuse_if_documents_are_seen(model: LanguageModel, config: ModelConfig, end_of_text_id: int) -> None:
    """Asks the model itself: the second of two short documents in a row must come out as it does alone.

    Raises:
        ConfigError: it does not, the transformer takes no such mask or positions, or has a mask that ours would replace.
    """
    refuse = partial(ConfigError, fix="set model.document_mask=false, or choose another model.architecture")
    of_transformers = getattr(model.transformer, "config", None)
    for key in _WINDOW_KEYS:
        window = getattr(of_transformers, key, None)
        if window is not None and window < config.context_length:
            raise refuse(
                f"model.document_mask true, but {config.architecture} has a mask of its own: "
                f"{key} {window} is below model.context_length {config.context_length}"
            )
    length = min(_PROBE_TOKENS, config.context_length // 2)
    documents = 1 + torch.arange(2 * length).view(2, length) % (model.vocab_size - 1)
    documents[:, :1] = end_of_text_id
    try:
        with torch.no_grad():
            together = model.eval().logits(documents.view(1, -1))[0, length:]
            alone = model.logits(documents[1:])[0]
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise refuse(
            f"model.document_mask true, but {config.architecture} takes no mask and positions of ours: "
            f"{' '.join(str(error).split())}"
        ) from error
    finally:
        model.train()
    if not torch.allclose(together, alone, rtol=0, atol=_PROBE_TOLERANCE * float(alone.abs().max())):
        raise refuse(f"model.document_mask true, but {config.architecture} sees more of a row than the document")


def _from_config(hf_config: PreTrainedConfig) -> nn.Module:
    """Random weights; torch's fused attention where the architecture has it.

    Raises:
        ConfigError: transformers cannot build it from these sizes.
    """
    try:
        model: nn.Module = AutoModelForCausalLM.from_config(hf_config, attn_implementation="sdpa")
    except (ValueError, NotImplementedError, ImportError):
        try:
            model = AutoModelForCausalLM.from_config(hf_config, attn_implementation="eager")
        except (ValueError, NotImplementedError, ImportError, TypeError) as error:
            raise ConfigError(
                f"transformers cannot build a causal {hf_config.model_type}: {' '.join(str(error).split())}",
                fix="choose another model.architecture, or set what it lacks under model.overrides",
            ) from error
    return model


def transformers_config(model: ModelConfig, vocab_size: int, end_of_text_id: int) -> PreTrainedConfig:
    """The transformers configuration of ``model``; its ``vocab_size`` is the padded one.

    Raises:
        ConfigError: as ``build_model``.
    """
    _refuse_unknown_architecture(model.architecture)
    defaults = CONFIG_MAPPING[model.architecture]()
    values: dict[str, Any] = {
        "vocab_size": padded_vocab_size(vocab_size, model.pad_vocab_to_multiple),
        "hidden_size": model.width,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "max_position_embeddings": model.context_length,
        "bos_token_id": end_of_text_id,
        "eos_token_id": end_of_text_id,
        "use_cache": False,
        **{key: model.dropout for key in _DROPOUT_KEYS if hasattr(defaults, key)},
    }
    # The defaults of these belong to that architecture's published size, not to ours.
    for key, value in (("intermediate_size", 4 * model.width), ("num_key_value_heads", model.heads)):
        if hasattr(defaults, key):
            values[key] = value
    unknown = [key for key in model.overrides if not hasattr(defaults, key)]
    if unknown:
        near = difflib.get_close_matches(unknown[0], list(defaults.to_dict()), n=1, cutoff=0.0)
        raise ConfigError(f"model.overrides.{unknown[0]} is no key of {model.architecture}", fix=f"write {near[0]}")
    try:
        hf_config: PreTrainedConfig = AutoConfig.for_model(model.architecture, **{**values, **model.overrides})
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise ConfigError(
            f"model.architecture {model.architecture} refuses its sizes: {' '.join(str(error).split())}",
            fix="correct them, or set what it wants under model.overrides",
        ) from error
    return hf_config


def padded_vocab_size(vocab_size: int, multiple: int) -> int:
    """The smallest multiple that holds the vocabulary."""
    return -(-vocab_size // multiple) * multiple


def _refuse_unknown_architecture(architecture: str) -> None:
    # Only who asks for an unknown one waits for the names: each is a module of its own, and all take seconds to import.
    if architecture in CONFIG_MAPPING and CONFIG_MAPPING[architecture] in MODEL_FOR_CAUSAL_LM_MAPPING:
        return
    known = [name for name, kind in CONFIG_MAPPING.items() if kind in MODEL_FOR_CAUSAL_LM_MAPPING]
    near = difflib.get_close_matches(architecture, known, n=1, cutoff=0.0)
    raise ConfigError(
        f"model.architecture {architecture!r} is no causal language model of transformers or of an active plugin",
        fix=f"write {near[0]!r}, or name the plugin that brings it under `plugins`",
    )


def count_elements(parameter: nn.Parameter) -> int:
    """Numbers in a parameter; one that bitsandbytes has packed holds two of them a byte, and remembers its shape."""
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else math.prod(packed.shape)


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
