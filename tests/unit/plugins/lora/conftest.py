from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_base import finetuning_config, make_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with random weights."""
    return make_base(tmp_path_factory.mktemp("base") / "gpt2")


@pytest.fixture
def config_file(tmp_path: Path, base: Path) -> Path:
    """Two folds of 60 embedded blurbs on ``base``; run_dir is ``tmp_path / "run"``."""
    return finetuning_config(tmp_path, base)
