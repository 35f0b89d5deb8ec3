from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from framework.config import Config, config_json_schema, load_config

ROOT = Path(__file__).parents[3]
QUICKSTART = ROOT / "configs" / "quickstart.yaml"
HEAVY = ("torch", "transformers", "deepspeed", "datasets", "tensorboard")
OF_CONFIGS = ("pydantic", "yaml", "framework.config")
COMMANDS = ("prepare", "train", "generate", "evaluate", "export", "board", "plan", "schema")

RunCli = Callable[..., Any]


def loaded_after(code: str, names: tuple[str, ...] = HEAVY) -> tuple[list[str], str]:
    """Which of these a new interpreter has loaded after ``code``, and what it printed before that."""
    code += f"\nimport sys\nprint([name for name in {names} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    *printed, last = finished.stdout.splitlines()
    return yaml.safe_load(last), "\n".join(printed)


def command(*arguments: object) -> str:
    return f"""
import sys
from launch.cli import main
sys.argv = {["zerostream", *map(str, arguments)]}
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""


# --- Without torch ---


def test_the_command_line_is_imported_without_torch() -> None:
    assert loaded_after("import launch.cli, launch.local, launch.dry_run, launch.prepare, framework.config")[0] == []


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["schema"]], ids=" ".join)
def test_help_and_schema_need_no_torch(arguments: list[str]) -> None:
    loaded, printed = loaded_after(command(*arguments))
    assert loaded == []
    assert printed


def test_help_needs_not_even_what_reads_configs() -> None:
    loaded, printed = loaded_after(command("--help"), HEAVY + OF_CONFIGS)
    assert loaded == []
    assert "finetune" in printed  # the plugins' commands are there


def test_a_dry_run_over_shards_needs_no_torch(tiny_config: Path) -> None:
    loaded, printed = loaded_after(command("train", tiny_config, "--dry-run", "--json", "--nproc", "2"))
    assert loaded == []
    assert "training tokens in" in json.loads(printed)["text"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 is refused where there is no GPU only")
def test_what_starts_ranks_imports_torch_and_leaves_the_rest_to_them(tiny_config: Path) -> None:
    """Ranks wait for it. A refusal is as far as it can go without starting any."""
    code = command("train", tiny_config, "engine.precision=fp16").replace("not ended.code", "ended.code == 2")
    names = ("torch", "transformers", "deepspeed", "datasets", "tensorboard", "sympy")
    assert loaded_after(code, names)[0] == ["torch"]


# --- Help ---


def test_help_lists_every_command(run_cli: RunCli) -> None:
    result = run_cli("--help")
    assert result.code == 0
    words = result.out.split()
    assert all(name in words for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run_cli: RunCli, name: str) -> None:
    result = run_cli(name, "-h")
    assert result.code == 0
    assert f"zerostream {name}" in result.out or "Usage" in result.out
    assert len(result.out.splitlines()) > 5


def test_the_schema_command_prints_the_schema(run_cli: RunCli) -> None:
    result = run_cli("schema")
    assert (result.code, result.out) == (0, config_json_schema())
    assert json.loads(result.out)["properties"].keys() == Config.model_fields.keys()


# --- Dry run ---


def test_a_dry_run_reports_the_resolved_config_the_batch_and_the_plan(
    run_cli: RunCli, tiny_config: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    result = run_cli(
        "train", tiny_config, f"run_dir={run_dir}", "train.max_steps=7", "--nproc", 2, "--dry-run", "--json"
    )
    assert (result.code, result.err) == (0, "")
    report = json.loads(result.out)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(json.dumps(report["config"]))  # JSON is YAML
    assert load_config(resolved) == load_config(tiny_config, [f"run_dir={run_dir}", "train.max_steps=7"])
    assert report["step"] == "8 sequences = 4 micro-batch x 1 accumulation x 2 ranks; 512 tokens a step"
    assert "7 steps, 3,584 tokens" in report["run"]
    assert report["rate"] == "0.001 after 5 steps of warm-up, then by a cosine to 0.0001"
    assert report["engine"] == "deepspeed ZeRO-1 (shards the optimizer), fp32"
    assert str(run_dir) in report["start"]
    assert not run_dir.exists()


def test_a_dry_run_reads_as_text(run_cli: RunCli, tiny_config: Path, tmp_path: Path) -> None:
    result = run_cli("train", tiny_config, f"run_dir={tmp_path / 'run'}", "engine.kind=reference", "--dry-run")
    assert result.code == 0
    assert "engine  reference (plain torch), fp32" in result.out
    assert "max_steps: 20" in result.out


def test_a_dry_run_without_shards_says_what_to_do_first(run_cli: RunCli, tmp_path: Path) -> None:
    result = run_cli("train", QUICKSTART, f"data.shards_dir={tmp_path / 'none'}", "--dry-run", "--json")
    assert result.code == 0
    assert "zerostream prepare" in json.loads(result.out)["text"]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_mixture_looks_at_each_part(
    run_cli: RunCli, tiny_config: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    def dry_run(first: str, second: str) -> Any:
        return run_cli("train", tiny_config, f"run_dir={tmp_path / 'run'}", "engine.kind=reference",
                       f"data.mixture=[{{weight: 1, {first}}}, {{weight: 1, {second}}}]", "--dry-run", "--json")  # fmt: skip

    local = f"shards_dir: {tiny_shards}"
    remote = f"shards_dir: {tmp_path / 'cache'}, remote: file://{tiny_shards}"
    assert "epochs" in json.loads(dry_run(local, remote).out)["text"]
    lacking = json.loads(dry_run(remote, f"shards_dir: {tmp_path / 'none'}").out)
    assert f"no shards in {tmp_path / 'none'} yet" in lacking["text"]
    manifest = tmp_path / "cache" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"vocab_size"', '"vocab"'))
    assert dry_run(local, remote).code == 2


# --- Errors ---


@pytest.mark.parametrize(
    ("arguments", "cause", "fix"),
    [
        (["train", QUICKSTART, "train.max_stps=3", "--dry-run"], "unknown key train.max_stps", "train.max_steps"),
        (["train", QUICKSTART, "--nproc", "3", "--dry-run"], "3 ranks cannot share the batch", "start 1 or 2 ranks"),
        (["train", "nowhere.yaml"], "nowhere.yaml does not exist", "existing YAML file"),
        (["prepare", QUICKSTART, "data.source=papyrus"], "built in: embedded", "choose one of these"),
        (["generate", "no/run"], "no/run is no run directory", "run_dir of a training run"),
        (["evaluate", "no/run"], "no/run is no run directory", "run_dir of a training run"),
        (["export", "no/run", "out"], "no/run is no run directory", "run_dir of a training run"),
        (["generate", "no/run", "--temperature", "-1"], "temperature -1.0", "0 (greedy)"),
        (["board", "no/run"], "no/run does not exist", "train first"),
    ],
)
def test_an_error_ends_with_two_and_one_line_of_cause_and_fix(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], cause: str, fix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.last_line.startswith("zerostream: ")
    said, _, remedy = result.last_line.partition(". To fix it: ")
    assert cause in said
    assert fix in remedy
    assert "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["trian", "x.yaml"], ["train"], ["train", "x.yaml", "--nproc", "0"]])
def test_a_wrong_use_of_the_command_line_ends_with_two(run_cli: RunCli, arguments: list[str]) -> None:
    result = run_cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Usage" in result.err
