"""Pretraining: a model with random weights learns from shards, and is scored by its loss on validation shards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from framework.config import BatchPlan, Config
from framework.config.schema import ModelConfig
from framework.data.corpus import Corpus, load_corpus, refuse_odd_shards
from framework.data.tokenizer import Tokenizer, build_tokenizer, load_tokenizer
from framework.errors import ConfigError, ShardError, TokenizerError
from framework.plugins.interface import Hook
from framework.plugins.registry import active_plugins
from framework.run_dir import RunDir
from framework.train.recipe import Recipe

if TYPE_CHECKING:
    from framework.data.stream import TrainStream
    from framework.engine import Engine
    from framework.model.language_model import LanguageModel
    from framework.train.evaluation import ShardEvaluator
    from framework.train.events import EventLog
    from framework.train.hooks import TensorBoardHook

# Overrides of GPT-2 that are in use; tests ask transformers whether it takes them.
_GPT2_NUMBERS = ("initializer_range", "layer_norm_epsilon")
_GPT2_ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")
_POSITION_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")


class Pretraining(Recipe):
    """The recipe of a config whose plugins bring none."""

    data_kind = "shards"
    restore_data_fix = "point data.shards_dir, or the parts of data.mixture, to the shards it began with"

    def check(self) -> None:
        brought = {name for active in active_plugins(self.config) for name in active.plugin.models}
        if self.config.model.architecture not in brought:
            _refuse_odd_architecture(self.config)
        _refuse_long_sequences(self.config)
        _ = self.corpus, self.tokenizer
        refuse_odd_shards(self.corpus)

    @cached_property
    def corpus(self) -> Corpus:
        """The shards, by their manifests."""
        return load_corpus(self.config.data)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return _matching_tokenizer(self.config, self.corpus)

    @property
    def data_fingerprint(self) -> str:
        return self.corpus.data_fingerprint

    @property
    def data_name(self) -> str:
        return self.corpus.name

    @property
    def ignorant_loss(self) -> float:
        return math.log(self.corpus.vocab_size)

    def describe_data(self, plan: BatchPlan) -> str:
        tokens, steps = self.corpus.tokens("train"), self.config.train.max_steps
        return (
            f"{tokens:,} training tokens in {len(self.corpus.split('train'))} shards: "
            f"{plan.tokens_per_step * steps / tokens:.2f} epochs in {steps} steps"
        )

    def build_model(self, tokenizer: Tokenizer, used_from: RunDir | None = None) -> LanguageModel:
        from framework.model.build import build_model

        return build_model(self.config, tokenizer.vocab_size, tokenizer.end_of_text_id)

    def stream(self, plan: BatchPlan, rank: int) -> TrainStream:
        from framework.data.stream import TrainStream

        return TrainStream(self.corpus, plan, lanes=self.config.data.lanes, seed=self.config.seed, rank=rank)

    def evaluator(self, plan: BatchPlan, engine: Engine) -> ShardEvaluator:
        from framework.train.evaluation import ShardEvaluator

        return ShardEvaluator(self.config, plan, self.corpus, engine)

    def hooks(self, plan: BatchPlan, engine: Engine, board: TensorBoardHook | None, events: EventLog) -> list[Hook]:
        from framework.train.hooks import StoryHook
        from framework.train.spikes import SpikeHook

        run_dir, hooks = RunDir(self.config.run_dir), list[Hook]()
        hooks.append(StoryHook(run_dir, self.config, self.tokenizer, engine, board))
        if engine.world.is_main:
            hooks.append(SpikeHook(run_dir, events, self.stream(plan, rank=0)))
        return hooks

    def closing_lines(self, validation: Mapping[str, float]) -> list[tuple[str, str]]:
        run_dir = self.config.run_dir
        prompt = next(iter(self.config.train.sample_prompts), "Once upon a time")
        return [
            (
                "validation",
                f"{validation['bits_per_byte']:.4f} bits per byte, perplexity {validation['perplexity']:.2f}, "
                f"loss {validation['loss']:.4f}",
            ),
            ("read", f'zerostream generate {run_dir} --prompt "{prompt}"'),
            ("watch", f"zerostream board {run_dir}"),
            ("take away", f"zerostream export {run_dir} DIR"),
        ]


def is_plain_gpt2(model: ModelConfig) -> bool:
    """GPT-2 with overrides, if any, that transformers is known to take."""
    numbers, activation = dict(model.overrides), model.overrides.get("activation_function", "gelu_new")
    numbers.pop("activation_function", None)
    return (
        model.architecture == "gpt2"
        and activation in _GPT2_ACTIVATIONS
        and all(key in _GPT2_NUMBERS and isinstance(value, float) for key, value in numbers.items())
    )


def _refuse_odd_architecture(config: Config) -> None:
    """Only what is not plain GPT-2 needs transformers to be asked, which takes seconds."""
    if not is_plain_gpt2(config.model):
        from framework.model.build import transformers_config

        transformers_config(config.model, vocab_size=config.tokenizer.vocab_size or 1, end_of_text_id=0)


def _refuse_long_sequences(config: Config) -> None:
    for key in _POSITION_KEYS:
        positions = config.model.overrides.get(key)
        if isinstance(positions, int) and positions < config.model.context_length:
            raise ConfigError(
                f"model.context_length {config.model.context_length} is beyond the model's model.overrides.{key} {positions}",
                fix=f"set model.context_length to {positions} or less, or remove the override",
            )


def _matching_tokenizer(config: Config, corpus: Corpus) -> Tokenizer:
    folder = corpus.tokenizer_folder
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != corpus.tokenizer_fingerprint:
        raise TokenizerError(
            f"{folder} is not the tokenizer that wrote the shards ({tokenizer.fingerprint[:12]}, not "
            f"{corpus.tokenizer_fingerprint[:12]})",
            fix="put the shards' own tokenizer back, or prepare the shards again",
        )
    wanted = config.tokenizer.vocab_size
    if wanted is not None and wanted != corpus.vocab_size:
        raise ShardError(
            f"tokenizer.vocab_size is {wanted}, but the shards in {corpus.name} have {corpus.vocab_size} tokens",
            fix=f"set tokenizer.vocab_size={corpus.vocab_size}, or prepare shards for {wanted} into another data.shards_dir",
        )
    if config.tokenizer.kind == "pretrained" and Path(str(config.tokenizer.path)).exists():
        mine = build_tokenizer(config, documents=())
        if mine.fingerprint != corpus.tokenizer_fingerprint:
            raise TokenizerError(
                f"tokenizer.path {config.tokenizer.path} ({mine.vocab_size} tokens) is not the tokenizer of the shards in "
                f"{corpus.name} ({corpus.vocab_size} tokens)",
                fix="prepare the shards again with it into another data.shards_dir, or name the shards' tokenizer",
            )
    return tokenizer
