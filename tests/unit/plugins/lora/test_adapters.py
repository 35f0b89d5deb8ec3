"""Classifier and adapters on real transformers models: what is read, what is trained, and what stays as it is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.utils.class_weight import compute_class_weight
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from framework.data.stream import IGNORED_TARGET
from framework.errors import ConfigError, UserError
from framework.plugins.lora.adapters import add_adapters, load_adapter, merged, set_dropout
from framework.plugins.lora.base import open_base
from framework.plugins.lora.classifier import LanguageModelLoss, SequenceClassifier, build_classifier, class_targets
from framework.plugins.lora.options import AdapterOptions
from tests.tiny_base import make_base

PAD, CLASSES = 511, 4
TEXTS = torch.tensor([[PAD, 5, 6, 7, PAD, PAD], [PAD, 9, 8, 7, 6, 5]])
LABELS = torch.full((2, 6), IGNORED_TARGET)
LABELS[0, 3], LABELS[1, 5] = 2, 0


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "llama", architecture="llama")


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, base: Path) -> PreTrainedModel:
    """A classifier on GPT-2, whose projections are Conv1D, and on Llama, whose are Linear."""
    folder = base if request.param == "gpt2" else request.getfixturevalue("llama")
    torch.manual_seed(3)
    return build_classifier(open_base(str(folder)).load(), CLASSES, PAD)


def adapted(model: PreTrainedModel, **options: object) -> torch.nn.Module:
    return add_adapters(model, AdapterOptions(**options), task="classification", base_name="base")  # type: ignore[arg-type]


def train(classifier: SequenceClassifier, steps: int = 2) -> None:
    optimizer = torch.optim.AdamW([each for each in classifier.parameters() if each.requires_grad], lr=0.05)
    for _ in range(steps):
        classifier(TEXTS, LABELS).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_the_last_real_token_is_read_whatever_padding_follows(model: PreTrainedModel) -> None:
    classifier = SequenceClassifier(model, PAD, torch.eye(CLASSES)).eval()
    both = classifier.logits(TEXTS)
    torch.testing.assert_close(both[0], classifier.logits(TEXTS[:1, :4])[0])
    torch.testing.assert_close(both, model(input_ids=TEXTS).logits)  # as transformers pools
    hidden = model.base_model(input_ids=TEXTS).last_hidden_state
    torch.testing.assert_close(both[0], model.score(hidden[0, 3]))
    assert not torch.allclose(both[0], model.score(hidden[0, 5]))


def test_the_loss_is_the_sum_of_the_classes_negative_log_probabilities(model: PreTrainedModel) -> None:
    classifier = SequenceClassifier(model, PAD, torch.eye(CLASSES)).eval()
    log_probs = classifier.log_probs(TEXTS)
    torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(2))
    torch.testing.assert_close(classifier(TEXTS, LABELS), -(log_probs[0, 2] + log_probs[1, 0]))
    nothing = torch.full_like(LABELS, IGNORED_TARGET)
    assert classifier(TEXTS, nothing).item() == 0.0


def test_the_mean_is_over_all_real_tokens_and_no_padding(model: PreTrainedModel) -> None:
    classifier = SequenceClassifier(model, PAD, torch.eye(CLASSES), pooling="mean").eval()
    both = classifier.logits(TEXTS)
    torch.testing.assert_close(both[0], classifier.logits(TEXTS[:1, :4])[0])
    hidden = model.base_model(input_ids=TEXTS).last_hidden_state
    torch.testing.assert_close(both[0], model.score(hidden[0, :4].mean(dim=0)))
    torch.testing.assert_close(both[1], model.score(hidden[1].mean(dim=0)))
    assert not torch.allclose(both, SequenceClassifier(model, PAD, torch.eye(CLASSES)).eval().logits(TEXTS))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_second_loss_is_the_language_models_own_on_real_tokens(
    architecture: str, base: Path, request: pytest.FixtureRequest
) -> None:
    """Per text its mean over tokens, weighted; a row that only fills the micro-batch up brings nothing."""
    language_model = open_base(str(base if architecture == "gpt2" else request.getfixturevalue("llama"))).load().eval()
    model = build_classifier(language_model, CLASSES, PAD)
    vocab_size = language_model.config.vocab_size
    second = LanguageModelLoss(language_model, model, vocab_size, weight=0.25)
    classifier = SequenceClassifier(model, PAD, torch.eye(CLASSES), language_model=second).eval()
    plain = SequenceClassifier(model, PAD, torch.eye(CLASSES)).eval()
    log_probs = language_model(input_ids=TEXTS).logits.log_softmax(-1)
    means = [
        torch.stack([-log_probs[row, place, TEXTS[row, place + 1]] for place in range(real - 1)]).mean()
        for row, real in enumerate((4, 6))
    ]
    torch.testing.assert_close(classifier(TEXTS, LABELS), plain(TEXTS, LABELS) + 0.25 * sum(means))
    one = LABELS.clone()
    one[1] = IGNORED_TARGET
    torch.testing.assert_close(classifier(TEXTS, one), plain(TEXTS, one) + 0.25 * means[0])


def test_the_second_loss_trains_the_embedding_that_is_its_matrix_and_is_not_saved(base: Path) -> None:
    """In full fine-tuning GPT-2's output matrix stays its embedding; Llama's, which is another, stays as it was."""
    language_model = open_base(str(base)).load()
    model = build_classifier(language_model, CLASSES, PAD)
    second = LanguageModelLoss(language_model, model, language_model.config.vocab_size, weight=1.0)
    classifier = SequenceClassifier(model, PAD, torch.eye(CLASSES), language_model=second)
    names = [name for name, each in classifier.named_parameters() if each.requires_grad]
    assert not any("language_model" in name for name in names)
    train(classifier)
    assert second.head.weight is model.get_input_embeddings().weight


def test_balanced_weights_are_scikit_learns() -> None:
    labels = [0, 0, 0, 1, 2, 2]
    weights = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    torch.testing.assert_close(
        class_targets(labels, 3, balanced=True, smoothing=0.0), torch.diag(torch.tensor(weights, dtype=torch.float32))
    )


def test_smoothing_goes_to_neighbours_and_keeps_the_sum() -> None:
    targets = class_targets([0, 1, 2], 3, balanced=False, smoothing=0.2)
    torch.testing.assert_close(targets, torch.tensor([[0.8, 0.2, 0.0], [0.1, 0.8, 0.1], [0.0, 0.2, 0.8]]))


@given(data=st.data(), classes=st.integers(2, 7), smoothing=st.floats(0.0, 0.9))
def test_what_a_class_asks_for_sums_to_its_weight(data: st.DataObject, classes: int, smoothing: float) -> None:
    """1, or scikit-learn's balanced weight: smoothing only moves it to neighbours."""
    more = data.draw(st.lists(st.integers(0, classes - 1), max_size=20))
    labels = [*range(classes), *more]
    even = class_targets(labels, classes, balanced=False, smoothing=smoothing)
    torch.testing.assert_close(even.sum(dim=1), torch.ones(classes))
    assert (even >= 0).all()
    assert (torch.triu(even, 2) + torch.tril(even, -2) == 0).all()
    weights = torch.tensor(compute_class_weight("balanced", classes=np.arange(classes), y=labels)).float()
    balanced = class_targets(labels, classes, balanced=True, smoothing=smoothing)
    torch.testing.assert_close(balanced, even * weights.unsqueeze(1))


