"""What a step reads and what it keeps in memory: padding, and the bytes of gradients and optimizer states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from framework.config import BatchPlan, build_config, plan_batch
from framework.data.stream import IGNORED_TARGET, Digest, StepBatch
from framework.engine import World, build_engine, join_world
from framework.model.build import count_parameters
from framework.plugins.lora.adapters import add_adapters
from framework.plugins.lora.classifier import SequenceClassifier, build_classifier
from framework.plugins.lora.examples import Example, ExampleStream
from framework.plugins.lora.options import AdapterOptions

PAD_ID, CLASSES, BATCH = 0, 3, 8
MOMENTS_AND_GRADIENT = 3 * 4
"""Bytes of a trained parameter: AdamW's two moments and the gradient, in float32."""


def example(length: int, label: int = 1) -> Example:
    """Its tokens say how long it is."""
    targets = np.full(length, IGNORED_TARGET, dtype=np.int64)
    targets[-1] = label
    return Example(np.full(length, length, dtype=np.int64), targets)


def first_step(lengths: list[int], *, micro_batch_size: int, ranks: int = 1) -> list[StepBatch]:
    """Each rank's share."""
    plan = BatchPlan(ranks, micro_batch_size, BATCH // micro_batch_size // ranks, BATCH, 64)
    examples = [example(length, label=number % CLASSES) for number, length in enumerate(lengths)]
    streams = [ExampleStream(examples, plan, seed=3, rank=rank, pad_id=PAD_ID) for rank in range(ranks)]
    return [next(stream.steps(0)) for stream in streams]


def lengths_in(batch: StepBatch) -> list[int]:
    return [length for each in batch.micro_batches for length in each.input_ids.max(dim=1).values.tolist()]


@given(
    st.lists(st.integers(1, 64), min_size=BATCH, max_size=40), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2])
)
def test_a_step_is_the_same_however_it_is_cut(lengths: list[int], micro_batch_size: int, ranks: int) -> None:
    [whole] = first_step(lengths, micro_batch_size=BATCH)
    parts = first_step(lengths, micro_batch_size=min(micro_batch_size, BATCH // ranks), ranks=ranks)
    assert sorted(length for part in parts for length in lengths_in(part)) == sorted(lengths_in(whole))
    assert sum((part.digest for part in parts), start=Digest()) == whole.digest
    assert sum(part.target_tokens for part in parts) == whole.target_tokens == BATCH
    for part in parts:
        assert lengths_in(part) == sorted(lengths_in(part), reverse=True)


def test_texts_of_one_length_stand_side_by_side() -> None:
    [batch] = first_step([8, 64] * (BATCH // 2), micro_batch_size=BATCH // 2)
    assert [tuple(each.input_ids.shape) for each in batch.micro_batches] == [(4, 64), (4, 8)]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with join_world(30) as joined:
        yield joined


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_frozen_has_no_gradient_and_no_moments(method: str, world: World) -> None:
    config = build_config(
        {"engine": {"kind": "reference", "micro_batch_size": 2, "global_batch_size": BATCH}}, origin="test"
    )
    base = GPT2LMHeadModel(GPT2Config(vocab_size=72, n_embd=16, n_layer=2, n_head=2, n_positions=64))
    transformer: Any = build_classifier(base, CLASSES, PAD_ID)
    whole = count_parameters(transformer)
    if method == "lora":
        transformer = add_adapters(transformer, AdapterOptions(rank=2), task="classification", base_name="base")
    model = SequenceClassifier(transformer, PAD_ID, torch.eye(CLASSES))
    trained, total = count_parameters(model), sum(parameter.numel() for parameter in model.parameters())
    frozen = total - trained  # peft keeps the head that it replaces: this is what full fine-tuning trains
    assert frozen == (whole if method == "lora" else 0)
    engine = build_engine(config, plan_batch(config, 1), world, model)
    assert engine.trained_state_bytes() == 4 * trained  # AdamW makes its moments in its first step
    [batch] = first_step(list(range(1, 17)), micro_batch_size=2)
    assert engine.train_step(batch, 1e-3).left_out is None
    assert engine.trained_state_bytes() == MOMENTS_AND_GRADIENT * trained
