"""The training loss and the log-probabilities of a causal language model, around any transformers model."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from framework.model.document_mask import document_arguments
from framework.model.loss_model import IGNORED_TARGET, LossModel


class LanguageModel(LossModel):
    """A causal language model.

    Args:
        transformer: ``transformer(input_ids=...)`` has ``.logits`` of [batch, sequence, padded vocabulary].
        vocab_size: of the tokenizer. Rows beyond it only round the matrix up: they get no probability and no gradient.
        first_token_id: if given, what each document begins with, and no token sees another document of its row.
    """

    def __init__(self, transformer: nn.Module, vocab_size: int, first_token_id: int | None = None) -> None:
        super().__init__(transformer)
        self.vocab_size = vocab_size
        self.first_token_id = first_token_id
        # transformers' models keep keys and values unless told not to; a plugin's model need not know of that.
        self._options = {"use_cache": False} if hasattr(transformer, "config") else {}

    def forward(self, input_ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of the negative log-probabilities of the targets.

        Args:
            input_ids: [batch, sequence] int64.
            targets: [batch, sequence] int64; ``IGNORED_TARGET`` does not count.

        Returns:
            float32 scalar, in nats. A sum, not a mean: the engine divides by the targets of the whole global batch.
        """
        logits = self.logits(input_ids)
        return F.cross_entropy(
            logits.float().reshape(-1, self.vocab_size),
            targets.reshape(-1),
            ignore_index=IGNORED_TARGET,
            reduction="sum",
        )

    def logits(self, input_ids: torch.Tensor) -> torch.Tensor:
        """[batch, sequence, vocab_size], unnormalised, in the model's precision."""
        arguments = self._options | self._document_arguments(input_ids)
        logits: torch.Tensor = self.transformer(input_ids=input_ids, **arguments).logits
        return logits[..., : self.vocab_size]

    def _document_arguments(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """What keeps the documents of a row apart; nothing where they are not to be."""
        if self.first_token_id is None:
            return {}
        return document_arguments(input_ids, self.first_token_id, next(self.parameters()).dtype)

    def next_logits(self, input_ids: torch.Tensor, cache: Any = None) -> tuple[torch.Tensor, Any]:
        """Logits of the token after ``input_ids``, and the keys and values to continue from.

        Args:
            input_ids: [batch, sequence] int64, of one document a row: the tokens that ``cache`` does not hold yet.
            cache: what the previous call returned, or None at the beginning.

        Returns:
            [batch, vocab_size], and the new cache; None from a model that keeps none.
        """
        if not isinstance(self.transformer, PreTrainedModel):
            return self.logits(input_ids)[:, -1], None
        output = self.transformer(input_ids=input_ids, past_key_values=cache, use_cache=True)
        return output.logits[:, -1, : self.vocab_size], output.past_key_values

    def log_probs(self, input_ids: torch.Tensor) -> torch.Tensor:
        """[batch, sequence, vocab_size] float32: log-probability of each next token; ``exp`` sums to 1."""
        return F.log_softmax(self.logits(input_ids).float(), dim=-1)
