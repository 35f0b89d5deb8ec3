from __future__ import annotations

import pytest

from framework.checkpoint.retention import Saved, superfluous
from framework.config.schema import CheckpointConfig

LOSSES = {10: 3.0, 20: 2.0, 30: 2.5, 40: 2.1, 50: None}
SAVED = [Saved(step, loss) for step, loss in LOSSES.items()]


@pytest.mark.parametrize(
    ("config", "gone"),
    [
        (CheckpointConfig(keep=5), []),
        (CheckpointConfig(keep=2), [10, 20, 30]),
        (CheckpointConfig(keep=1), [10, 20, 30, 40]),
        (CheckpointConfig(keep=1, keep_every_steps=20), [10, 30]),
        (CheckpointConfig(keep=1, keep_best=1), [10, 30, 40]),
        (CheckpointConfig(keep=1, keep_best=2), [10, 30]),
        (CheckpointConfig(keep=1, keep_best=9), []),
        (CheckpointConfig(keep=1, keep_every_steps=30, keep_best=1), [10, 40]),
    ],
)
def test_what_goes(config: CheckpointConfig, gone: list[int]) -> None:
    assert superfluous(SAVED, config) == gone
    assert superfluous(SAVED[::-1], config) == gone


def test_of_equal_losses_the_older_stays() -> None:
    saved = [Saved(1, 2.0), Saved(2, 2.0), Saved(3, 2.0)]
    assert superfluous(saved, CheckpointConfig(keep=1, keep_best=1)) == [2]


def test_nothing_saved_is_nothing_to_remove() -> None:
    assert superfluous([], CheckpointConfig()) == []
