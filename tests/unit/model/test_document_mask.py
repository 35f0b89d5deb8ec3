"""A token's log-probabilities under the mask are those that it has in its document alone."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from framework.config import build_config
from framework.errors import ConfigError
from framework.model.build import build_model
from framework.model.document_mask import document_arguments
from framework.model.generate import Sampling, generate_tokens
from framework.model.language_model import LanguageModel

VOCAB, CONTEXT, END_OF_TEXT_ID = 50, 16, 3
ARCHITECTURES = ["gpt2", "llama", "gpt_neox", "opt"]
DOCUMENTS = st.lists(st.lists(st.integers(4, VOCAB - 1), max_size=CONTEXT), min_size=1, max_size=5)


def model_of(architecture: str = "gpt2", *, document_mask: bool = True, **model: Any) -> LanguageModel:
    sizes = {"layers": 2, "width": 32, "heads": 4, "context_length": CONTEXT}
    section = {"architecture": architecture, "document_mask": document_mask, **sizes, **model}
    built = build_model(build_config({"seed": 1, "model": section}, origin="test"), VOCAB, END_OF_TEXT_ID).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() > 1:
                parameter *= 5.0  # as it is initialised, a token says little about the next one
    return built


@pytest.fixture(scope="module")
def models() -> dict[str, LanguageModel]:
    return {architecture: model_of(architecture) for architecture in ARCHITECTURES}


def row_of(documents: list[list[int]]) -> list[int]:
    return [token for document in documents for token in (END_OF_TEXT_ID, *document)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@given(documents=DOCUMENTS, cut=st.integers(0, 8))
@settings(max_examples=30, deadline=None)
def test_every_document_of_a_row_is_as_it_is_alone(
    architecture: str, documents: list[list[int]], cut: int, models: dict[str, LanguageModel]
) -> None:
    """Also the first and the last, which a row may cut."""
    model = models[architecture]
    row = row_of(documents)[cut:][:CONTEXT]
    if not row:
        return
    together = model.log_probs(torch.tensor([row]))[0]
    begins = [0, *(place for place in range(1, len(row)) if row[place] == END_OF_TEXT_ID), len(row)]
    for begin, end in pairwise(begins):
        alone = model.log_probs(torch.tensor([row[begin:end]]))[0]
        torch.testing.assert_close(together[begin:end], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_stands_in_another_document_changes_no_bit(architecture: str, models: dict[str, LanguageModel]) -> None:
    row = torch.tensor([row_of([[4, 5, 6], [7, 8, 9], [10, 11]])])
    other = row.clone()
    other[0, 1:4], other[0, 9:] = 40, 41
    before, after = (models[architecture].log_probs(ids)[0, 4:8] for ids in (row, other))
    assert torch.equal(before, after)


def test_without_the_mask_the_document_before_is_seen() -> None:
    model = model_of(document_mask=False)
    together, alone = model.log_probs(torch.tensor([[3, 4, 5, 3, 7, 8]])), model.log_probs(torch.tensor([[3, 7, 8]]))
    assert not torch.allclose(together[:, 3:], alone, atol=1e-2)


def test_a_row_of_one_document_has_the_loss_that_it_has_without_the_mask() -> None:
    ids, targets = torch.tensor([[3, 4, 5, 6, 7]]), torch.tensor([[4, 5, 6, 7, 3]])
    masked, plain = model_of(), model_of(document_mask=False)
    assert masked(ids, targets).item() == pytest.approx(plain(ids, targets).item(), rel=1e-6)


def test_gradients_are_the_sum_of_those_of_the_documents_alone() -> None:
    model = model_of()
    row, targets = torch.tensor([[3, 4, 5, 3, 7, 8]]), torch.tensor([[4, 5, 3, 7, 8, 3]])
    model(row, targets).backward()
    together = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    model(row.view(2, 3), targets.view(2, 3)).backward()  # two rows of one document each
    alone = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_positions_and_mask_of_a_row_that_begins_within_a_document() -> None:
    arguments = document_arguments(torch.tensor([[7, 8, 3, 5, 6, 3, 9]]), 3, torch.bfloat16)
    mask = arguments["attention_mask"]
    assert (mask.shape, mask.dtype) == ((1, 1, 7, 7), torch.bfloat16)
    assert arguments["position_ids"].tolist() == [[0, 1, 0, 1, 2, 0, 1]]
    assert [[column for column in range(7) if row[column] == 0] for row in mask[0, 0].tolist()] == [
        [0], [0, 1], [2], [2, 3], [2, 3, 4], [5], [5, 6],
    ]  # fmt: skip
    assert torch.isfinite(mask).all()


def test_compiled_it_is_one_graph_with_the_same_loss() -> None:
    model = model_of(layers=1)
    ids, targets = torch.tensor([[9, 3, 4, 5, 3, 7, 8, 9]]), torch.tensor([[3, 4, 5, 3, 7, 8, 9, 3]])
    eager = model(ids, targets).item()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert compiled(ids, targets).item() == pytest.approx(eager, rel=1e-6)


def test_in_bf16_documents_stay_apart() -> None:
    model = model_of().bfloat16()
    together, alone = model.log_probs(torch.tensor([[3, 4, 5, 3, 7, 8]])), model.log_probs(torch.tensor([[3, 7, 8]]))
    torch.testing.assert_close(together[:, 3:], alone, atol=0.05, rtol=0.02)


def test_a_story_is_generated_as_it_was_trained() -> None:
    """One document from end-of-text on: with the mask and without the same tokens follow."""
    sampling = Sampling(temperature=0, max_tokens=30)
    stories = [
        list(generate_tokens(model, [4, 5], sampling, context_length=CONTEXT, end_of_text_id=END_OF_TEXT_ID))
        for model in (model_of(), model_of(document_mask=False))
    ]
    assert stories[0] == stories[1]
    assert stories[0]


# --- Refused ---


class Unmasked(nn.Module):
    """The mean of all embeddings so far, whatever a mask says."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, VOCAB)

    def forward(self, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        counts = torch.arange(1, input_ids.shape[1] + 1).unsqueeze(-1)
        return SimpleNamespace(logits=self.table(input_ids).cumsum(1) / counts)


class WithoutMask(Unmasked):
    """Takes no such argument at all."""

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:  # type: ignore[override]
        return super().forward(input_ids)


@pytest.mark.parametrize(
    ("transformer", "cause"),
    [
        (Unmasked(), "gpt2 sees more of a row than the document"),
        (WithoutMask(), "gpt2 takes no mask and positions of ours: .*unexpected keyword argument 'attention_mask'"),
    ],
)
def test_a_model_that_cannot_keep_documents_apart_is_refused(
    transformer: nn.Module, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("framework.model.build._build_transformer", lambda *_, **__: transformer)
    with pytest.raises(ConfigError, match=f"model.document_mask true, but {cause}") as caught:
        model_of()
    assert "document_mask=false" in caught.value.fix


@pytest.mark.parametrize("architecture", ["bloom", "mamba", "rwkv"])
def test_so_is_an_architecture_of_transformers_that_cannot(architecture: str) -> None:
    with pytest.raises(ConfigError, match=f"model.document_mask true, but {architecture}"):
        model_of(architecture)


def test_a_sliding_window_is_not_lost() -> None:
    with pytest.raises(
        ConfigError, match=r"mistral has a mask of its own: sliding_window 8 is below model\.context_length 16"
    ):
        model_of("mistral", overrides={"sliding_window": 8})
    model_of("mistral", overrides={"sliding_window": CONTEXT})


def test_asking_the_model_leaves_it_as_it_was() -> None:
    masked, plain = model_of(dropout=0.1), model_of(document_mask=False, dropout=0.1)
    assert masked.transformer.training == plain.transformer.training
    torch.testing.assert_close(masked.state_dict(), plain.state_dict(), rtol=0, atol=0)