@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}], ids=["lora", "rslora", "dora"])
def test_adapters_learn_and_the_base_stays_bit_for_bit(model: PreTrainedModel, options: dict[str, bool]) -> None:
    before = copy.deepcopy(model.base_model.state_dict())
    wrapped = adapted(model, rank=4, **options)
    classifier = SequenceClassifier(wrapped, PAD, torch.eye(CLASSES))
    trained = {name for name, each in classifier.named_parameters() if each.requires_grad}
    assert all("lora_" in name or "score" in name for name in trained)
    train(classifier)
    after = {
        name.removeprefix("base_model.model.transformer.")
        .removeprefix("base_model.model.model.")
        .replace(".base_layer", ""): each
        for name, each in wrapped.state_dict().items()
    }
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    moved = {name for name, each in classifier.named_parameters() if "lora_B" in name and each.abs().sum() > 0}
    assert moved == {name for name in trained if "lora_B" in name}
    assert len(moved) == 2 * (4 if model.config.model_type == "gpt2" else 7)  # every projection of both layers


@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}], ids=["lora", "rslora", "dora"])
def test_merged_equals_adapter(model: PreTrainedModel, options: dict[str, bool]) -> None:
    wrapped = adapted(model, rank=4, **options)
    set_dropout(wrapped, 0.0)
    classifier = SequenceClassifier(wrapped, PAD, torch.eye(CLASSES))
    train(classifier)
    expected = classifier.eval().logits(TEXTS)
    whole = merged(wrapped)
    assert not any("lora" in name for name, _ in whole.named_parameters())
    torch.testing.assert_close(whole(input_ids=TEXTS).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}], ids=["lora", "rslora", "dora"])
