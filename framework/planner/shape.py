"""The sizes of a model, from the config alone: parameters, FLOPs and the vocabulary. No torch.

Counted as transformers builds them (``tests/unit/planner/test_shape.py`` compares with the built models).
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import Any, Literal

from framework.config import Config
from framework.errors import ConfigError

_DEFAULT_BPE_VOCAB_SIZE = 4096
# Of tokenizers that are on the hub, which the planner does not ask.
_KNOWN_VOCAB_SIZES = {
    "gpt2": 50257,
    "openai-community/gpt2": 50257,
    "EleutherAI/gpt-neox-20b": 50277,
    "mistralai/Mistral-7B-v0.1": 32000,
}


@dataclass(frozen=True)
class _Family:
    """What the sizes do not say of an architecture, with the keys under which ``model.overrides`` may change it."""

    attention: Literal["fused", "separate"]
    is_gated: bool = True
    norm: Literal["layer", "rms"] = "rms"
    is_tied: bool = False
    has_learned_positions: bool = False
    has_biases: bool = False
    has_qkv_bias: bool = False
    normalises_heads: bool = False
    head_width: int | None = None


_FAMILIES = {
    "gpt2": _Family(
        "fused",
        is_gated=False,
        norm="layer",
        is_tied=True,
        has_learned_positions=True,
        has_biases=True,
    ),
    "gpt_neox": _Family("fused", is_gated=False, norm="layer", has_biases=True),
    "llama": _Family("separate"),
    "mistral": _Family("separate"),
    "qwen2": _Family("separate", has_qkv_bias=True),
    "qwen3": _Family("separate", normalises_heads=True, head_width=128),
}


@dataclass(frozen=True)
class ModelShape:
    """A decoder's sizes; elements, not bytes."""

    architecture: str
    layers: int
    width: int
    heads: int
    key_value_heads: int
    head_width: int
    intermediate: int
    context_length: int
    vocab_size: int
    vocab_rows: int
    is_gated: bool
    is_tied: bool
    has_learned_positions: bool
    has_biases: bool
    has_qkv_bias: bool
    has_output_bias: bool
    normalises_heads: bool
    norm: Literal["layer", "rms"]
    dropout: float
    document_mask: bool

    @property
    def query_width(self) -> int:
        return self.heads * self.head_width

    @property
    def key_value_width(self) -> int:
        return self.key_value_heads * self.head_width

    @property
    def layer_matrix_sizes(self) -> tuple[tuple[int, int], ...]:
        """The two sides of each weight matrix of one block, whichever way round it is stored."""
        width, query, key_value = self.width, self.query_width, self.key_value_width
        if self.architecture in ("gpt2", "gpt_neox"):
            attention: tuple[tuple[int, int], ...] = ((width, query + 2 * key_value), (query, width))
        else:
            attention = ((width, query), (width, key_value), (width, key_value), (query, width))
        return attention + ((width, self.intermediate),) * (3 if self.is_gated else 2)

    @property
    def layer_matrices(self) -> tuple[int, ...]:
        """Elements of each weight matrix of one block."""
        return tuple(rows * columns for rows, columns in self.layer_matrix_sizes)

    @property
    def orthogonalizing_flops(self) -> float:
        """Of one step of Muon over all blocks, as ``framework.optim.muon`` multiplies on a GPU: five times three products."""
        sides = [(float(min(size)), float(max(size))) for size in self.layer_matrix_sizes]
        return self.layers * sum(5 * (4 * short**2 * long + 2 * short**3) for short, long in sides)

    @property
    def layer_vectors(self) -> int:
        """Elements of the biases and norms of one block."""
        width, query, key_value = self.width, self.query_width, self.key_value_width
        norms = 2 * width * (2 if self.norm == "layer" else 1)
        biases = 0
        if self.has_qkv_bias or self.has_biases:
            biases += query + 2 * key_value
        if self.has_biases:
            biases += 2 * width + self.intermediate
        elif self.has_output_bias:
            biases += width
        return norms + biases + (2 * self.head_width if self.normalises_heads else 0)

    @property
    def layer_parameters(self) -> int:
        return sum(self.layer_matrices) + self.layer_vectors

    @property
    def embedding_matrices(self) -> tuple[int, ...]:
        """Elements of the matrices outside the blocks: tokens, positions, and the output's if it is one of its own."""
        tokens = self.vocab_rows * self.width
        positions = (self.context_length * self.width,) if self.has_learned_positions else ()
        return (tokens, *positions, *(() if self.is_tied else (tokens,)))

    @property
    def final_norm(self) -> int:
        return self.width * (2 if self.norm == "layer" else 1)

    @property
    def parameters(self) -> int:
        """All of them, tied ones once."""
        return self.layers * self.layer_parameters + sum(self.embedding_matrices) + self.final_norm

    @property
    def matrix_parameters(self) -> int:
        """Those that decay (``framework.optim``)."""
        return self.layers * sum(self.layer_matrices) + sum(self.embedding_matrices)

    @property
    def largest_parameter(self) -> int:
        return max(*self.layer_matrices, *self.embedding_matrices)

    @property
    def product_parameters(self) -> int:
        """Those that take part in a matrix product: all but look-ups. A tied embedding is the output matrix as well."""
        look_ups = sum(self.embedding_matrices) - self.vocab_rows * self.width
        return self.parameters - look_ups

    @property
    def training_flops_per_token(self) -> float:
        """Forward and backward: 6 per parameter in a product, and 12 x layers x width x context for attention (Chowdhery et al.
        2022, PaLM, arXiv:2204.02311, appendix B), the same as ``framework.metrics.hardware`` counts."""
        return 6.0 * self.product_parameters + 12.0 * self.layers * self.query_width * self.context_length


