"""What the planner says autograd keeps, against the tensors that it keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from framework.config import build_config
from framework.model import linear_cross_entropy
from framework.model.build import build_model
from framework.planner.activations import CHUNK_ROWS, CHUNK_ROWS_ON_HOST, activations_of
from framework.planner.shape import shape_of

SEQUENCES, CONTEXT, VOCABULARY = 2, 64, 512
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {}),
    ("gpt_neox", {}),
    ("llama", {}),
    ("llama", {"num_key_value_heads": 2, "intermediate_size": 160}),
    ("qwen3", {"head_dim": 16}),
]


def config_of(architecture: str, overrides: dict[str, Any], precision: str, layers: int, **model: Any) -> Any:
    sizes = {"layers": layers, "width": 64, "heads": 4, "context_length": CONTEXT}
    return build_config(
        {
            "model": {"architecture": architecture, **sizes, "overrides": overrides, **model},
            "tokenizer": {"vocab_size": VOCABULARY},
            "data": {"shards_dir": "nowhere"},
            "engine": {
                "precision": precision,
                "micro_batch_size": SEQUENCES,
                "global_batch_size": SEQUENCES,
            },
        },
        origin="test",
    )


def kept_bytes(config: Any, *, recomputes: bool = False, compiles: bool = False) -> int:
    """Of all storages that autograd saves in a forward pass, the model's own weights aside."""
    model = build_model(config, VOCABULARY, 0).to(DTYPES[config.engine.precision])
    if compiles:  # what is kept is decided as always; no machine code is made of it
        torch._dynamo.reset()
        model.compile(backend="aot_eager_decomp_partition")
    if recomputes:
        model.transformer.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(0, VOCABULARY, (SEQUENCES, CONTEXT))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(ids, ids)
    assert torch.isfinite(loss)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize(("architecture", "overrides"), MODELS)
def test_a_block_keeps_what_is_planned_to_the_byte(
    architecture: str, overrides: dict[str, Any], precision: str
) -> None:
    one, two = (config_of(architecture, overrides, precision, layers) for layers in (1, 2))
    planned = activations_of(shape_of(one), one.engine, on_host=True)
    assert kept_bytes(two) - kept_bytes(one) == planned.block_bytes


@pytest.mark.slow
@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize(
    ("architecture", "overrides"),
    [model for model in MODELS if model[0] != "gpt_neox"],  # inductor spares it one copy more
)
def test_a_compiled_block_keeps_what_is_planned(architecture: str, overrides: dict[str, Any], precision: str) -> None:
    one, two = (config_of(architecture, overrides, precision, layers) for layers in (2, 3))
    engine = one.engine.model_copy(update={"compile": True})
    planned = activations_of(shape_of(one), engine, on_host=True)
    with torch._functorch.config.patch(ban_recompute_materialized_backward=False):
        kept = kept_bytes(two, compiles=True) - kept_bytes(one, compiles=True)
    assert kept == pytest.approx(planned.block_bytes, rel=0.01)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_recomputing_keeps_a_blocks_input_alone(architecture: str) -> None:
    one, two = (config_of(architecture, {}, "fp32", layers) for layers in (1, 2))
    planned = activations_of(shape_of(one), one.engine, on_host=True)
    assert kept_bytes(two, recomputes=True) - kept_bytes(one, recomputes=True) == planned.input_bytes


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("precision", DTYPES)
def test_what_is_kept_outside_the_blocks(architecture: str, precision: str) -> None:
    one, two = (config_of(architecture, {}, precision, layers) for layers in (1, 2))
    planned = activations_of(shape_of(one), one.engine, on_host=True)
    outside = 2 * kept_bytes(one) - kept_bytes(two) - planned.ahead_bytes
    assert outside == pytest.approx(planned.ends_bytes, rel=0.1)


def test_the_loss_takes_as_many_rows_at_a_time_as_is_planned() -> None:
    assert linear_cross_entropy.CHUNK_ROWS == {"cpu": CHUNK_ROWS_ON_HOST}
    assert linear_cross_entropy.CHUNK_ROWS_ELSEWHERE == CHUNK_ROWS


def test_attention_with_dropout_keeps_its_matrices_on_a_cpu() -> None:
    one, two = (config_of("gpt2", {}, "fp32", layers, dropout=0.1) for layers in (1, 2))
    planned = activations_of(shape_of(one), one.engine, on_host=True)
    assert kept_bytes(two) - kept_bytes(one) == pytest.approx(planned.block_bytes, rel=0.05)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("precision", DTYPES)
def test_the_mask_between_documents_is_kept_once_for_all_blocks(architecture: str, precision: str) -> None:
    def config(layers: int, *, document_mask: bool) -> Any:
        return config_of(architecture, {}, precision, layers, document_mask=document_mask)

    plain, one, two = (
        config(1, document_mask=False),
        config(1, document_mask=True),
        config(2, document_mask=True),
    )
    before, after = (activations_of(shape_of(each), each.engine, on_host=True) for each in (plain, one))
    assert kept_bytes(two) - kept_bytes(one) == after.block_bytes == before.block_bytes
    added = kept_bytes(one) - kept_bytes(plain)
    assert added == pytest.approx(after.ends_bytes - before.ends_bytes, rel=0.04)  # each row has positions of its own
