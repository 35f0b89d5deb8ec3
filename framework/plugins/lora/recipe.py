"""What fine-tuning runs have in common: a base, adapters or all of its weights, and rows as examples."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from framework.config import BatchPlan, Config
from framework.data.tokenizer import Tokenizer
from framework.errors import ConfigError, SourceError
from framework.plugins.lora.base import Base, open_base
from framework.plugins.lora.options import LoraOptions
from framework.run_dir import RunDir
from framework.train.preflight import read_run_config, recipe_of
from framework.train.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from framework.model.loss_model import LossModel
    from framework.plugins.lora.examples import Example, ExampleStream

_SIZE_KEYS = ("architecture", "layers", "width", "heads")


class FineTuning(Recipe):
    """A base that goes on learning, from examples.

    Args:
        config: of the run; its ``model`` section has the base's sizes.
        options: of the plugin.
    """

    unit = "targets"
    data_kind = "examples"
    restore_data_fix = "give it the base, the rows and the options of plugins.lora that it began with"

    def __init__(self, config: Config, options: LoraOptions) -> None:
        super().__init__(config)
        self.options = options
        self._cut_texts = 0

    @property
    def beginning(self) -> str:  # type: ignore[override]
        """What the run begins with."""
        how = "all weights" if self.options.method == "full" else f"adapters of rank {self.options.adapter.rank}"
        return f"{how} on {self.options.base}"

    @cached_property
    def base(self) -> Base:
        """What is fine-tuned."""
        return open_base(self.options.base)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return self.base.tokenizer

    def check(self) -> None:
        self._refuse_fine_tuned_base()
        self._refuse_other_sizes()
        self._refuse_what_quantization_lacks()
        if self.options.adapter.targets != ("all-linear",) and self.options.method == "lora":
            self._refuse_unknown_targets()
        if not self.train_examples:
            raise SourceError(f"{self.data_name} has no training example", fix="name a table with more rows")
        # Read now: what is wrong with a test row must not wait until ranks have started.
        _ = self.test_examples, self.base.fingerprint

    @property
    def leaves_a_base(self) -> bool:
        """Whether what it leaves behind is a language model without adapters, which may be fine-tuned again."""
        return False

    def _refuse_fine_tuned_base(self) -> None:
        if not self.base.is_run:
            return
        made_by = recipe_of(read_run_config(self.base.folder))
        if isinstance(made_by, FineTuning) and not made_by.leaves_a_base:
            options = made_by.options
            raise ConfigError(
                f"base {self.options.base} is itself fine-tuned (task {options.task}, method {options.method})",
                fix=f"name what it was made on ({options.base})"
                + (", or export it and name that folder" if options.task == "causal_lm" else ""),
            )

    def _refuse_other_sizes(self) -> None:
        model, sizes = self.config.model, self.base.sizes
        for key in _SIZE_KEYS:
            if getattr(model, key) != sizes[key]:
                raise ConfigError(
                    f"model.{key} is {getattr(model, key)!r}, but base {self.options.base} has {sizes[key]!r}",
                    fix=f"set model.{key}={sizes[key]}, or start with `zerostream finetune`, which asks the base",
                )
        if model.context_length > sizes["context_length"]:
            raise ConfigError(
                f"model.context_length {model.context_length} is beyond the base's {sizes['context_length']}",
                fix=f"set model.context_length={sizes['context_length']} or less",
            )
        if model.document_mask:
            raise ConfigError(
                "model.document_mask true, but in fine-tuning each text has a row of its own",
                fix="set model.document_mask=false",
            )

    def _refuse_what_quantization_lacks(self) -> None:
        if self.options.quantization == "none":
            return
        from framework.plugins.lora.quantization import refuse_missing_bitsandbytes

        refuse_missing_bitsandbytes()
        engine = self.config.engine
        if engine.kind == "deepspeed" and engine.zero_stage == 3:
            raise ConfigError(
                f"engine.zero_stage is 3, which cuts weights up, and plugins.lora.quantization {self.options.quantization} packs "
                "them whole",
                fix="set engine.zero_stage=2",
            )

    def _refuse_unknown_targets(self) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        from framework.plugins.lora.adapters import projections, refuse_unknown_targets

        with torch.device("meta"):  # names alone
            if self.base.is_run:
                from framework.model.build import transformers_config

                base_model = read_run_config(self.base.folder).model
                hf_config = transformers_config(base_model, self.tokenizer.vocab_size, self.tokenizer.end_of_text_id)
            else:
                hf_config = AutoConfig.from_pretrained(self.base.folder, trust_remote_code=False)
            refuse_unknown_targets(
                self.options.adapter.targets, projections(AutoModelForCausalLM.from_config(hf_config))
            )

    @property
    @abstractmethod
    def train_examples(self) -> Sequence[Example]:
        """What is learned from."""

    @property
    @abstractmethod
    def test_examples(self) -> Sequence[Example]:
        """What is scored on, and never learned from."""

    @cached_property
    def data_fingerprint(self) -> str:
        """Of base, examples and options; where base and files are does not matter."""
        from framework.plugins.lora.examples import fingerprint_of

        options = self.options.model_dump(mode="json", exclude={"base": True, "data": True, "prompts": True})
        parts = [
            self.base.fingerprint,
            self.tokenizer.fingerprint,
            fingerprint_of(self.train_examples),
            fingerprint_of(self.test_examples),
            json.dumps(options, sort_keys=True),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def describe_data(self, plan: BatchPlan) -> str:
        train, steps = len(self.train_examples), self.config.train.max_steps
        tokens = sum(len(example.input_ids) for example in self.train_examples)
        cut = f" ({self.truncated_texts:,} texts lost their end)" if self.truncated_texts else ""
        return (
            f"{train:,} training examples of {tokens / train:.0f} tokens in the mean, {len(self.test_examples):,} to test{cut}; "
            f"{steps * plan.global_batch_size / train:.2f} epochs in {steps} steps"
        )

    @property
    def truncated_texts(self) -> int:
        """Rows, training and test, that lost their end (``on_long_text: truncate``)."""
        _ = self.train_examples, self.test_examples
        return self._cut_texts

    def stream(self, plan: BatchPlan, rank: int) -> ExampleStream:
        from framework.plugins.lora.examples import ExampleStream

        return ExampleStream(
            self.train_examples,
            plan,
            seed=self.config.seed,
            rank=rank,
            pad_id=self.tokenizer.end_of_text_id,
            group_by_length=self.options.group_by_length,
        )

    def adapt(self, model: PreTrainedModel, used_from: RunDir | None) -> nn.Module:
        """``model`` with adapters around it and frozen inside, or as it is for ``method: full``; dropout as the config has it.

        Args:
            model: from ``base``.
            used_from: as ``build_model`` has it; what is used is not packed, and has the same values.
        """
        from framework.plugins.lora.adapters import add_adapters, set_dropout

        set_dropout(model, self.config.model.dropout)
        if self.options.method == "full":
            return model
        if self.options.quantization != "none":
            from framework.plugins.lora.quantization import quantize_to_nf4, round_to_nf4

            quantize_to_nf4(model) if used_from is None else round_to_nf4(model)
        return add_adapters(model, self.options.adapter, task=self.options.task, base_name=self.options.base)

    def whole(self, model: LossModel) -> nn.Module:
        """The base with the adapters worked into its weights."""
        from framework.plugins.lora.adapters import merged

        return model.transformer if self.options.method == "full" else merged(model.transformer)

    def cut(self, tokens: Sequence[int], text: str, *, targets_behind: int = 0) -> list[int]:
        """``tokens``, at most as many as the model reads, and counted where there were more.

        Args:
            tokens: of one row.
            text: that they stand for, for messages.
            targets_behind: so many tokens at the end are targets alone, and are not read.

        Raises:
            SourceError: there are more, and long texts are errors.
        """
        limit = self.config.model.context_length + targets_behind
        if len(tokens) <= limit:
            return list(tokens)
        if self.options.on_long_text == "error":
            raise SourceError(
                f"the text that begins {text[:40]!r} has {len(tokens) - targets_behind} tokens, and model.context_length is "
                f"{self.config.model.context_length}",
                fix="raise model.context_length (up to the base's), or set plugins.lora.on_long_text=truncate",
            )
        self._cut_texts += 1
        return list(tokens[:limit])

    def stored(self) -> dict[str, Any]:
        """What is written down beside the run's config, for later use without its data."""
        return {
            "base": self.options.base,
            "base_fingerprint": self.base.fingerprint,
            "tokenizer_fingerprint": self.tokenizer.fingerprint,
            "task": self.options.task,
            "method": self.options.method,
            "quantization": self.options.quantization,
            "context_length": self.config.model.context_length,
            "on_long_text": self.options.on_long_text,
        }
