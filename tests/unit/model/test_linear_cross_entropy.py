"""The loss without logits, against the formula with all of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from framework.config import build_config
from framework.model.build import build_model
from framework.model.language_model import PLAIN_HEADS, LanguageModel
from framework.model.linear_cross_entropy import linear_cross_entropy
from framework.model.loss_model import IGNORED_TARGET

WIDTH, VOCAB, PADDED = 16, 50, 64
UPSTREAM = 0.37
"""The gradient that comes from above: the engine divides the loss by the targets of the global batch."""


def drawn(rows: int, dtype: torch.dtype, *, ignored: slice = slice(0, 0)) -> tuple[torch.Tensor, ...]:
    """Hidden states, output matrix and targets."""
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(PADDED, WIDTH, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(0, VOCAB, (rows,), generator=generator)
    targets[ignored] = IGNORED_TARGET
    return hidden, weight, targets


def whole(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = F.linear(hidden, weight)[:, :VOCAB]
    exact = logits.double() if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(exact, targets, ignore_index=IGNORED_TARGET, reduction="sum")


def with_gradients(loss_of: Any, hidden: torch.Tensor, weight: torch.Tensor, *rest: Any) -> list[torch.Tensor]:
    hidden, weight = (each.detach().requires_grad_() for each in (hidden, weight))
    loss = loss_of(hidden, weight, *rest)
    (loss * UPSTREAM).backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    return [loss.detach(), hidden.grad, weight.grad]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("rows", "chunk_rows", "ignored"),
    [
        (1, 8, slice(0, 0)),
        (24, 8, slice(0, 0)),
        (29, 8, slice(3, 11)),  # rows do not divide, and a chunk's targets are partly ignored
        (29, 8, slice(8, 16)),  # all of one chunk's
        (29, 1000, slice(3, 11)),  # one chunk
        (29, 8, slice(0, 29)),
    ],
)
def test_loss_and_gradients_are_those_of_the_formula(
    rows: int, chunk_rows: int, ignored: slice, dtype: torch.dtype
) -> None:
    hidden, weight, targets = drawn(rows, dtype, ignored=ignored)
    found = with_gradients(linear_cross_entropy, hidden, weight, targets, VOCAB, chunk_rows)
    expected = with_gradients(whole, hidden, weight, targets)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert torch.equal(found[2][VOCAB:], torch.zeros(PADDED - VOCAB, WIDTH, dtype=dtype))


def test_only_ignored_targets_give_zero_and_no_gradient() -> None:
    hidden, weight, targets = drawn(29, torch.float32, ignored=slice(0, 29))
    for found in with_gradients(linear_cross_entropy, hidden, weight, targets, VOCAB, 8):
        assert torch.equal(found, torch.zeros_like(found))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_no_further_from_the_exact_gradient_than_the_formula(dtype: torch.dtype) -> None:
    """The weight's gradient is added up over 64 chunks, which in half precision would lose it."""
    hidden, weight, targets = drawn(1024, dtype)
    exact = with_gradients(whole, hidden.double(), weight.double(), targets)
    found = with_gradients(linear_cross_entropy, hidden, weight, targets, VOCAB, 16)
    plain = with_gradients(whole, hidden, weight, targets)
    assert [each.dtype for each in found] == [torch.float32, dtype, dtype]
    for one, other, truth in zip(found, plain, exact, strict=True):
        assert (one.double() - truth).norm() <= 1.2 * (other.double() - truth).norm() + 1e-6 * truth.norm()


def test_a_sum_that_half_precision_cannot_hold_is_scaled_before_it_is_rounded() -> None:
    hidden = torch.full((4096, 4), 40.0, dtype=torch.float16, requires_grad=True)
    weight = torch.zeros(8, 4, dtype=torch.float16, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, torch.zeros(4096, dtype=torch.int64), 8, 512)
    (loss / 4096).backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad[0].float(), torch.full((4,), -35.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_vocabulary_beyond_the_range_of_float16_has_finite_gradients(dtype: torch.dtype) -> None:
    vocabulary = 70_000  # all equally likely: as many are summed up, and float16 ends at 65,504
    hidden = torch.ones(2, 4, dtype=dtype, requires_grad=True)
    weight = torch.zeros(vocabulary, 4, dtype=dtype, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, torch.tensor([3, 3]), vocabulary)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(2 * math.log(vocabulary), rel=1e-6)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad[3].float(), torch.full((4,), -2.0))
    torch.testing.assert_close(weight.grad[4].float(), torch.full((4,), 2 / vocabulary), rtol=2e-2, atol=1e-7)


class _Largest(TorchDispatchMode):
    """The most elements that any tensor made in its body has, and how many matrix products there were."""

    elements, products = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else (made,):
            if isinstance(each, torch.Tensor):
                self.elements = max(self.elements, each.numel())
        self.products += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return made


