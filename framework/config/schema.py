"""The configuration of a run: typed, frozen, and complete before any rank starts.

Each section is a frozen pydantic model; unknown keys are refused. What several sections must agree on is checked
in ``framework.config.load``. The standard library, pydantic and yaml are all this package may import: ``zerostream
train --dry-run`` and ``submit`` answer on a login node without torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from framework.config.presets import MODEL_PRESETS

UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Probability = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """Base of all sections: frozen, strict about unknown keys, documented by its fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Python counts True as 1, and pydantic with it.
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise PydanticCustomError("bool_as_value", "Input should not be true or false")
        return value


class ModelConfig(Section):
    """Architecture, initialised at random. ``preset`` fills the sizes that are not given."""

    preset: str | None = None
    """One of `gpt2_nano`, `gpt2_micro`, `gpt2_mini`, `gpt2_small` (124M), `gpt2_medium`, `gpt2_large`, `gpt2_xl`."""
    architecture: str = "gpt2"
    """Any causal language model type that transformers knows (`gpt2`, `llama`, ...), or a model a plugin brings."""
    layers: PositiveInt = 12
    """Number of transformer blocks."""
    width: PositiveInt = 768
    """Size of the residual stream (transformers: hidden_size)."""
    heads: PositiveInt = 12
    """Attention heads per block; must divide `width`."""
    context_length: PositiveInt = 1024
    """Tokens per training sequence, and the longest prompt plus story the model can read."""
    dropout: Probability = 0.0
    """Dropout of embeddings, attention and residuals."""
    document_mask: bool = False
    """Documents that share a sequence do not see each other: attention ends at end-of-text, where positions begin anew."""
    pad_vocab_to_multiple: PositiveInt = 64
    """The embedding has this multiple of rows, for speed; the extra rows never receive probability."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Further keys of the transformers configuration, for example `num_key_value_heads`."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("preset") is None:
            return values
        preset = MODEL_PRESETS.get(str(values["preset"]))
        if preset is None:
            raise ValueError(f"preset {values['preset']!r} is not one of {', '.join(MODEL_PRESETS)}")
        return {**preset, **values}

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} does not divide width {self.width}")
        return self


class TokenizerConfig(Section):
    """How text becomes token ids."""

    kind: Literal["train_bpe", "pretrained"] = "train_bpe"
    """`train_bpe` learns a byte-level BPE from the training documents; `pretrained` loads `path`."""
    path: str | None = None
    """For `pretrained`: a hub name, or a folder with `tokenizer.json` or `vocab.json` and `merges.txt`."""
    vocab_size: PositiveInt | None = None
    """For `train_bpe`: number of tokens to learn (default 4096). For `pretrained`: if given, it must be the tokenizer's."""

    @model_validator(mode="after")
    def _path_belongs_to_pretrained(self) -> Self:
        if self.kind == "pretrained" and not self.path:
            raise ValueError("path is missing: kind 'pretrained' needs a hub name or a folder of tokenizer files")
        if self.kind == "train_bpe" and self.path:
            raise ValueError(f"path {self.path!r} is given, but kind 'train_bpe' learns its own; use kind 'pretrained'")
        if self.kind == "train_bpe" and self.vocab_size is not None and self.vocab_size < 257:
            raise ValueError(f"vocab_size {self.vocab_size} is below 257, the 256 bytes and end-of-text")
        return self


class MixturePart(Section):
    """One set of shards of a mixture."""

    shards_dir: UserPath
    """A folder that `zerostream prepare` has written; with `remote`, the cache of this machine."""
    weight: PositiveFloat
    """Share of the sequences that come from it, relative to the other parts."""
    remote: str | None = None
    """Where its shards are fetched from when they are not here, as `data.remote`."""


