"""How the time of a traced step is shared out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from framework.config import build_config
from framework.errors import DeviceMemoryError
from framework.train.profile import Span, explained_out_of_memory, split_step


def test_a_step_is_split_into_its_phases_and_the_rest() -> None:
    spans = [
        Span("step/data_wait", 0, 100_000),
        Span("step/forward", 100_000, 300_000),
        Span("step/backward", 300_000, 700_000),
        Span("step/optimizer", 700_000, 900_000),
        Span("aten::mm", 300_000, 650_000),
        # Two collectives beside each other, then one alone: 150,000 microseconds in which one was under way.
        Span("gloo:all_reduce", 500_000, 600_000),
        Span("gloo:all_reduce", 550_000, 600_000),
        Span("gloo:all_gather", 800_000, 850_000),
    ]
    split = split_step(spans, step_seconds=0.5, steps=2)
    assert split == pytest.approx(
        {
            "waiting for data": 0.05,
            "forward": 0.1,
            "backward": 0.2,
            "optimizer": 0.1,
            "the rest": 0.05,
            "communication": 0.075,
        }
    )


def test_running_out_of_memory_says_what_to_do(tmp_path: Path) -> None:
    config = build_config({"run_dir": str(tmp_path)}, origin="test")
    with (
        pytest.raises(DeviceMemoryError, match=r"lower engine\.micro_batch_size"),
        explained_out_of_memory(config, is_main=True),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
