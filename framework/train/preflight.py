"""What must hold before any rank starts. Reads small files only, writes nothing, and needs no torch.

``zerostream train`` asks once, before it starts ranks; each rank asks again, so that ``torchrun`` alone is as safe.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from framework.checkpoint.manifest import CheckpointManifest
from framework.checkpoint.manifest import load_manifest as load_checkpoint_manifest
from framework.config import BatchPlan, Config, build_config, identity_fingerprint, plan_batch, refuse_other_identity
from framework.config.load import read_yaml
from framework.durable import is_locked, only_one_writer, storage_errors, temporary_of
from framework.errors import CheckpointError, ConfigError, PluginError, RunDirError
from framework.metrics.records import read_last_json_lines
from framework.plugins.registry import active_plugins
from framework.run_dir import RunDir
from framework.train.pretraining import Pretraining
from framework.train.recipe import Recipe


@dataclass(frozen=True)
class Preflight:
    """What was found to fit together."""

    plan: BatchPlan
    recipe: Recipe
    newest_checkpoint: CheckpointManifest | None
    """By its manifest alone; its files are verified when it is loaded."""


def check(config: Config, ranks: int) -> Preflight:
    """Refuses a start that cannot work.

    Raises:
        UserError: with the cause and the remedy; its children say what kind of thing does not fit.
    """
    plan = plan_batch(config, ranks)
    recipe = recipe_of(config)
    recipe.check()
    return Preflight(plan, recipe, _fitting_checkpoint(config, recipe))


def recipe_of(config: Config) -> Recipe:
    """What the run of this config learns: pretraining, unless one of its plugins brings a recipe.

    Raises:
        PluginError: two of them do.
    """
    brought = [active for active in active_plugins(config) if active.plugin.recipe is not None]
    if len(brought) > 1:
        names = " and ".join(active.plugin.name for active in brought)
        raise PluginError(f"plugins {names} both decide what the run learns", fix="name one of them in the config")
    for active in brought:
        assert active.plugin.recipe is not None
        recipe: Recipe = active.plugin.recipe(config, active.options)
        return recipe
    return Pretraining(config)


def _fitting_checkpoint(config: Config, recipe: Recipe) -> CheckpointManifest | None:
    run_dir = RunDir(config.run_dir)
    if run_dir.config.exists():
        refuse_other_identity(config, read_run_config(config.run_dir), config.run_dir)
    elif run_dir.path.exists() and not run_dir.path.is_dir():
        raise RunDirError(f"run_dir {run_dir.path} is no folder", fix="choose another run_dir")
    elif run_dir.path.exists() and {entry.name for entry in run_dir.path.iterdir()} - {
        temporary_of(run_dir.config).name,
        run_dir.lock.name,
        run_dir.slurm.name,
        # A faster rank's, where the folder was there before the run: a submitted job has files in it.
        run_dir.heartbeat(0).parent.name,
        run_dir.stacks(0).parent.name,
    }:
        raise RunDirError(
            f"run_dir {run_dir.path} is not empty and holds no run ({run_dir.config.name} is missing)",
            fix="choose another run_dir",
        )
    newest = _newest_readable(run_dir)
    if newest is None:
        _refuse_silent_restart(config, run_dir)
        return None
    if newest.identity_fingerprint != identity_fingerprint(config):
        raise RunDirError(
            f"the checkpoint of step {newest.step} in {config.run_dir} belongs to another run",
            fix="remove that checkpoint, or choose another run_dir",
        )
    if newest.data_fingerprint != recipe.data_fingerprint:
        raise RunDirError(
            f"run_dir {run_dir.path} was trained on other {recipe.data_kind} than those in {recipe.data_name}",
            fix=f"{recipe.restore_data_fix}, or choose another run_dir",
        )
    return newest


def _newest_readable(run_dir: RunDir) -> CheckpointManifest | None:
    for step in reversed(run_dir.checkpoint_steps()):
        try:
            return load_checkpoint_manifest(run_dir.checkpoint(step))
        except CheckpointError:
            continue
    return None


def _refuse_silent_restart(config: Config, run_dir: RunDir) -> None:
    """A run that has come far but has no checkpoint would begin again, and nobody would notice what it had lost."""
    last = read_last_json_lines(run_dir.metrics, 1)
    reached = last[0].get("step", 0) if last else 0
    # An asynchronous save is there for certain only when the next one has begun: who dies before begins again.
    if reached > 2 * config.checkpoint.every_steps:
        raise RunDirError(
            f"run_dir {run_dir.path} has taken {reached} steps, but holds no checkpoint",
            fix="restore one from a backup, or start from the beginning with `zerostream train CONFIG --start-over`",
        )


def remove_outputs(run_dir: RunDir) -> None:
    """Forgets a run, at its user's word; what zerostream did not write stays, and so does a folder that is no run.

    Raises:
        RunDirError: another start of it is alive.
        StorageError: the file system refuses.
    """
    if not run_dir.config.is_file():
        return
    with only_one_writer(run_dir.lock, refusal=live_copy(run_dir)), storage_errors(run_dir.path):
        # The config goes last: until then the folder is known as a run's.
        for path in run_dir.outputs:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def refuse_live_copy(run_dir: RunDir) -> None:
    """Tells a second start early; what keeps it out is that rank 0 cannot take the lock.

    Raises:
        RunDirError: another start of this run is alive.
    """
    if is_locked(run_dir.lock):
        raise live_copy(run_dir)


def live_copy(run_dir: RunDir) -> RunDirError:
    """The refusal of a second start beside a live one."""
    return RunDirError(
        f"another start of this run is alive: it holds {run_dir.lock}",
        fix="wait for its end or stop it, or choose another run_dir",
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
