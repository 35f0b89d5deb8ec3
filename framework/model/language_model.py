"""The training loss and the log-probabilities of a causal language model, around any transformers model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

IGNORED_TARGET = -100


class LanguageModel(nn.Module):
    """A causal language model whose forward is its loss, so that engines and ``torch.compile`` see one function.

    Args:
        transformer: ``transformer(input_ids=...)`` has ``.logits`` of [batch, sequence, padded vocabulary].
        vocab_size: of the tokenizer. Rows beyond it only round the matrix up: they get no probability and no gradient.
    """

    def __init__(self, transformer: nn.Module, vocab_size: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.vocab_size = vocab_size

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
        logits: torch.Tensor = self.transformer(input_ids=input_ids, use_cache=False).logits
        return logits[..., : self.vocab_size]

    def log_probs(self, input_ids: torch.Tensor) -> torch.Tensor:
        """[batch, sequence, vocab_size] float32: log-probability of each next token; ``exp`` sums to 1."""
        return F.log_softmax(self.logits(input_ids).float(), dim=-1)
