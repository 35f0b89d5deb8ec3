from __future__ import annotations

from typing import Any

import pytest
import torch

from framework.config import Config, build_config
from framework.errors import ConfigError
from framework.model.build import build_model, count_parameters, padded_vocab_size, transformers_config
from framework.model.language_model import IGNORED_TARGET, LanguageModel

VOCAB = 50
END_OF_TEXT_ID = 0
ARCHITECTURES = ["gpt2", "llama"]


def config_of(seed: int = 1, **model: Any) -> Config:
    sizes = {"layers": 2, "width": 32, "heads": 4, "context_length": 16}
    return build_config({"seed": seed, "model": {**sizes, **model}}, origin="test")


def model_of(seed: int = 1, **model: Any) -> LanguageModel:
    return build_model(config_of(seed, **model), VOCAB, END_OF_TEXT_ID).eval()


def tokens_of(rows: int = 3, length: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


# --- Probabilities and loss ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_probabilities_sum_to_one_at_every_position(architecture: str) -> None:
    log_probs = model_of(architecture=architecture).log_probs(tokens_of())
    assert log_probs.shape == (3, 16, VOCAB)
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 16), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_probabilities_are_float32_whatever_the_models_precision(dtype: torch.dtype) -> None:
    log_probs = model_of().to(dtype).log_probs(tokens_of())
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 16), atol=1e-6, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_is_the_sum_of_the_targets_negative_log_probabilities(architecture: str) -> None:
    model, inputs, targets = model_of(architecture=architecture), tokens_of(), tokens_of(seed=1)
    log_probs = model.log_probs(inputs)
    by_hand = -sum(
        float(log_probs[row, place, targets[row, place]].detach()) for row in range(3) for place in range(16)
    )
    loss = model(inputs, targets)
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)


def test_ignored_targets_do_not_count() -> None:
    model, inputs, targets = model_of(), tokens_of(), tokens_of(seed=1)
    masked = targets.clone()
    masked[0, 3:] = IGNORED_TARGET
    masked[2] = IGNORED_TARGET
    losses = -model.log_probs(inputs).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    assert model(inputs, masked).item() == pytest.approx(
        float((losses[0, :3].sum() + losses[1].sum()).detach()), rel=1e-5
    )


def test_only_ignored_targets_give_zero_loss_and_finite_gradients() -> None:
    model = model_of()
    loss = model(tokens_of(), torch.full((3, 16), IGNORED_TARGET))
    loss.backward()
    assert loss.item() == 0.0
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


