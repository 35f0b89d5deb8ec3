"""A text classifier on a causal transformer: its head reads the last real token, which alone has seen the whole text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from framework.errors import ConfigError
from framework.model.loss_model import IGNORED_TARGET, LossModel


def build_classifier(base: PreTrainedModel, classes: int, pad_id: int) -> PreTrainedModel:
    """transformers' own sequence classifier on the weights of ``base``, with a new head from torch's generator.

    What is saved of it is read by ``AutoModelForSequenceClassification``, which pools as ``SequenceClassifier`` does.

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


class SequenceClassifier(LossModel):
    """Class probabilities of texts, and their loss.

    Args:
        transformer: from ``build_classifier``, perhaps with adapters around it.
        pad_id: token that fills short rows on the right; a text never ends with it.
        targets: [classes, classes] float32: row c is what an example of class c asks for, weight and smoothing included;
            a row of the identity for plain cross-entropy.
    """

    def __init__(self, transformer: nn.Module, pad_id: int, targets: torch.Tensor) -> None:
        super().__init__(transformer)
        self._pad_id = pad_id
        # No buffer: DeepSpeed would round it to the precision of the forward.
        self._class_targets = targets
        inner: Any = transformer
        if not isinstance(inner, PreTrainedModel):
            inner = inner.get_base_model()
        # The library warns about padding without a mask in every process. A causal model reads nothing behind a token, and
        # the padding stands behind all of them.
        inner.base_model.warn_if_padding_and_no_attention_mask = lambda *_: None

    def logits(self, input_ids: torch.Tensor) -> torch.Tensor:
        """[batch, classes] float32 of texts [batch, sequence] int64, padded on the right."""
        logits: torch.Tensor = self.transformer(input_ids=input_ids, use_cache=False).logits
        return logits.float()

    def log_probs(self, input_ids: torch.Tensor) -> torch.Tensor:
        """[batch, classes] float32: log-probability of each class."""
        return F.log_softmax(self.logits(input_ids), dim=-1)

    def forward(self, input_ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """As ``LossModel.forward``; the only target of a row stands at its last token, and is the number of its class."""
        labels = targets.max(dim=1).values  # IGNORED_TARGET is below every class
        asked = self._class_targets.to(labels.device)[labels.clamp(min=0)]
        asked = asked * (labels != IGNORED_TARGET).unsqueeze(1)
        return -(asked * self.log_probs(input_ids)).sum()


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