def shape_of(config: Config) -> ModelShape:
    """The sizes of the model that ``config`` describes.

    Raises:
        ConfigError: an architecture whose sizes the planner does not know, or a vocabulary that is not known yet.
    """
    model = config.model
    family = _FAMILIES.get(model.architecture)
    if family is None:
        near = difflib.get_close_matches(model.architecture, _FAMILIES, n=1, cutoff=0.0)
        raise ConfigError(
            f"model.architecture {model.architecture!r} has sizes that the planner does not know (it knows "
            f"{', '.join(_FAMILIES)})",
            fix=f"plan with the one that is nearest to it, such as model.architecture={near[0]}",
        )
    vocab_size = vocabulary_size(config)
    multiple = model.pad_vocab_to_multiple
    overrides = model.overrides
    head_width = _integer(overrides, "head_dim", family.head_width or model.width // model.heads)
    has_biases = family.has_biases or bool(overrides.get("mlp_bias"))
    return ModelShape(
        architecture=model.architecture,
        layers=model.layers,
        width=model.width,
        heads=model.heads,
        key_value_heads=_integer(overrides, "num_key_value_heads", model.heads),
        head_width=head_width,
        intermediate=_integer(overrides, "intermediate_size", _integer(overrides, "n_inner", 4 * model.width)),
        context_length=model.context_length,
        vocab_size=vocab_size,
        vocab_rows=-(-vocab_size // multiple) * multiple,
        is_gated=family.is_gated,
        is_tied=bool(overrides.get("tie_word_embeddings", family.is_tied)),
        has_learned_positions=family.has_learned_positions,
        has_biases=has_biases,
        has_qkv_bias=family.has_qkv_bias or bool(overrides.get("attention_bias")),
        has_output_bias=bool(overrides.get("attention_bias")),
        normalises_heads=family.normalises_heads,
        norm=family.norm,
        dropout=model.dropout,
        document_mask=model.document_mask,
    )


def vocabulary_size(config: Config) -> int:
    """Of the shards if they are there, else as the config says or its tokenizer is known to have.

    Raises:
        ConfigError: none of these tells it.
    """
    manifest = config.data.parts[0].shards_dir / "manifest.json"
    try:
        prepared = json.loads(manifest.read_text(encoding="utf-8"))["vocab_size"]
    except (OSError, ValueError, KeyError, TypeError):
        prepared = None  # not prepared yet; that a manifest is damaged, training says
    if is_count(prepared):
        return int(prepared)
    tokenizer = config.tokenizer
    if tokenizer.vocab_size is not None:
        return tokenizer.vocab_size
    if tokenizer.kind == "train_bpe":
        return _DEFAULT_BPE_VOCAB_SIZE
    known = _KNOWN_VOCAB_SIZES.get(str(tokenizer.path))
    if known is None:
        raise ConfigError(
            f"tokenizer.path {tokenizer.path} has a vocabulary of unknown size, and {manifest} is not there yet",
            fix="name its size, such as tokenizer.vocab_size=32000, or run `zerostream prepare` first",
        )
    return known


def _integer(values: dict[str, Any], key: str, default: int) -> int:
    value = values.get(key)
    if value is None:
        return default
    if not is_count(value):
        raise ConfigError(f"model.overrides.{key} is {value!r}", fix="write a whole number above 0, or leave it out")
    return int(value)


def is_count(value: object) -> bool:
    """Whether JSON or YAML gave a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
