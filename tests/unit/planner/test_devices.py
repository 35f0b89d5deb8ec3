"""The table of devices, and the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.errors import ConfigError
from framework.planner import device_named, load_devices

MINE = """
mine:
  memory_bytes: 96.0e+9
  peak_flops: {bf16: 500.0e+12, fp32: 50.0e+12}
  memory_bytes_per_second: 2.0e+12
  link_bytes_per_second: 100.0e+9
  nic_bytes_per_second: 10.0e+9
  host_memory_bytes: 100.0e+9
  host_bytes_per_second: 25.0e+9
  base_bytes: 1.0e+9
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_device_names_its_source_and_has_sensible_rates() -> None:
    for name, device in load_devices().items():
        assert name == device.name == name.lower()
        assert len(device.source) > 20, name
        assert device.peak_flops.bf16 >= device.peak_flops.fp32
        assert device.base_bytes < device.memory_bytes / 5
        assert device.nic_bytes_per_second <= device.link_bytes_per_second


def test_names_in_any_case() -> None:
    assert device_named("H200") is not None
    assert device_named("H200") == device_named("h200")


def test_a_file_adds_and_replaces(tmp_path: Path) -> None:
    devices = written(tmp_path / "devices.yaml", MINE + MINE.replace("mine", "h100"))
    assert device_named("mine", devices).memory_bytes == 96e9
    assert device_named("h100", devices).memory_bytes == 96e9
    assert device_named("a100", devices) == device_named("a100")


def test_an_unknown_device_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="--device h100"):
        device_named("h101")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1", "no table"),
        ("a: 1", "no table"),
        ("a: [", "cannot be read"),
        (MINE.replace("  base_bytes: 1.0e+9\n", ""), r"mine\.base_bytes"),
        (MINE.replace("96.0e+9", "-1.0"), r"mine\.memory_bytes"),
        (MINE.replace("500.0e+12", ".inf"), r"mine\.peak_flops\.bf16"),
        (MINE + "  colour: red\n", r"mine\.colour"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_devices(written(tmp_path / "devices.yaml", text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_devices(tmp_path / "nothing.yaml")
