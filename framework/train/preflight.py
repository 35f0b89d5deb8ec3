"""What must hold before any rank starts. Reads small files only, writes nothing, and needs no torch.

``zerostream train`` asks once, before it starts ranks; each rank asks again, so that ``torchrun`` alone is as safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from framework.checkpoint.manifest import CheckpointManifest
from framework.checkpoint.manifest import load_manifest as load_checkpoint_manifest
from framework.config import BatchPlan, Config, build_config, identity_fingerprint, plan_batch, refuse_other_identity
from framework.config.load import read_yaml
from framework.data.manifest import TOKENIZER_FOLDER, ShardManifest, load_manifest
from framework.data.tokenizer import Tokenizer, build_tokenizer, load_tokenizer
from framework.durable import temporary_of
from framework.errors import CheckpointError, ConfigError, PluginError, RunDirError, ShardError, TokenizerError
from framework.plugins.registry import active_plugins
from framework.run_dir import RunDir

_POSITION_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")


@dataclass(frozen=True)
class Preflight:
    """What was found to fit together."""

    plan: BatchPlan
    manifest: ShardManifest
    tokenizer: Tokenizer
    newest_checkpoint: CheckpointManifest | None
    """By its manifest alone; its files are verified when it is loaded."""


def check(config: Config, ranks: int) -> Preflight:
    """Refuses a start that cannot work.

    Raises:
        UserError: with the cause and the remedy; its children say what kind of thing does not fit.
    """
    plan = plan_batch(config, ranks)
    brought = {name for active in active_plugins(config) for name in active.plugin.models}
    if config.model.architecture not in brought:
        _refuse_odd_architecture(config)
    _refuse_long_sequences(config)
    manifest = load_manifest(config.data.shards_dir)
    tokenizer = _matching_tokenizer(config, manifest)
    _refuse_missing_shards(config.data.shards_dir, manifest)
    return Preflight(plan, manifest, tokenizer, _fitting_checkpoint(config, manifest, ranks))


def _refuse_odd_architecture(config: Config) -> None:
    """Only what is not plain GPT-2 needs transformers to be asked, which takes seconds."""
    if config.model.architecture != "gpt2" or config.model.overrides:
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


def _matching_tokenizer(config: Config, manifest: ShardManifest) -> Tokenizer:
    folder = config.data.shards_dir / TOKENIZER_FOLDER
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != manifest.tokenizer_fingerprint:
        raise TokenizerError(
            f"{folder} is not the tokenizer that wrote the shards ({tokenizer.fingerprint[:12]}, not "
            f"{manifest.tokenizer_fingerprint[:12]})",
            fix="put the shards' own tokenizer back, or prepare the shards again",
        )
    wanted = config.tokenizer.vocab_size
    if wanted is not None and wanted != manifest.vocab_size:
        raise ShardError(
            f"tokenizer.vocab_size is {wanted}, but the shards in {config.data.shards_dir} have {manifest.vocab_size} tokens",
            fix=f"set tokenizer.vocab_size={manifest.vocab_size}, or prepare shards for {wanted} into another data.shards_dir",
        )
    if config.tokenizer.kind == "pretrained" and Path(str(config.tokenizer.path)).exists():
        mine = build_tokenizer(config, documents=())
        if mine.fingerprint != manifest.tokenizer_fingerprint:
            raise TokenizerError(
                f"tokenizer.path {config.tokenizer.path} ({mine.vocab_size} tokens) is not the tokenizer of the shards in "
                f"{config.data.shards_dir} ({manifest.vocab_size} tokens)",
                fix="prepare the shards again with it into another data.shards_dir, or name the shards' tokenizer",
            )
    return tokenizer


def _refuse_missing_shards(shards_dir: Path, manifest: ShardManifest) -> None:
    for entry in manifest.shards:
        path = shards_dir / entry.name
        size = path.stat().st_size if path.is_file() else None
        if size != entry.size_bytes:
            found = "is missing" if size is None else f"has {size} bytes, its manifest says {entry.size_bytes}"
            raise ShardError(
                f"shard {path} {found}", fix=f"copy it again, or remove {shards_dir} and run `zerostream prepare`"
            )


def _fitting_checkpoint(config: Config, manifest: ShardManifest, ranks: int) -> CheckpointManifest | None:
    run_dir = RunDir(config.run_dir)
    if run_dir.config.exists():
        refuse_other_identity(config, read_run_config(config.run_dir), config.run_dir)
    elif run_dir.path.exists() and not run_dir.path.is_dir():
        raise RunDirError(f"run_dir {run_dir.path} is no folder", fix="choose another run_dir")
    elif run_dir.path.exists() and {entry.name for entry in run_dir.path.iterdir()} - {
        temporary_of(run_dir.config).name
    }:
        raise RunDirError(
            f"run_dir {run_dir.path} is not empty and holds no run ({run_dir.config.name} is missing)",
            fix="choose another run_dir",
        )
    newest = _newest_readable(run_dir)
    if newest is None:
        return None
    if newest.identity_fingerprint != identity_fingerprint(config):
        raise RunDirError(
            f"the checkpoint of step {newest.step} in {config.run_dir} belongs to another run",
            fix="remove that checkpoint, or choose another run_dir",
        )
    if newest.data_fingerprint != manifest.data_fingerprint:
        raise RunDirError(
            f"run_dir {run_dir.path} was trained on other shards than those in {config.data.shards_dir}",
            fix="point data.shards_dir to the shards it began with, or choose another run_dir",
        )
    _refuse_other_sharding(config, newest, ranks)
    return newest


def _newest_readable(run_dir: RunDir) -> CheckpointManifest | None:
    for step in reversed(run_dir.checkpoint_steps()):
        try:
            return load_checkpoint_manifest(run_dir.checkpoint(step))
        except CheckpointError:
            continue
    return None


def _refuse_other_sharding(config: Config, newest: CheckpointManifest, ranks: int) -> None:
    engine = config.engine
    zero_stage = engine.zero_stage if engine.kind == "deepspeed" else 0
    mine = {
        "ranks": ranks,
        "engine.kind": engine.kind,
        "engine.zero_stage": zero_stage,
        "engine.precision": engine.precision,
    }
    theirs = dict(zip(mine, (newest.world_size, newest.engine_kind, newest.zero_stage, newest.precision), strict=True))
    differing = [f"{key} {theirs[key]} (now {value})" for key, value in mine.items() if theirs[key] != value]
    if differing:
        raise RunDirError(
            f"the checkpoint of step {newest.step} in {config.run_dir} was written with {', '.join(differing)}",
            fix="start with those again: a checkpoint cannot move to other ranks, engines, stages or precisions yet",
        )


def read_run_config(run_dir: Path) -> Config:
    """The resolved config of a run directory.

    Raises:
        RunDirError: it is no run directory.
    """
    path = RunDir(run_dir).config
    if not path.is_file():
        raise RunDirError(
            f"{run_dir} is no run directory ({path.name} is missing)", fix="name the run_dir of a training run"
        )
    try:
        return build_config(read_yaml(path), origin=str(path))
    except (ConfigError, PluginError) as error:
        raise RunDirError(
            error.cause, fix="this run was made by another version of zerostream or its plugins"
        ) from None
