from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import nn

from framework.config import build_config
from framework.errors import UserError
from framework.model.build import build_model
from framework.model.generate import Sampling, filter_logits, generate_batch, generate_tokens
from framework.model.language_model import LanguageModel

VOCAB = 50
CONTEXT = 8
END_OF_TEXT_ID = 0
LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30)
TEMPERATURES = st.floats(0.1, 5)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    sizes = {"layers": 2, "width": 32, "heads": 4, "context_length": CONTEXT}
    built = build_model(build_config({"seed": 5, "model": sizes}, origin="test"), VOCAB, END_OF_TEXT_ID).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter *= 8.0  # as it is initialised, every token is about equally likely
    return built


class Counting(nn.Module):
    """The likeliest token is the last one plus one, and so on around."""

    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.table = nn.Parameter(10.0 * torch.eye(vocab).roll(1, dims=1))

    def forward(self, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids])


def generate(model: LanguageModel, prompt: list[int], sampling: Sampling) -> list[int]:
    return list(generate_tokens(model, prompt, sampling, context_length=CONTEXT, end_of_text_id=END_OF_TEXT_ID))


# --- Greedy ---


def test_greedy_takes_the_likeliest_token_of_the_window_each_time(model: LanguageModel) -> None:
    tokens = [END_OF_TEXT_ID, 7, 9]
    expected = []
    for _ in range(3 * CONTEXT):
        token = int(model.log_probs(torch.tensor([tokens[-CONTEXT:]]))[0, -1].argmax())
        if token == END_OF_TEXT_ID:
            break
        expected.append(token)
        tokens.append(token)
    assert generate(model, [7, 9], Sampling(temperature=0, max_tokens=3 * CONTEXT)) == expected
    assert len(expected) > CONTEXT


def test_it_stops_before_end_of_text() -> None:
    assert generate(LanguageModel(Counting(6), 6), [3], Sampling(temperature=0)) == [4, 5]


def test_end_of_text_stands_before_the_prompt() -> None:
    assert generate(LanguageModel(Counting(6), 6), [], Sampling(temperature=0)) == [1, 2, 3, 4, 5]


def test_it_stops_after_max_tokens() -> None:
    assert generate(LanguageModel(Counting(60), 60), [1], Sampling(temperature=0, max_tokens=4)) == [2, 3, 4, 5]


def test_no_gradient_is_recorded(model: LanguageModel) -> None:
    generate(model, [1], Sampling(max_tokens=2))
    assert all(parameter.grad is None for parameter in model.parameters())


# --- Sampling ---


def test_the_same_seed_gives_the_same_tokens_and_others_give_others(model: LanguageModel) -> None:
    def tokens(seed: int) -> tuple[int, ...]:
        torch.rand(seed + 1)
        return tuple(generate(model, [3, 4], Sampling(temperature=3.0, max_tokens=20, seed=seed)))

    assert tokens(0) == tokens(0)
    assert len({tokens(seed) for seed in range(8)}) == 8


def test_sampling_leaves_the_random_state_of_training_alone(model: LanguageModel) -> None:
    before = torch.get_rng_state()
    generate(model, [3], Sampling(max_tokens=5))
    assert torch.equal(before, torch.get_rng_state())


def test_top_k_of_one_is_greedy(model: LanguageModel) -> None:
    greedy = generate(model, [5], Sampling(temperature=0, max_tokens=12))
    assert generate(model, [5], Sampling(temperature=2.0, top_k=1, max_tokens=12)) == greedy


def test_tokens_come_as_often_as_the_model_believes(model: LanguageModel) -> None:
    expected = torch.softmax(model.logits(torch.tensor([[0, 9]]))[0, -1].detach(), dim=-1)
    drawn = Counter(
        token for seed in range(1500) for token in generate(model, [9], Sampling(1.0, max_tokens=1, seed=seed)) or [0]
    )
    found = torch.tensor([drawn[token] / 1500 for token in range(VOCAB)])
    assert float((found - expected).abs().max()) < 0.05


@given(logits=LOGITS, temperature=TEMPERATURES)
def test_temperature_divides_the_logits(logits: list[float], temperature: float) -> None:
    found = filter_logits(torch.tensor(logits), Sampling(temperature=temperature))
    torch.testing.assert_close(found, torch.tensor(logits) / temperature)


@given(logits=LOGITS, temperature=TEMPERATURES, top_k=st.integers(1, 40))
def test_top_k_keeps_the_k_likeliest_and_those_as_likely_as_the_last(
    logits: list[float], temperature: float, top_k: int
) -> None:
    scaled = torch.tensor(logits) / temperature
    kept = torch.isfinite(filter_logits(torch.tensor(logits), Sampling(temperature=temperature, top_k=top_k)))
    kth = sorted(scaled.tolist(), reverse=True)[min(top_k, len(logits)) - 1]
    assert kept.tolist() == [value >= kth for value in scaled.tolist()]


