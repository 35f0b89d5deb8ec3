from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.config import Config, build_config, plan_batch
from framework.errors import BatchArithmeticError


def config_of(micro_batch_size: int, global_batch_size: int, lanes: int = 64) -> Config:
    return build_config(
        {
            "model": {"context_length": 128},
            "data": {"lanes": lanes},
            "engine": {"micro_batch_size": micro_batch_size, "global_batch_size": global_batch_size},
        },
        origin="test",
    )


@pytest.mark.parametrize(
    ("ranks", "micro", "batch", "accumulation"),
    [(1, 8, 16, 2), (2, 8, 16, 1), (4, 4, 64, 4), (8, 16, 128, 1), (1, 1, 1, 1), (64, 1, 64, 1)],
)
def test_accumulation_makes_up_the_global_batch(ranks: int, micro: int, batch: int, accumulation: int) -> None:
    plan = plan_batch(config_of(micro, batch), ranks)
    assert plan.accumulation_steps == accumulation
    assert plan.micro_batch_size * plan.accumulation_steps * plan.ranks == batch == plan.global_batch_size
    assert plan.tokens_per_step == batch * 128


def test_the_plan_reads_as_a_sentence() -> None:
    text = str(plan_batch(config_of(8, 512), 4))
    assert text == "512 sequences = 8 micro-batch x 16 accumulation x 4 ranks; 65,536 tokens a step"


@pytest.mark.parametrize(
    ("ranks", "micro", "batch", "lanes", "cause", "works"),
    [
        (3, 8, 16, 64, "data.lanes 64 is no multiple of it", "start 1 or 2 ranks"),
        (4, 8, 16, 64, "engine.global_batch_size 16 is no multiple of engine.micro_batch_size 8 x 4", "1 or 2 ranks"),
        (5, 1, 60, 12, "data.lanes 12", "start 1, 2, 3, 4, 6 or 12 ranks"),
        (2, 8, 8, 64, "engine.micro_batch_size 8 x 2", "start 1 rank"),
        (128, 1, 128, 64, "data.lanes 64 is no multiple", "1, 2, 4, 8, 16, 32 or 64 ranks"),
    ],
)
def test_ranks_that_do_not_fit_are_refused_with_those_that_do(
    ranks: int, micro: int, batch: int, lanes: int, cause: str, works: str
) -> None:
    with pytest.raises(BatchArithmeticError) as caught:
        plan_batch(config_of(micro, batch, lanes), ranks)
    assert f"{ranks} ranks cannot share the batch" in caught.value.cause
    assert cause in caught.value.cause
    assert works in caught.value.fix


@given(micro=st.integers(1, 6), accumulation=st.integers(1, 24), lanes=st.integers(1, 48), ranks=st.integers(1, 50))
def test_every_number_of_ranks_either_divides_evenly_or_is_refused_with_only_numbers_that_work(
    micro: int, accumulation: int, lanes: int, ranks: int
) -> None:
    config = config_of(micro, micro * accumulation, lanes)
    try:
        plan = plan_batch(config, ranks)
    except BatchArithmeticError as error:
        assert lanes % ranks or accumulation % ranks
        offered = [int(number) for number in re.findall(r"\d+", error.fix.partition(" rank")[0])]
        assert ranks not in offered
        assert offered == [count for count in range(1, lanes + 1) if lanes % count == 0 and accumulation % count == 0]
    else:
        assert lanes % ranks == 0
        assert plan.micro_batch_size * plan.accumulation_steps * ranks == micro * accumulation
