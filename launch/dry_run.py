"""``zerostream train --dry-run``: everything that can be known before a rank starts, without torch."""

from __future__ import annotations

from typing import Any

from framework.config import Config, plan_batch
from framework.errors import ShardError
from framework.optim.schedule import describe_schedule


def describe_run(config: Config, ranks: int) -> dict[str, Any]:
    """The resolved config, the batch arithmetic, and what a start would do.

    Raises:
        BatchArithmeticError: the ranks do not fit.
        UserError: shards or run directory are there and do not fit.
    """
    plan = plan_batch(config, ranks)
    tokens = plan.tokens_per_step * config.train.max_steps
    report: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "step": str(plan),
        "run": f"{config.train.max_steps} steps, {tokens:,} tokens; evaluation every {config.train.eval_every_steps}, "
        f"checkpoint every {config.checkpoint.every_steps} steps (the newest {config.checkpoint.keep} stay)",
        "rate": describe_schedule(config.optimizer, config.schedule, config.train.max_steps),
        "engine": _describe_engine(config),
        **_describe_start(config, ranks),
    }
    return report


def _describe_engine(config: Config) -> str:
    engine = config.engine
    if engine.kind == "reference":
        return f"reference (plain torch), {engine.precision}"
    shards = ("replicates everything", "shards the optimizer", "shards optimizer and gradients", "shards everything")
    return f"deepspeed ZeRO-{engine.zero_stage} ({shards[engine.zero_stage]}), {engine.precision}"


def _describe_start(config: Config, ranks: int) -> dict[str, str]:
    from framework.train.preflight import check, recipe_of
    from framework.train.pretraining import Pretraining

    learns_from_shards = isinstance(recipe_of(config), Pretraining)
    if learns_from_shards:
        for part in config.data.parts:
            if part.remote is None and not part.shards_dir.exists():
                return {"text": f"no shards in {part.shards_dir} yet: run `zerostream prepare` first"}
    try:
        found = check(config, ranks)
    except ShardError as error:
        if all((part.shards_dir / "manifest.json").exists() for part in config.data.parts):
            raise
        return {"text": str(error)}
    newest = found.newest_checkpoint
    return {
        "text": found.recipe.describe_data(found.plan),
        "start": _describe_resume(newest.step, config.train.max_steps) if newest else f"anew, into {config.run_dir}",
    }


def _describe_resume(step: int, max_steps: int) -> str:
    return (
        f"goes on after step {step}" if step < max_steps else f"nothing to do: the run has taken its {max_steps} steps"
    )
