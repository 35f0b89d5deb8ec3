"""A model that has learned nothing yet, as a run would leave it: enough to be read, sampled and scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.config import load_config
from framework.data.tokenizer import load_tokenizer
from framework.model.build import build_model
from framework.train.trained import Trained


@pytest.fixture
def untrained(tiny_config: Path, tiny_shards: Path) -> Trained:
    """Random weights of a config over ``tiny_shards``."""
    config = load_config(tiny_config)
    tokenizer = load_tokenizer(tiny_shards / "tokenizer")
    return Trained(config, tokenizer, build_model(config, tokenizer.vocab_size, tokenizer.end_of_text_id).eval(), 0)