def test_what_is_saved_gives_the_same_answers(model: PreTrainedModel, options: dict[str, bool], tmp_path: Path) -> None:
    """The head is saved with the adapter: on a model with another one, the answers are the same."""
    fresh = copy.deepcopy(model)
    torch.nn.init.normal_(fresh.score.weight)
    classifier = SequenceClassifier(adapted(model, rank=4, **options), PAD, torch.eye(CLASSES))
    train(classifier)
    classifier.transformer.save_pretrained(tmp_path, save_embedding_layers=False)
    loaded = SequenceClassifier(load_adapter(fresh, tmp_path), PAD, torch.eye(CLASSES)).eval()
    torch.testing.assert_close(loaded.logits(TEXTS), classifier.eval().logits(TEXTS), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_each_kind_of_adapter_changes_weights_as_its_paper_says(model: PreTrainedModel, kind: str) -> None:
    """LoRA: alpha / rank (arXiv 2106.09685); rsLoRA: alpha / sqrt(rank) (2312.03732); DoRA: turned, no longer (2402.09353)."""
    name = "c_attn" if model.config.model_type == "gpt2" else "q_proj"
    options = {} if kind == "lora" else {kind: True}
    wrapped = adapted(model, rank=4, alpha=12, targets=(name,), **options)
    layer: Any = next(each for path, each in wrapped.named_modules() if path.endswith(name))

    def weight() -> torch.Tensor:
        """[outputs, inputs], as Linear has it and Conv1D has not."""
        kept = layer.base_layer.weight.detach().clone()
        return kept.T if isinstance(layer.base_layer, Conv1D) else kept

    before = weight()
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    low_rank = (layer.lora_B["default"].weight @ layer.lora_A["default"].weight).detach()
    expected = before + (12 / 2 if kind == "rslora" else 12 / 4) * low_rank
    if kind == "dora":
        expected = expected * (before.norm(dim=1) / expected.norm(dim=1)).unsqueeze(1)
    merged(wrapped)
    merged_layer = model.get_submodule(next(path for path, _ in model.named_modules() if path.endswith(name)))
    found = merged_layer.weight.detach()
    torch.testing.assert_close(found.T if isinstance(merged_layer, Conv1D) else found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", ["lora_A", "lora_B", "score"])
def test_an_adapter_that_lacks_a_weight_is_refused(model: PreTrainedModel, part: str, tmp_path: Path) -> None:
    fresh = copy.deepcopy(model)
    adapted(model, rank=4).save_pretrained(tmp_path, save_embedding_layers=False)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    del weights[next(name for name in weights if part in name)]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match="does not fit the base"):
        load_adapter(fresh, tmp_path)


def test_an_adapter_for_another_architecture_is_refused(base: Path, llama: Path, tmp_path: Path) -> None:
    models = [build_classifier(open_base(str(each)).load(), CLASSES, PAD) for each in (base, llama)]
    adapted(models[0], rank=4).save_pretrained(tmp_path, save_embedding_layers=False)
    with pytest.raises(UserError, match="does not fit the base"):
        load_adapter(models[1], tmp_path)


def test_an_unknown_target_is_refused_with_those_that_are_there(model: PreTrainedModel) -> None:
    with pytest.raises(ConfigError, match="'c_atn' names no projection") as refused:
        adapted(model, targets=("c_atn",))
    assert ("c_attn" if model.config.model_type == "gpt2" else "q_proj") in refused.value.fix


def test_only_the_named_targets_get_adapters(base: Path) -> None:
    wrapped = adapted(build_classifier(open_base(str(base)).load(), CLASSES, PAD), targets=("c_attn",))
    names = {name.split(".lora_")[0] for name, _ in wrapped.named_parameters() if ".lora_" in name}
    assert {name.rpartition(".")[2] for name in names} == {"c_attn"}


def test_dropout_is_that_of_fine_tuning(model: PreTrainedModel) -> None:
    set_dropout(model, 0.25)
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    rates |= {module.attention_dropout for module in model.modules() if hasattr(module, "attention_dropout")}
    assert rates == {0.25}
