"""The training loss and the log-probabilities of a causal language model, around any transformers model."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from framework.model.document_mask import document_arguments
from framework.model.linear_cross_entropy import LinearCrossEntropy
from framework.model.loss_model import IGNORED_TARGET, LossModel

# transformers' models whose logits are the last hidden state times the output matrix, and nothing else: no bias, no scaling and
# no soft cap. What they compute, no attribute of theirs tells; tests/unit/model/test_linear_cross_entropy.py compares each.
PLAIN_HEADS = frozenset(
    (
        "gemma", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3", "stablelm", "starcoder2",
    )
)  # fmt: skip


class LanguageModel(LossModel):
    """A causal language model.

    Training never holds all logits, if the model is one of ``PLAIN_HEADS`` and nothing sits on its output matrix. Any other is
    trained with whole logits: the same loss, for more memory.

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
        head = _plain_head(transformer)
        self.linear_cross_entropy = None if head is None else LinearCrossEntropy(head.weight, vocab_size)

    def forward(self, input_ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of the negative log-probabilities of the targets.

        Args:
            input_ids: [batch, sequence] int64.
            targets: [batch, sequence] int64; ``IGNORED_TARGET`` does not count.

        Returns:
            float32 scalar, in nats. A sum, not a mean: the engine divides by the targets of the whole global batch.
        """
        if self.linear_cross_entropy is not None:
            decoder = _causal_model(self.transformer).base_model
            hidden = decoder(input_ids=input_ids, **self._arguments(input_ids)).last_hidden_state
            loss: torch.Tensor = self.linear_cross_entropy(hidden, targets)
            return loss
        return F.cross_entropy(
            self.logits(input_ids).float().reshape(-1, self.vocab_size),
            targets.reshape(-1),
            ignore_index=IGNORED_TARGET,
            reduction="sum",
        )

    def logits(self, input_ids: torch.Tensor) -> torch.Tensor:
        """[batch, sequence, vocab_size], unnormalised, in the model's precision."""
        logits: torch.Tensor = self.transformer(input_ids=input_ids, **self._arguments(input_ids)).logits
        return logits[..., : self.vocab_size]

    def _arguments(self, input_ids: torch.Tensor) -> dict[str, Any]:
        """What the transformer is told beside its tokens: with ``first_token_id``, what keeps the documents of a row apart."""
        if self.first_token_id is None:
            return self._options
        return self._options | document_arguments(input_ids, self.first_token_id, next(self.parameters()).dtype)

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


def _causal_model(transformer: Any) -> Any:
    """transformers' model, with adapters inside and none around; None if there is none."""
    inner: Any = transformer.get_base_model() if hasattr(transformer, "get_base_model") else transformer
    return inner if isinstance(inner, PreTrainedModel) else None


def _plain_head(transformer: nn.Module) -> Any:
    """The ``nn.Linear`` whose product with the last hidden state is the logits; None where they are more than that."""
    model = _causal_model(transformer)
    if model is None or model.config.model_type not in PLAIN_HEADS:
        return None
    head = model.get_output_embeddings()
    # An adapter on it, or a packed one, is of another class.
    return head if type(head) is nn.Linear and getattr(head, "bias", None) is None else None
