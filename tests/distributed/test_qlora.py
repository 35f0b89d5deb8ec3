"""QLoRA on real ranks: packed weights under ZeRO 1 and 2 give the oracle's losses."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.distributed.conftest import StartRanks, engine_overrides
from tests.tiny_base import finetuning_config, make_base

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(
        importlib.util.find_spec("bitsandbytes") is None, reason="QLoRA is tested where bitsandbytes is installed"
    ),
]


def test_zero_gives_the_oracles_losses_on_a_base_in_four_bits(tmp_path: Path, start_ranks: StartRanks) -> None:
    config = finetuning_config(tmp_path, make_base(tmp_path / "base"))
    more = ["model.dropout=0", "plugins.lora.quantization=nf4", "logging.tensorboard=false"]
    engines = ("reference", "zero1", "zero2")
    jobs = {
        engine: [str(config), *engine_overrides(engine), *more, f"run_dir={tmp_path / engine}"] for engine in engines
    }
    runs = start_ranks(2, jobs, tmp_path)
    losses = {}
    for engine in engines:
        assert runs.outcomes[engine]["exit_code"] == 0, runs.outcomes[engine]["message"]
        losses[engine] = [line["loss"] for line in runs.metrics(engine)]
    assert losses["zero1"] == pytest.approx(losses["reference"], rel=1e-5)
    assert losses["zero2"] == pytest.approx(losses["reference"], rel=1e-5)