class DataConfig(Section):
    """Where text comes from, and how it is cut into shards and lanes."""

    source: str = "embedded"
    """`embedded`, `text`, `jsonl`, `csv`, `parquet`, `hub`, or a source a plugin brings."""
    path: str | None = None
    """A file, a folder or a glob; for `hub` the dataset's name, such as `roneneldan/TinyStories`."""
    validation_path: str | None = None
    """Held-out text; without it, `validation_fraction` of the documents is split off by their hash."""
    shards_dir: UserPath = Path("data/shards")
    """Where `zerostream prepare` writes shards and manifest, and training reads them."""
    documents: PositiveInt | None = None
    """Read at most so many documents; for `embedded`, how many stories to make (default 20000)."""
    separator: str = "<|endoftext|>"
    """For `text`: what stands between two documents; surrounding white space is dropped."""
    text_field: str = "text"
    """For `jsonl`, `csv`, `parquet` and `hub`: the field or column that holds the document."""
    encoding: str = "utf-8"
    """Encoding of `text`, `jsonl` and `csv` files."""
    hub_config: str | None = None
    """For `hub`: the dataset's configuration name."""
    hub_split: str = "train"
    """For `hub`: the split to stream."""
    hub_validation_split: str | None = None
    """For `hub`: a split to validate on, in place of a fraction of the training documents."""
    validation_fraction: Probability = 0.01
    """Share of documents, chosen by hash, that training never sees."""
    shard_tokens: PositiveInt = 4_194_304
    """A shard is closed when it holds this many tokens."""
    lanes: PositiveInt = 64
    """Fixed logical streams of sequences; the number of ranks must divide it. Part of the run's identity."""
    prefetch_steps: PositiveInt = 2
    """Steps of batches read ahead of the one in training."""
    remote: str | None = None
    """Where the shards are fetched from when they are not here: any fsspec URL (`https://`, `s3://`, ...); `shards_dir` is then
    the cache."""
    cache_bytes: PositiveInt = 20_000_000_000
    """With `remote`: how much of a `shards_dir` the fetched shards of one machine may fill; of each, in a mixture."""
    mixture: tuple[MixturePart, ...] = ()
    """Several sets of shards, by weight, in place of `shards_dir` and `remote`; all from one tokenizer."""
    on_bad_shard: Literal["error", "skip"] = "error"
    """What a damaged or missing shard does: end the run, or leave its sequences out, counted and logged."""

    @property
    def parts(self) -> tuple[MixturePart, ...]:
        """The sets of shards that training reads; a single one is the mixture of one part."""
        return self.mixture or (MixturePart(shards_dir=self.shards_dir, weight=1, remote=self.remote),)


class OptimizerConfig(Section):
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) or Muon; no decay for biases, norms and other vectors."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`muon` (Jordan et al. 2024) orthogonalises the updates of the blocks' matrices; all else is AdamW's, stacked experts too.
    Not with offload."""
    lr: PositiveFloat = 5e-4
    """Peak learning rate."""
    beta1: Probability = 0.9
    """Decay of the running mean of gradients."""
    beta2: Probability = 0.95
    """Decay of the running mean of their squares; nearer to 1 for small batches."""
    eps: PositiveFloat = 1e-8
    """Added to the root of the second moment."""
    weight_decay: NonNegativeFloat = 0.1
    """Decoupled decay of matrices and embeddings."""
    clip_norm: NonNegativeFloat = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    momentum: Probability = 0.95
    """Of `muon`: decay of the running mean of gradients."""


class ScheduleConfig(Section):
    """Learning rate as a pure function of the step: linear warm-up, then down to a floor."""

    kind: Literal["cosine", "trapezoid"] = "cosine"
    """After the warm-up: `cosine` falls at once; `trapezoid` (WSD) keeps the peak, then falls in a straight line."""

    warmup_steps: NonNegativeInt = 100
    """Steps of linear warm-up from 0 to the peak."""
    final_lr_fraction: Fraction = 0.1
    """Floor, reached at the last step, as a fraction of the peak."""
    decay_fraction: Fraction = 0.2
    """Of `trapezoid`: share of the steps after the warm-up in which the rate falls; 1 is one straight line, 0 never falls."""


class OffloadConfig(Section):
    """What ZeRO keeps in host memory in place of the device's."""

    optimizer: bool = False
    """Optimizer states and step on the host (ZeRO stages 1, 2, 3)."""
    parameters: bool = False
    """Parameters on the host (ZeRO stage 3)."""


