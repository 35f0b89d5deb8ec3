"""A text classifier on a causal transformer: its head reads the last real token, or the mean over all of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from framework.errors import ConfigError
from framework.model.loss_model import IGNORED_TARGET, LossModel
from framework.plugins.lora.options import Pooling


def build_classifier(base: PreTrainedModel, classes: int, pad_id: int) -> PreTrainedModel:
    """transformers' own sequence classifier on the weights of ``base``, with a new head from torch's generator.

    What is saved of it is read by ``AutoModelForSequenceClassification``, which pools as ``SequenceClassifier`` does with
    ``last``.

    Raises:
        ConfigError: transformers has no such classifier for the architecture.
    """
    config = type(base.config).from_dict(base.config.to_dict())
    config.num_labels = classes
    config.pad_token_id = pad_id
    try:
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    except ValueError as error:
        raise ConfigError(
            f"transformers has no sequence classifier for {config.model_type}", fix="choose another base"
        ) from error
    if not isinstance(getattr(model, "score", None), nn.Linear):
        raise ConfigError(
            f"the sequence classifier of {config.model_type} does not read the last token",
            fix="choose a base whose model is causal",
        )
    assert isinstance(model, PreTrainedModel)
    model.base_model.load_state_dict(base.base_model.state_dict())
    return model


class LanguageModelLoss(nn.Module):
    """How well a text's own next tokens are predicted from the hidden states that its class is read from.

    Args:
        base: the language model; its output matrix is read and, where it is not the embedding as well, stays as it is.
        model: the classifier made of it.
        vocab_size: of the tokenizer; rows of the matrix beyond it only round it up.
        weight: of the loss, beside that of the class.
    """

    def __init__(self, base: PreTrainedModel, model: PreTrainedModel, vocab_size: int, weight: float) -> None:
        super().__init__()
        head: Any = base.get_output_embeddings()
        is_tied = head.weight is base.get_input_embeddings().weight
        self.head = copy.deepcopy(head).requires_grad_(False)
        if is_tied:  # one parameter, as in pretraining, whoever trains it
            self.head.weight = model.get_input_embeddings().weight
        self._vocab_size = vocab_size
        self._weight = weight

    def forward(self, hidden: torch.Tensor, input_ids: torch.Tensor, is_real: torch.Tensor) -> torch.Tensor:
        """float32 scalar: each text's mean over its tokens, in nats, weighted and added up.

        Args:
            hidden: [batch, sequence, width].
            input_ids: [batch, sequence] int64.
            is_real: [batch, sequence] bool; False for padding.
        """
        logits = self.head(hidden[:, :-1])[..., : self._vocab_size].float()
        losses = F.cross_entropy(logits.transpose(1, 2), input_ids[:, 1:], reduction="none")
        counts = is_real[:, 1:]
        means = (losses * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
        return self._weight * means.sum()


class SequenceClassifier(LossModel):
    """Class probabilities of texts, and their loss.

    Args:
        transformer: from ``build_classifier``, perhaps with adapters around it.
        pad_id: token that fills short rows on the right; a text never ends with it.
        targets: [classes, classes] float32: row c is what an example of class c asks for, weight and smoothing included;
            a row of the identity for plain cross-entropy.
        pooling: what the head reads: the ``last`` real token, or the ``mean`` over all real tokens.
        language_model: a second loss; None: the class's alone.
    """

    def __init__(
        self,
        transformer: nn.Module,
        pad_id: int,
        targets: torch.Tensor,
        *,
        pooling: Pooling = "last",
        language_model: LanguageModelLoss | None = None,
    ) -> None:
        super().__init__(transformer)
        self._pad_id = pad_id
        # No buffer: DeepSpeed would round it to the precision of the forward.
        self._class_targets = targets
        self._pooling = pooling
        self.language_model = language_model
        # The library warns about padding without a mask in every process. A causal model reads nothing behind a token, and
        # the padding stands behind all of them.
        self._classifier.base_model.warn_if_padding_and_no_attention_mask = lambda *_: None

    @property
    def _classifier(self) -> Any:
        """transformers' model, with adapters inside and none around."""
        inner: Any = self.transformer
        return inner if isinstance(inner, PreTrainedModel) else inner.get_base_model()

    def _hidden(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self._classifier.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        return hidden

    def _is_real(self, input_ids: torch.Tensor) -> torch.Tensor:
        """[batch, sequence] bool; end-of-text at the beginning is the padding's token, and real."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (places * (input_ids != self._pad_id)).max(dim=1, keepdim=True).values
        return places <= last

    def _logits_of(self, hidden: torch.Tensor, is_real: torch.Tensor) -> torch.Tensor:
        counts = is_real.sum(dim=1)
        if self._pooling == "last":
            pooled = hidden[torch.arange(len(hidden), device=hidden.device), counts - 1]
        else:
            total = (hidden.float() * is_real.unsqueeze(2)).sum(dim=1)
            pooled = (total / counts.unsqueeze(1)).to(hidden.dtype)
        logits: torch.Tensor = self._classifier.score(pooled)
        return logits.float()

    def logits(self, input_ids: torch.Tensor) -> torch.Tensor:
        """[batch, classes] float32 of texts [batch, sequence] int64, padded on the right."""
        return self._logits_of(self._hidden(input_ids), self._is_real(input_ids))

    def log_probs(self, input_ids: torch.Tensor) -> torch.Tensor:
        """[batch, classes] float32: log-probability of each class."""
        return F.log_softmax(self.logits(input_ids), dim=-1)

    def forward(self, input_ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """As ``LossModel.forward``; the only target of a row stands at its last token, and is the number of its class."""
        labels = targets.max(dim=1).values  # IGNORED_TARGET is below every class
        is_asked = (labels != IGNORED_TARGET).unsqueeze(1)
        asked = self._class_targets.to(labels.device)[labels.clamp(min=0)] * is_asked
        hidden, is_real = self._hidden(input_ids), self._is_real(input_ids)
        loss = -(asked * F.log_softmax(self._logits_of(hidden, is_real), dim=-1)).sum()
        if self.language_model is None:
            return loss
        second: torch.Tensor = self.language_model(hidden, input_ids, is_real & is_asked)
        return loss + second


def class_targets(labels: Sequence[int], classes: int, *, balanced: bool, smoothing: float) -> torch.Tensor:
    """[classes, classes] float32, as ``SequenceClassifier`` takes it.

    Args:
        labels: of the training rows.
        classes: how many there are.
        balanced: weigh class c with rows / (classes x rows of c), as scikit-learn's ``class_weight="balanced"``.
        smoothing: share of the target that goes to the neighbours of an ordered class, evenly.
    """
    targets = torch.eye(classes) * (1.0 - smoothing)
    for number in range(classes):
        neighbours = [each for each in (number - 1, number + 1) if 0 <= each < classes]
        for each in neighbours:
            targets[number, each] += smoothing / len(neighbours)
    if balanced:
        counts = torch.bincount(torch.as_tensor(list(labels)), minlength=classes)
        targets *= (len(labels) / (classes * counts.clamp(min=1))).unsqueeze(1)
    return targets
