"""Outside packages with a plugin, as pip would leave them, and zerostream run beside them in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def install(site: Path, name: str, target: str, package: str, source: str) -> None:
    """What pip leaves of a package with one module and one entry point."""
    (site / package).mkdir(parents=True)
    (site / package / "__init__.py").write_text(source, encoding="utf-8")
    information = site / f"{name}-0.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text(f"[zerostream.plugins]\n{name} = {target}\n")


def run_python(
    folder: Path, site: Path, *arguments: str, python: str | Path = sys.executable
) -> subprocess.CompletedProcess[str]:
    """``python ARGUMENTS`` in ``folder``, with the packages of ``site`` installed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))}
    return subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def run_zerostream(folder: Path, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``zerostream ARGUMENTS``, likewise."""
    return run_python(folder, site, "-c", "from launch.cli import main; main()", *arguments)
