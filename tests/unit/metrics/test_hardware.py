from __future__ import annotations

import psutil
import pytest
import torch

from framework.metrics.hardware import (
    describe_environment,
    peak_flops,
    peak_memory_bytes,
    training_flops_per_token,
)


def test_flops_of_gpt2_small_are_those_of_palms_formula() -> None:
    flops = training_flops_per_token(124_439_808, 1024 * 768, layers=12, width=768, context_length=1024)
    assert flops == 855_166_464


def test_only_attention_depends_on_the_context() -> None:
    short, long = (training_flops_per_token(1000, 100, 2, 8, context) for context in (16, 32))
    assert short == 6 * 900 + 12 * 2 * 8 * 16
    assert long - short == 12 * 2 * 8 * 16


def test_the_cpus_rate_is_measured() -> None:
    assert 1e8 < peak_flops(torch.device("cpu"), "fp32") < 1e15


def test_peak_memory_is_at_least_what_is_held_now_and_fits_the_machine() -> None:
    held = psutil.Process().memory_info().rss
    assert 0.9 * held <= peak_memory_bytes(torch.device("cpu")) < psutil.virtual_memory().total


@pytest.mark.parametrize("package", ["torch", "deepspeed", "transformers", "webdataset"])
def test_the_environment_names_versions_and_hardware(package: str) -> None:
    environment = describe_environment(2, torch.device("cpu"))
    assert environment["packages"][package]
    assert environment["packages"]["torch"] == torch.__version__
    assert (environment["world_size"], environment["device"]) == (2, "cpu")
    assert environment["cores"] >= 1
