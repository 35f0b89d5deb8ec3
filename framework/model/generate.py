"""Continues token sequences: greedy, or by temperature, top-k and top-p (Holtzman et al. 2020, arXiv:1904.09751)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from framework.errors import UserError
from framework.model.language_model import LanguageModel

_COLDEST = 1e-30
"""Logits divided by less than this may overflow float32."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. ``temperature`` 0 is greedy."""

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    max_tokens: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        refused = [
            (
                not 0 <= self.temperature < float("inf"),
                f"temperature {self.temperature} is no number from 0",
                "choose 0 (greedy) or more",
            ),
            (self.top_k is not None and self.top_k < 1, f"top-k {self.top_k} is below 1", "keep 1 token or more"),
            (
                self.top_p is not None and not 0 < self.top_p <= 1,
                f"top-p {self.top_p} is no probability above 0",
                "choose a value in (0, 1]",
            ),
            (self.max_tokens < 1, f"max-tokens {self.max_tokens} is below 1", "ask for 1 token or more"),
        ]
        for is_refused, cause, fix in refused:
            if is_refused:
                raise UserError(cause, fix=fix)


def filter_logits(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """[..., vocab] logits at the temperature, with what top-k and top-p leave out at minus infinity."""
    logits = logits / max(sampling.temperature, _COLDEST)
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        threshold = torch.topk(logits, sampling.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < threshold, float("-inf"))
    if sampling.top_p is not None and sampling.top_p < 1:
        # Stable: of equally likely tokens the same ones stay on every device.
        ordered, indices = torch.sort(logits, dim=-1, descending=True, stable=True)
        probabilities = torch.softmax(ordered, dim=-1)
        # A token stays while those before it do not reach top_p yet: the most likely one always stays.
        beyond = torch.cumsum(probabilities, dim=-1) - probabilities >= sampling.top_p
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, indices, beyond), float("-inf"))
    return logits


def generate_tokens(
    model: LanguageModel,
    prompt: list[int],
    sampling: Sampling,
    *,
    context_length: int,
    end_of_text_id: int,
    agree: Callable[[int], int] = lambda token: token,
) -> Iterator[int]:
    """Yields new token ids as they are chosen; stops before end-of-text.

    The model reads at most its last ``context_length`` tokens. End-of-text goes before the prompt, as in training.
    Ranks that generate together pass ``agree``, which gives all of them one rank's token: a last bit that differs between
    devices must not let their stories part.
    """
    for (token,) in _choose_tokens(model, prompt, sampling, [sampling.seed], context_length, end_of_text_id, agree):
        if token == end_of_text_id:
            return
        yield token


def generate_batch(
    model: LanguageModel,
    prompt: list[int],
    sampling: Sampling,
    seeds: Sequence[int],
    *,
    context_length: int,
    end_of_text_id: int,
) -> list[list[int]]:
    """One continuation of ``prompt`` per seed, computed together; each ends with end-of-text where it was reached.

    Each has a random generator of its own: it is what ``generate_tokens`` gives with that seed, whatever stands beside it, as
    far as the model's logits do not depend on the size of the batch in their last digits. A continuation that has ended is
    computed on, and left out, until all have.
    """
    continuations: list[list[int]] = [[] for _ in seeds]
    for tokens in _choose_tokens(model, prompt, sampling, seeds, context_length, end_of_text_id, lambda token: token):
        open_ones = 0
        for continuation, token in zip(continuations, tokens, strict=True):
            if continuation[-1:] != [end_of_text_id]:
                continuation.append(token)
                open_ones += token != end_of_text_id
        if not open_ones:
            break
    return continuations


@torch.no_grad()
def _choose_tokens(
    model: LanguageModel,
    prompt: list[int],
    sampling: Sampling,
    seeds: Sequence[int],
    context_length: int,
    end_of_text_id: int,
    agree: Callable[[int], int],
) -> Iterator[list[int]]:
    """Yields the next token of one continuation per seed, ``sampling.max_tokens`` times; goes on after end-of-text."""
    device = next(model.parameters()).device
    generators = [torch.Generator(device="cpu").manual_seed(seed) for seed in seeds]
    tokens = torch.tensor([[end_of_text_id, *prompt]] * len(seeds), dtype=torch.int64)
    cache = None
    for _ in range(sampling.max_tokens):
        if tokens.shape[1] > context_length:
            cache = None  # the window slides: every kept key would be at another position
        unread = tokens[:, -1:] if cache is not None else tokens[:, -context_length:]
        next_logits, cache = model.next_logits(unread.to(device), cache)
        logits = next_logits.float().cpu()
        if sampling.temperature == 0:
            chosen = logits.argmax(dim=-1).tolist()
        else:
            probabilities = torch.softmax(filter_logits(logits, sampling), dim=-1)
            rows = zip(probabilities, generators, strict=True)
            chosen = [int(torch.multinomial(row, 1, generator=generator)) for row, generator in rows]
        chosen = [agree(token) for token in chosen]
        yield chosen
        tokens = torch.cat([tokens, torch.tensor(chosen).unsqueeze(1)], dim=1)
