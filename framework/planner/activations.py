"""What the forward pass keeps for the backward pass, and what a block and the loss need beside it. No torch.

Counted, tensor by tensor, in what autograd saves of transformers' models with torch's fused attention, eager and compiled as
``framework.engine.build`` does it: ``tests/unit/planner/test_activations.py`` compares with the saved tensors themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from framework.config.schema import EngineConfig
from framework.planner.shape import ModelShape

CHUNK_ROWS, CHUNK_ROWS_ON_HOST = 4096, 1024
"""Of logits at a time (``framework.model.linear_cross_entropy``)."""


@dataclass(frozen=True)
class Activations:
    """Bytes of one micro-batch on one rank."""

    block_bytes: int
    """What the backward pass of one block reads."""
    input_bytes: int
    """What a block is computed from: all that is kept of it with activation checkpointing."""
    ends_bytes: int
    """Kept outside the blocks: ids, positions, the mask between documents, the last norm."""
    logits_bytes: int
    """At the loss, while it computes a chunk of rows: hidden states, logits, exponentials, the output matrix's gradient."""
    ahead_bytes: int
    """Gradients that the loss has computed in its forward pass: of the hidden states, and of the output matrix in float32."""
    output_gradient_bytes: int
    """The output matrix's, from the loss's backward pass on; a tied one waits for the embedding's to be added to it."""
    working_bytes: int
    """What a block's backward pass has in hand at once beyond what it has freed: gradients of activations."""


def activations_of(shape: ModelShape, engine: EngineConfig, *, on_host: bool) -> Activations:
    """For micro-batches of ``engine.micro_batch_size`` sequences."""
    tokens = engine.micro_batch_size * shape.context_length
    element = 4 if engine.precision == "fp32" else 2
    width, inner = shape.width, shape.intermediate
    fused = engine.compile
    per_token = (
        element * _compiled_block_elements(shape) + _compiled_block_statistics(shape)
        if fused
        else element * _block_elements(shape) + _block_statistics(shape, element)
    )
    if shape.dropout:
        per_token += _dropout_bytes(shape, element, on_host)
    if shape.norm == "rms":
        ends = 2 * element * width + (4 - element) * width + 4
        rotary = 2 * element * shape.head_width * (tokens if shape.document_mask else shape.context_length)
    else:
        ends, rotary = element * width + 2 * element, 0
    if shape.document_mask:  # one for all blocks
        ends += element * shape.context_length
    output = shape.vocab_rows * width
    rows = min(tokens, CHUNK_ROWS_ON_HOST if on_host else CHUNK_ROWS)
    # Logits and their exponentials: compiled in the compute precision, else in float32, the ones in place of the others. Then
    # their gradient beside the matrix's.
    before = 2 * element if fused else 4 if element == 4 else 4 + element
    logits = max(before * rows * shape.vocab_rows, element * (rows * shape.vocab_rows + output))
    return Activations(
        block_bytes=tokens * per_token,
        input_bytes=tokens * element * width,
        ends_bytes=tokens * (ends + 16) + rotary,
        logits_bytes=logits + tokens * element * width,
        ahead_bytes=tokens * element * width + 4 * output,
        output_gradient_bytes=element * output,
        working_bytes=tokens * element * ((2 if shape.is_gated else 1) * inner + 2 * width),
    )


def _compiled_block_elements(shape: ModelShape) -> int:
    """Per token and block: what products and attention gave. All else the backward pass computes again."""
    inputs = 2 * shape.width
    if shape.architecture == "gpt_neox":
        # The values lie in what was one product with queries and keys, before their rotation.
        inputs += shape.query_width + shape.key_value_width
    heads = shape.query_width + shape.key_value_width if shape.normalises_heads else 0
    copied = shape.key_value_width if shape.key_value_heads < shape.heads else 0
    attention = 2 * shape.query_width + 2 * shape.key_value_width + heads + copied
    return inputs + attention + (2 if shape.is_gated else 1) * shape.intermediate


def _compiled_block_statistics(shape: ModelShape) -> int:
    """Per token and block, in bytes: of attention, of two norms, and of each head's if they have them."""
    heads = 4 * (shape.heads + shape.key_value_heads) if shape.normalises_heads else 0
    return 4 * shape.heads + 8 + heads


def _block_elements(shape: ModelShape) -> int:
    """Per token and block, of the compute precision."""
    width, inner, query, key_value = shape.width, shape.intermediate, shape.query_width, shape.key_value_width
    if shape.architecture == "gpt2":
        # Both norms' inputs and outputs; queries, keys and values as one; what attention gives, before its projection.
        attention = 4 * width + query + 2 * key_value + query
        return attention + 2 * inner
    if (
        shape.architecture == "gpt_neox"
    ):  # one input for both norms; rotated queries and keys beside the values' storage
        return 3 * width + 2 * (query + 2 * key_value) + query + 2 * inner
    norms = 6 * width if shape.norm == "rms" else 4 * width  # input, normalised, scaled: twice
    heads = 2 * (query + key_value) if shape.normalises_heads else 0
    return norms + 2 * query + 2 * key_value + heads + 4 * inner


def _block_statistics(shape: ModelShape, element: int) -> int:
    """Per token and block, in bytes: what norms and attention remember, and copies that they make in float32."""
    attention = 4 * shape.heads
    if shape.norm == "layer":
        return attention + 4 * element
    rounded = 2 * (4 - element) * shape.width
    heads = 4 * (shape.heads + shape.key_value_heads) if shape.normalises_heads else 0
    if shape.normalises_heads:
        rounded += (4 - element) * (shape.query_width + shape.key_value_width)
    return attention + 8 + rounded + heads


def _dropout_bytes(shape: ModelShape, element: int, on_host: bool) -> int:
    """Per token and block: masks. On a CPU attention with dropout is not fused, and keeps its whole matrices."""
    if on_host:
        return element * (2 * shape.width + 3 * shape.heads * shape.context_length)
    return 2 * shape.width
