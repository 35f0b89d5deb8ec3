"""The batch arithmetic: global batch = micro-batch x accumulation x ranks, and what the lanes allow."""

from __future__ import annotations

from dataclasses import dataclass

from framework.config.schema import Config
from framework.errors import BatchArithmeticError


@dataclass(frozen=True)
class BatchPlan:
    """How one step's sequences are cut into ranks and micro-steps."""

    ranks: int
    micro_batch_size: int
    accumulation_steps: int
    global_batch_size: int
    context_length: int

    @property
    def tokens_per_step(self) -> int:
        return self.global_batch_size * self.context_length

    def __str__(self) -> str:
        return (
            f"{self.global_batch_size} sequences = {self.micro_batch_size} micro-batch x {self.accumulation_steps} accumulation "
            f"x {self.ranks} ranks; {self.tokens_per_step:,} tokens a step"
        )


def plan_batch(config: Config, ranks: int) -> BatchPlan:
    """The cut for ``ranks`` ranks.

    Raises:
        BatchArithmeticError: ``ranks`` does not fit; the message names the numbers of ranks that do.
    """
    engine, lanes = config.engine, config.data.lanes
    fits = [count for count in range(1, lanes + 1) if _fits(config, count)]
    if ranks not in fits:
        why = (
            f"data.lanes {lanes} is no multiple of it"
            if lanes % ranks
            else f"engine.global_batch_size {engine.global_batch_size} is no multiple of "
            f"engine.micro_batch_size {engine.micro_batch_size} x {ranks}"
        )
        raise BatchArithmeticError(
            f"{ranks} ranks cannot share the batch: {why}",
            fix=f"start {_list(fits)} {'rank' if fits == [1] else 'ranks'}, or change "
            + ("data.lanes" if lanes % ranks else "engine.micro_batch_size or engine.global_batch_size"),
        )
    return BatchPlan(
        ranks=ranks,
        micro_batch_size=engine.micro_batch_size,
        accumulation_steps=engine.global_batch_size // (engine.micro_batch_size * ranks),
        global_batch_size=engine.global_batch_size,
        context_length=config.model.context_length,
    )


def _fits(config: Config, ranks: int) -> bool:
    engine = config.engine
    return config.data.lanes % ranks == 0 and engine.global_batch_size % (engine.micro_batch_size * ranks) == 0


def _list(counts: list[int]) -> str:
    words = [str(count) for count in counts]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