class EngineConfig(Section):
    """How a step is computed and sharded; may change from start to start of one run."""

    kind: Literal["deepspeed", "reference"] = "deepspeed"
    """`deepspeed` shards with ZeRO; `reference` is plain torch, the oracle of the numerics."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """0 replicates; 1 shards optimizer states; 2 gradients too; 3 parameters too (arXiv:1910.02054)."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of forward and backward; weights are always updated in fp32. fp16 needs a GPU."""
    micro_batch_size: PositiveInt = 8
    """Sequences per rank and micro-step."""
    global_batch_size: PositiveInt = 16
    """Sequences per step, over all ranks and micro-steps. Part of the run's identity."""
    compile: bool = False
    """torch.compile the model; needs a C++ compiler on CPU. Not with ZeRO stage 3."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more compute."""
    offload: OffloadConfig = OffloadConfig()
    """What ZeRO keeps in host memory."""

    def zero_stage_on(self, ranks: int) -> Literal[0, 1, 2, 3]:
        """The stage that DeepSpeed is given. A single rank shares nothing: stage 0 then keeps the same float32 numbers, without
        the copies into partitions that cost up to 6% of a step (docs/experiments.md)."""
        has_nobody = ranks == 1 and self.precision == "fp32" and not self.offload.optimizer
        return 0 if has_nobody and self.zero_stage < 3 else self.zero_stage


class ProfileConfig(Section):
    """Where the time of a step goes, told by torch's profiler on rank 0."""

    steps: NonNegativeInt = 0
    """Trace so many steps; 0 is off. The trace goes to `tensorboard/`, a summary to `profile.txt`."""
    skip_steps: NonNegativeInt = 5
    """Steps of a start before the first one that is traced: they compile, and fill caches."""


class TrainConfig(Section):
    """How long to train and when to look."""

    max_steps: PositiveInt = 1000
    """Optimizer steps of the whole run."""
    eval_every_steps: PositiveInt = 250
    """Evaluate on the validation shards after so many steps, and at the end."""
    eval_max_sequences: PositiveInt | None = None
    """Evaluate on at most so many validation sequences; all by default."""
    sample_prompts: tuple[str, ...] = ("Once upon a time", "On a rainy day, Tom was playing in the garden")
    """Prompts continued at every evaluation, into `samples/` and TensorBoard."""
    sample_max_tokens: PositiveInt = 120
    """Longest continuation of a sample prompt; end-of-text ends it before."""
    stop_at_step: PositiveInt | None = None
    """Save after this step and exit with 75, as if the time were up."""
    time_limit_seconds: PositiveInt | None = None
    """Save and exit with 75 before this start has taken so long. A SLURM job's own end is known without it."""
    max_skipped_steps: NonNegativeInt = 3
    """Steps in a row that may be left out because a loss or gradient was not finite; one more ends the run."""
    start_timeout_seconds: PositiveInt = 1800
    """How long a start may take until its first step is done, compilation included."""
    step_timeout_seconds: PositiveInt = 600
    """How long a step, an evaluation or a save may take before all stacks are written down and the run fails."""
    profile: ProfileConfig = ProfileConfig()
    """Where the time of a step goes."""


class CheckpointConfig(Section):
    """When to save, and what to keep."""

    every_steps: PositiveInt = 500
    """Save after so many steps, and at the end."""
    keep: PositiveInt = 2
    """Newest checkpoints that stay; older ones are removed after a save has succeeded."""
    keep_every_steps: PositiveInt | None = None
    """Checkpoints of steps that this divides stay for ever."""
    keep_best: NonNegativeInt = 0
    """So many checkpoints with the lowest validation loss stay as well."""
    asynchronous: bool = True
    """Hold training only for the copy to host memory, and write in the background."""


class LoggingConfig(Section):
    """What is shown while training runs."""

    every_steps: PositiveInt = 10
    """Print a line and write TensorBoard scalars every so many steps; metrics.jsonl always has every step."""
    tensorboard: bool = True
    """Write curves, stories and hyper-parameters for TensorBoard."""


class Config(Section):
    """A whole run, one YAML file. Every key has a default, so that a config says only what it means."""

    run_dir: UserPath = Path("runs/default")
    """Where everything about the run is written."""
    seed: NonNegativeInt = 1337
    """Of initialisation, data order and dropout."""
    model: ModelConfig = ModelConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    engine: EngineConfig = EngineConfig()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    logging: LoggingConfig = LoggingConfig()
    plugins: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of each plugin that takes part, by its name; `{}` for one without options."""