def test_the_loss_of_a_batch_is_the_sum_over_its_rows() -> None:
    model, inputs, targets = model_of(), tokens_of(), tokens_of(seed=1)
    rows = sum(model(inputs[row : row + 1], targets[row : row + 1]).item() for row in range(3))
    assert model(inputs, targets).item() == pytest.approx(rows, rel=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_position_sees_what_comes_after_it(architecture: str) -> None:
    model, inputs = model_of(architecture=architecture), tokens_of()
    changed = inputs.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % VOCAB
    before, after = model.log_probs(inputs), model.log_probs(changed)
    torch.testing.assert_close(before[:, :9], after[:, :9], atol=1e-6, rtol=0)
    assert not torch.allclose(before[:, 9], after[:, 9])


def test_no_cache_of_keys_and_values_is_kept_in_training() -> None:
    assert model_of().transformer(input_ids=tokens_of()).past_key_values is None


# --- Padded vocabulary ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padded_rows_get_no_probability_and_no_gradient(architecture: str) -> None:
    model = model_of(architecture=architecture, pad_vocab_to_multiple=64)
    inputs, targets = tokens_of(), tokens_of(seed=1)
    model(inputs, targets).backward()
    padded = [parameter for parameter in model.parameters() if parameter.shape[0] == 64 and parameter.dim() == 2]
    vocabulary = [parameter for parameter in padded if parameter.shape == (64, 32)]
    assert vocabulary
    for parameter in vocabulary:
        assert parameter.grad is not None
        assert parameter.grad[:VOCAB].abs().sum() > 0
        assert torch.equal(parameter.grad[VOCAB:], torch.zeros(64 - VOCAB, 32))
    before = model.log_probs(inputs)
    with torch.no_grad():
        for parameter in vocabulary:
            parameter[VOCAB:] = 100.0
    torch.testing.assert_close(model.log_probs(inputs), before)


@pytest.mark.parametrize(
    ("vocab", "multiple", "padded"), [(50257, 1, 50257), (50257, 64, 50304), (64, 64, 64), (65, 64, 128), (1, 128, 128)]
)
def test_the_vocabulary_is_padded_to_the_next_multiple(vocab: int, multiple: int, padded: int) -> None:
    assert padded_vocab_size(vocab, multiple) == padded


# --- Building ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(architecture: str) -> None:
    first = model_of(architecture=architecture).state_dict()
    torch.rand(17)
    second, other = (
        model_of(architecture=architecture).state_dict(),
        model_of(2, architecture=architecture).state_dict(),
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_gpt2_ties_its_embeddings() -> None:
    model = model_of()
    transformer: Any = model.transformer
    assert transformer.lm_head.weight is transformer.transformer.wte.weight
    assert sum("wte" in name or "lm_head" in name for name, _ in model.named_parameters()) == 1


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        ("gpt2_small", 124_439_808),
        ("gpt2_medium", 354_823_168),
        ("gpt2_large", 774_030_080),
        ("gpt2_xl", 1_557_611_200),
    ],
)
def test_the_gpt2_family_has_its_published_sizes(preset: str, parameters: int) -> None:
    config = build_config({"model": {"preset": preset, "pad_vocab_to_multiple": 1}}, origin="test")
    with torch.device("meta"):
        model = build_model(config, 50257, 50256)
    assert count_parameters(model) == parameters


def test_count_parameters_leaves_frozen_ones_out() -> None:
    model = model_of()
    everything = count_parameters(model)
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    assert count_parameters(model) == everything - frozen.numel()


def test_the_transformers_config_has_our_sizes_and_not_the_architectures_own() -> None:
    llama = transformers_config(config_of(architecture="llama").model, VOCAB, 3)
    assert (llama.hidden_size, llama.num_hidden_layers, llama.num_attention_heads) == (32, 2, 4)
    assert (llama.intermediate_size, llama.num_key_value_heads, llama.vocab_size) == (128, 4, 64)
    assert (llama.max_position_embeddings, llama.eos_token_id, llama.use_cache) == (16, 3, False)


def test_dropout_reaches_every_place_the_architecture_has() -> None:
    gpt2 = transformers_config(config_of(dropout=0.25).model, VOCAB, 0)
    assert (gpt2.resid_pdrop, gpt2.embd_pdrop, gpt2.attn_pdrop) == (0.25, 0.25, 0.25)
    assert transformers_config(config_of(dropout=0.25, architecture="llama").model, VOCAB, 0).attention_dropout == 0.25


@pytest.mark.parametrize("architecture", ["bloom", "mamba"])
def test_an_architecture_without_fused_attention_is_built(architecture: str) -> None:
    assert model_of(architecture=architecture).log_probs(tokens_of()).shape == (3, 16, VOCAB)


def test_overrides_reach_the_transformers_config() -> None:
    model = config_of(architecture="llama", overrides={"num_key_value_heads": 2, "tie_word_embeddings": True}).model
    found = transformers_config(model, VOCAB, 0)
    assert (found.num_key_value_heads, found.tie_word_embeddings) == (2, True)


@pytest.mark.parametrize(("architecture", "nearest"), [("gtp2", "gpt2"), ("lama", "llama"), ("bert-base", "bert")])
def test_an_unknown_architecture_is_refused_with_the_nearest(architecture: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        model_of(architecture=architecture)
    assert repr(architecture) in caught.value.cause
    assert nearest in caught.value.fix


def test_an_architecture_that_is_no_causal_language_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="'vit' is no causal language model"):
        model_of(architecture="vit")


def test_an_unknown_override_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        model_of(architecture="llama", overrides={"num_key_value_head": 2})
    assert caught.value.cause == "model.overrides.num_key_value_head is no key of llama"
    assert caught.value.fix == "write num_key_value_heads"
