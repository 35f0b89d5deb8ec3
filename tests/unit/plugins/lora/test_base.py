"""What is fine-tuned: found, described, known by its weights, and refused where it is not whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from framework.errors import ConfigError, UserError
from framework.plugins.lora.base import Base, open_base
from tests.tiny_base import CONTEXT, make_base


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    """A base to spoil."""
    return Path(shutil.copytree(base, tmp_path / "copy"))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_its_sizes_are_those_of_the_config(architecture: str, tmp_path: Path) -> None:
    sizes = open_base(str(make_base(tmp_path / "base", architecture))).sizes
    assert sizes == {"architecture": architecture, "layers": 2, "width": 32, "heads": 2, "context_length": CONTEXT}


def test_it_is_known_by_its_weights_wherever_it_is(base: Path, copy: Path) -> None:
    assert open_base(str(copy)).fingerprint == open_base(str(base)).fingerprint
    weights = load_file(copy / "model.safetensors")
    weights["transformer.wpe.weight"][0, 0] += 1e-6
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert open_base(str(copy)).fingerprint != open_base(str(base)).fingerprint


def test_a_missing_weight_is_refused_and_not_drawn_at_random(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks the weight transformer\.h\.1\.mlp\.c_fc\.weight"):
        open_base(str(copy)).load()


def test_weights_that_are_cut_off_are_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be loaded"):
        open_base(str(copy)).load()


def test_pickled_weights_are_not_read(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    for use in (Base.load, lambda base: base.fingerprint):
        with pytest.raises(UserError):
            use(open_base(str(copy)))


def test_a_config_without_a_size_is_refused_by_name(copy: Path) -> None:
    path = copy / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in values.items() if key != "n_layer"}))
    with pytest.raises(ConfigError, match="has no num_hidden_layers"):
        _ = open_base(str(copy)).sizes


@pytest.mark.parametrize("content", ["", "null", "[]", "{"])
def test_a_config_that_is_no_object_is_refused(content: str, copy: Path) -> None:
    (copy / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        _ = open_base(str(copy)).sizes


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "some/where/else", "organisation/no-such-model"])
def test_what_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match=name):
        open_base(name)