@pytest.mark.parametrize(
    ("learns", "products"), [("both", 3), ("hidden", 2), ("weight", 2), ("neither", 1), ("nothing, no_grad", 1)]
)
def test_nothing_is_as_large_as_the_logits_and_only_what_learns_has_a_product(learns: str, products: int) -> None:
    hidden, weight, targets = drawn(256, torch.float32)
    hidden.requires_grad_(learns in ("both", "hidden") or "no_grad" in learns)
    weight.requires_grad_(learns in ("both", "weight") or "no_grad" in learns)
    with torch.set_grad_enabled("no_grad" not in learns), _Largest() as largest:
        loss = linear_cross_entropy(hidden, weight, targets, VOCAB, 32)
        if loss.requires_grad:
            loss.backward()
    assert largest.products == 8 * products
    assert largest.elements <= 256 * WIDTH  # logits have 256 x PADDED
    assert (hidden.grad is not None) == (learns in ("both", "hidden"))
    assert (weight.grad is not None) == (learns in ("both", "weight"))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_it_is_one_graph_and_the_same(dtype: torch.dtype) -> None:
    hidden, weight, targets = drawn(29, dtype, ignored=slice(3, 11))
    compiled = torch.compile(linear_cross_entropy, fullgraph=True)
    found = with_gradients(compiled, hidden, weight, targets, VOCAB, 8)
    expected = with_gradients(linear_cross_entropy, hidden, weight, targets, VOCAB, 8)
    tolerance = {torch.float32: 2e-6, torch.bfloat16: 2e-2}[dtype]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        torch.testing.assert_close(compiled(hidden, weight, targets, VOCAB, 8), expected[0])


# --- In a model ---


def model_of(architecture: str = "gpt2", **overrides: Any) -> LanguageModel:
    sizes = {"layers": 2, "width": 32, "heads": 4, "context_length": 16, "overrides": overrides}
    config = build_config({"model": {"architecture": architecture, **sizes}}, origin="test")
    return build_model(config, VOCAB, 0).eval()


def tokens_of(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCAB, (3, 16), generator=torch.Generator().manual_seed(seed))


def loss_with_logits(model: LanguageModel, input_ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model.logits(input_ids).float().flatten(0, 1), targets.flatten(), reduction="sum")


def gradients(model: LanguageModel) -> dict[str, torch.Tensor]:
    found = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("architecture", sorted(PLAIN_HEADS))
def test_a_plain_head_is_trained_as_with_its_own_logits(architecture: str) -> None:
    # Of some the default is beyond a small vocabulary.
    model = model_of(architecture, **({"pad_token_id": 0} if architecture in ("phi3", "smollm3") else {}))
    assert model.linear_cross_entropy is not None
    loss = model(tokens_of(), tokens_of(1))
    loss.backward()
    found = gradients(model)
    expected = loss_with_logits(model, tokens_of(), tokens_of(1))
    expected.backward()
    torch.testing.assert_close(loss, expected)
    others = gradients(model)
    assert found.keys() == others.keys()
    assert len(found) == len(list(model.parameters()))
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, others[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_tied_or_not_no_parameter_is_added_and_none_renamed(architecture: str, tied: bool) -> None:
    model = model_of(architecture, tie_word_embeddings=tied)
    assert [name for name, _ in model.named_parameters()] == [
        f"transformer.{name}" for name, _ in model.transformer.named_parameters()
    ]
    head: Any = model.transformer.get_output_embeddings()
    embedding: Any = model.transformer.get_input_embeddings()
    assert model.linear_cross_entropy is not None
    assert model.linear_cross_entropy.weight is head.weight
    assert (head.weight is embedding.weight) == tied


@pytest.mark.parametrize(
    ("architecture", "overrides"),
    [
        ("granite", {"logits_scaling": 8.0}),
        ("gemma2", {"final_logit_softcapping": 0.5}),
        ("cohere", {"logit_scale": 0.1}),
        ("phi", {}),  # a bias
    ],
)
def test_more_than_a_product_is_trained_with_whole_logits(architecture: str, overrides: dict[str, Any]) -> None:
    model = model_of(architecture, **overrides)
    assert model.linear_cross_entropy is None
    torch.testing.assert_close(model(tokens_of(), tokens_of(1)), loss_with_logits(model, tokens_of(), tokens_of(1)))


def test_an_output_matrix_with_something_on_it_is_trained_with_whole_logits() -> None:
    transformer: Any = model_of().transformer

    class Adapted(torch.nn.Linear):
        pass

    adapted = Adapted(32, 64, bias=False)
    adapted.weight = transformer.lm_head.weight
    transformer.set_output_embeddings(adapted)
    assert LanguageModel(transformer, VOCAB).linear_cross_entropy is None


def test_a_frozen_output_matrix_gets_no_gradient_and_passes_it_on() -> None:
    model = model_of("llama")
    assert model.linear_cross_entropy is not None
    model.linear_cross_entropy.weight.requires_grad_(False)
    model(tokens_of(), tokens_of(1)).backward()
    found = gradients(model)
    loss_with_logits(model, tokens_of(), tokens_of(1)).backward()
    others = gradients(model)
    assert "transformer.lm_head.weight" not in found
    assert found.keys() == others.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, others[name], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_model_is_one_graph_and_gives_the_same_gradients() -> None:
    model = model_of()
    loss = model(tokens_of(), tokens_of(1))
    loss.backward()
    expected = gradients(model)
    compiled: Any = torch.compile(model, fullgraph=True)
    again = compiled(tokens_of(), tokens_of(1))
    again.backward()
    torch.testing.assert_close(again, loss)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-4)
