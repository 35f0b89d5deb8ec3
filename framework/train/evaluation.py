"""What the model has learned: loss on the validation shards, and stories from fixed prompts."""

from __future__ import annotations

import math

from framework.config import BatchPlan, Config, plan_batch
from framework.data.corpus import Corpus
from framework.data.stream import validation_micro_batches
from framework.data.tokenizer import Tokenizer
from framework.engine import Engine, sum_losses
from framework.errors import ShardError
from framework.model.generate import Sampling, generate_tokens
from framework.model.language_model import LanguageModel
from framework.plugins.registry import active_plugins


def summarise_loss(config: Config, loss_sum: float, tokens: int, text_bytes_per_token: float) -> dict[str, float]:
    """``loss`` (nats per token), ``perplexity``, ``bits_per_byte``, and what the config's plugins add.

    The text's bytes are taken as tokens x ``text_bytes_per_token`` of the split: exact for all of it, an estimate for the
    part that ``train.eval_max_sequences`` leaves.

    bits_per_byte = loss_sum / (ln 2 x bytes of UTF-8 text): it does not depend on the tokenizer. The losses of the
    end-of-text tokens are in the sum, their bytes (they have none) are not.

    Raises:
        ShardError: there are no tokens, because all validation shards are bad and bad shards are skipped.
    """
    if tokens == 0:
        raise ShardError(
            "no validation shard could be read",
            fix="put the shards back that the log names, and start again: it goes on",
        )
    loss = loss_sum / tokens
    text_bytes = tokens * text_bytes_per_token
    summary = {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "bits_per_byte": loss_sum / (math.log(2) * text_bytes),
    }
    for active in active_plugins(config):
        for name, metric in active.plugin.metrics.items():
            summary[name] = metric(loss=loss, tokens=tokens, text_bytes=round(text_bytes))
    return summary


def evaluate_model(
    model: LanguageModel, config: Config, corpus: Corpus, max_sequences: int | None = None
) -> dict[str, float]:
    """What ``ShardEvaluator.evaluate`` gives, for a whole model in this process, without ranks."""
    micro_batches = validation_micro_batches(corpus, plan_batch(config, 1), rank=0, max_sequences=max_sequences)
    model.eval()
    device = next(model.parameters()).device
    loss_sum, tokens = sum_losses(lambda batch: model(batch.input_ids, batch.targets), micro_batches, device)
    return summarise_loss(config, loss_sum, tokens, corpus.bytes_per_token("validation"))


class ShardEvaluator:
    """Evaluates a run's engine on the validation shards. All ranks call every method together.

    Args:
        config: of the run.
        plan: the batch arithmetic of this start.
        corpus: the shards.
        engine: what is evaluated.
    """

    def __init__(self, config: Config, plan: BatchPlan, corpus: Corpus, engine: Engine) -> None:
        self._config = config
        self._plan = plan
        self._corpus = corpus
        self._engine = engine

    def evaluate(self, step: int) -> dict[str, float]:
        """Metrics on the validation shards; the same on every rank."""
        micro_batches = validation_micro_batches(
            self._corpus,
            self._plan,
            rank=self._engine.world.rank,
            max_sequences=self._config.train.eval_max_sequences,
        )
        loss_sum, tokens = self._engine.evaluate(micro_batches)
        return summarise_loss(self._config, loss_sum, tokens, self._corpus.bytes_per_token("validation"))


def write_stories(config: Config, tokenizer: Tokenizer, engine: Engine) -> list[str]:
    """Continues each of ``train.sample_prompts``, the same way at every evaluation. All ranks call it together.

    Every rank generates the same tokens: under ZeRO stage 3 each forward pass gathers the parameters from all.
    """
    model = engine.model
    assert isinstance(model, LanguageModel)
    model.eval()
    sampling = Sampling(temperature=0.8, top_k=50, max_tokens=config.train.sample_max_tokens, seed=0)
    stories = []
    for prompt in config.train.sample_prompts:
        tokens = generate_tokens(
            model,
            tokenizer.encode(prompt),
            sampling,
            context_length=config.model.context_length,
            end_of_text_id=tokenizer.end_of_text_id,
            agree=engine.world.integer_from_main,
        )
        stories.append(prompt + tokenizer.decode(list(tokens)))
    return stories
