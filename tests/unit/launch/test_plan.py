"""``zerostream plan``: starts without torch, speaks JSON, refuses what it does not know."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.cli import main

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "configs" / "tinystories_gpt2_small.yaml"
HEAVY = ("torch", "numpy", "transformers", "deepspeed")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["zerostream", "plan", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert run(monkeypatch, *arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_it_loads_nothing_heavy() -> None:
    code = (
        f"import sys; sys.argv = ['zerostream', 'plan', {str(CONFIG)!r}, '--json']\n"
        "from launch.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "[]"


def test_one_object_with_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plan = answer(
        monkeypatch, capsys, CONFIG, "--nodes", 2, "--device", "a100", "--tokens", 1e9,
        "--price-per-gpu-hour", 2, "--mean-hours-between-failures", 12, "engine.micro_batch_size=16",
    )  # fmt: skip
    assert plan["ranks"] == 16
    memory = plan["memory"]
    assert memory["predicted_peak_bytes"] == sum(memory["parts"].values())
    assert memory["fits"] is True
    assert plan["run"]["cost"] == pytest.approx(2 * plan["run"]["gpu_hours"])
    assert plan["run"]["gpu_hours"] == pytest.approx(16 * plan["run"]["hours"])
    assert plan["run"]["hours"] == pytest.approx(1e9 / plan["speed"]["tokens_per_second"] / 3600)
    assert {way["memory"]["zero_stage"] for way in plan["ways"]} == {0, 1, 2, 3}
    assert plan["recommended"]["words"] in {way["words"] for way in plan["ways"]}
    assert plan["saving"]["every_steps"] >= 1


def test_people_get_tables_and_the_reason(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, CONFIG, "--gpus-per-node", 1) == 0
    printed = capsys.readouterr().out
    for words in ("ZeRO-3 + offload all", "recommended", "checkpoint", "tokens/s", "activations"):
        assert words in printed


def test_an_unknown_device_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, CONFIG, "--device", "h300") == 2
    assert "write --device h200" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("number", ["0", "-1", "nan", "inf"])
def test_a_budget_is_a_finite_number_of_tokens(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    assert run(monkeypatch, CONFIG, "--tokens", number) == 2


@pytest.mark.parametrize("option", ["--price-per-gpu-hour", "--mean-hours-between-failures", "--storage-gb-per-second"])
def test_infinity_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert run(monkeypatch, CONFIG, option, "inf") == 2
    assert f"{option} is inf" in capsys.readouterr().err


def test_a_short_run_takes_some_time(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, CONFIG, "--tokens", "1e6") == 0
    assert "1,000,000 tokens in 0.0001" in capsys.readouterr().out


def test_the_budget_is_the_configs_own_where_ranks_cannot_share_its_batch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quickstart = ROOT / "configs" / "quickstart.yaml"
    budgets = [
        answer(monkeypatch, capsys, quickstart, "--gpus-per-node", ranks)["run"]["tokens"] for ranks in (1, 2, 8)
    ]
    assert budgets == [3300 * 4 * 192] * 3


def test_the_way_of_the_config_is_told_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, CONFIG, "engine.offload.optimizer=true", "engine.activation_checkpointing=true") == 0
    assert "as configured  ZeRO-1 + recompute + offload, micro-batch 32" in capsys.readouterr().out


def test_calibration_is_written_and_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = {
        "model": {"layers": 4, "width": 256, "heads": 8, "context_length": 128},
        "tokenizer": {"vocab_size": 1024},
        "data": {"shards_dir": "nowhere"},
        "engine": {"micro_batch_size": 4, "global_batch_size": 8},
    }
    results, fitted = tmp_path / "results.jsonl", tmp_path / "fitted.json"
    lines = [{"config": config, "device": "cpu", "ranks": ranks, "tokens_per_second": 100.0} for ranks in (1, 2)]
    results.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    before = answer(monkeypatch, capsys, CONFIG, "--device", "cpu", "--gpus-per-node", 1)
    made = answer(
        monkeypatch, capsys, CONFIG, "--device", "cpu", "--gpus-per-node", 1, "--calibrate", results,
        "--calibration", fitted,
    )  # fmt: skip
    assert made["calibration"]["lines"] == 2
    assert made["calibration"]["largest_error"] < 0.2
    assert run(monkeypatch, CONFIG, "--device", "cpu", "--calibrate", results, "--calibration", results) == 2
    assert "is the file of results" in capsys.readouterr().err
    assert len(results.read_text(encoding="utf-8").splitlines()) == 2
    assert run(monkeypatch, CONFIG, "--device", "cpu", "--calibrate", results, "--calibration", tmp_path) == 2
    assert "is no file. To fix it: name a file" in capsys.readouterr().err
    read = answer(monkeypatch, capsys, CONFIG, "--device", "cpu", "--gpus-per-node", 1, "--calibration", fitted)
    assert read["speed"]["tokens_per_second"] == pytest.approx(made["speed"]["tokens_per_second"], rel=1e-3)
    assert read["speed"]["tokens_per_second"] != pytest.approx(before["speed"]["tokens_per_second"], rel=0.1)