@example(logits=[0.0] * 17, temperature=1.0, top_p=0.5)
@given(logits=LOGITS, temperature=TEMPERATURES, top_p=st.floats(0.01, 1.0))
def test_top_p_keeps_the_fewest_tokens_that_reach_it(logits: list[float], temperature: float, top_p: float) -> None:
    scaled = torch.tensor(logits) / temperature
    probabilities = torch.softmax(scaled.double(), dim=-1)
    filtered = filter_logits(torch.tensor(logits), Sampling(temperature=temperature, top_p=top_p))
    kept = torch.isfinite(filtered)
    assert bool(kept[scaled == scaled.max()].any())
    assert float(probabilities[kept].sum()) >= top_p - 1e-5
    without_the_last = probabilities[kept].sum() - probabilities[kept].min()
    assert top_p == 1.0 or float(without_the_last) < top_p + 1e-5
    if kept.any() and not kept.all():
        assert float(scaled[kept].min()) >= float(scaled[~kept].max())


@given(logits=LOGITS, top_k=st.integers(1, 10), top_p=st.floats(0.05, 0.95))
def test_top_k_and_top_p_together_keep_no_more_than_either(logits: list[float], top_k: int, top_p: float) -> None:
    assume(len(set(logits)) == len(logits))
    both = torch.isfinite(filter_logits(torch.tensor(logits), Sampling(1.0, top_k, top_p)))
    only_k = torch.isfinite(filter_logits(torch.tensor(logits), Sampling(1.0, top_k)))
    only_p = torch.isfinite(filter_logits(torch.tensor(logits), Sampling(1.0, None, top_p)))
    assert bool(both.any())
    assert not bool((both & ~only_k).any())
    assert not bool((both & ~only_p).any())


# --- Many at once ---


@pytest.mark.parametrize("sampling", [Sampling(60.0, max_tokens=40), Sampling(60.0, 49, 0.99, max_tokens=CONTEXT + 8)])
def test_a_batch_gives_what_each_seed_gives_alone(model: LanguageModel, sampling: Sampling) -> None:
    seeds = range(3, 27)
    together = generate_batch(model, [7, 9], sampling, seeds, context_length=CONTEXT, end_of_text_id=END_OF_TEXT_ID)
    alone = [generate(model, [7, 9], replace(sampling, seed=seed)) for seed in seeds]
    assert [[token for token in tokens if token != END_OF_TEXT_ID] for tokens in together] == alone
    assert all(tokens[-1] == END_OF_TEXT_ID or len(tokens) == sampling.max_tokens for tokens in together)
    assert len({len(tokens) for tokens in together}) > 1


def test_a_batch_stops_when_all_have_ended() -> None:
    counting = Counting(6)
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    counting.register_forward_hook(count)
    found = generate_batch(
        LanguageModel(counting, 6), [3], Sampling(temperature=0), [0, 1], context_length=CONTEXT, end_of_text_id=0
    )
    assert found == [[4, 5, 0]] * 2
    assert passes == 3


@given(
    rows=st.lists(st.lists(st.floats(-20, 20, width=32), min_size=7, max_size=7), min_size=1, max_size=4),
    top_k=st.none() | st.integers(1, 9),
    top_p=st.none() | st.floats(0.05, 1.0),
)
def test_rows_are_filtered_each_for_itself(rows: list[list[float]], top_k: int | None, top_p: float | None) -> None:
    sampling = Sampling(0.7, top_k, top_p)
    expected = torch.stack([filter_logits(torch.tensor(row), sampling) for row in rows])
    assert torch.equal(filter_logits(torch.tensor(rows), sampling), expected)


# --- Refused ---


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"temperature": -0.1}, "temperature -0.1"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"top_k": 0}, "top-k 0"),
        ({"top_p": 0.0}, "top-p 0.0"),
        ({"top_p": 1.1}, "top-p 1.1"),
        ({"max_tokens": 0}, "max-tokens 0"),
    ],
)
def test_values_without_meaning_are_refused(values: dict[str, float], cause: str) -> None:
    with pytest.raises(UserError) as caught:
        Sampling(**values)  # type: ignore[arg-type]
    assert cause in caught.value.cause
    assert caught.value.exit_code == 2


def test_a_tiny_temperature_is_as_good_as_greedy(model: LanguageModel) -> None:
    greedy = generate(model, [5], Sampling(temperature=0, max_tokens=6))
    assert generate(model, [5], Sampling(temperature=1e-40, max_tokens=6)) == greedy
