"""A login node need not have torch, nor time to import it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[4]
HEAVY = ("torch", "transformers", "deepspeed", "datasets", "tensorboard")
CODE = f"""
import sys
from launch.cli import main
sys.argv = ["zerostream", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print([name for name in {HEAVY} if name in sys.modules])
"""


def submit(*arguments: object) -> tuple[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, "submit", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    *printed, last = done.stdout.splitlines()
    return "\n".join(printed), yaml.safe_load(last)


def test_help_needs_nothing_heavy() -> None:
    printed, loaded = submit("--help")
    assert "--cluster" in printed
    assert loaded == []


@pytest.mark.parametrize("profile", ["cpu", "preemptible", "local"])
def test_a_dry_run_needs_nothing_heavy(tiny_config: Path, tiny_shards: Path, tmp_path: Path, profile: str) -> None:
    cluster = ROOT / "slurm" / "profiles" / f"{profile}.yaml"
    mine = tmp_path / "site.yaml"
    values = {
        **yaml.safe_load(cluster.read_text()),
        "shared": [str(tmp_path), str(tiny_shards)],
        "ranks_per_node": 1,
        "partition": None,
    }
    mine.write_text(yaml.safe_dump({key: value for key, value in values.items() if key != "gpus_per_node"}))
    printed, loaded = submit(tiny_config, f"run_dir={tmp_path}/run", "--cluster", mine, "--dry-run")
    assert "#!/bin/bash" in printed
    assert loaded == []
