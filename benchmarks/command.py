"""The ``zerostream`` of this tree, as a benchmark runs it: quietly, unless it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

ZEROSTREAM = (sys.executable, "-m", "launch.cli")
_LAST_LINES = 15


def zerostream(*arguments: object, environment: Mapping[str, str] | None = None, timeout: float = 1800) -> None:
    """Runs ``zerostream ARGUMENTS`` to its end, with ``environment`` beside this process's own.

    Raises:
        SystemExit: It failed; with its last lines, for without it there is nothing to measure.
        subprocess.TimeoutExpired: It took longer than ``timeout`` seconds, and was ended.
    """
    words = [str(argument) for argument in arguments]
    done = subprocess.run(
        [*ZEROSTREAM, *words],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        last_lines = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:])
        raise SystemExit(f"`zerostream {' '.join(words)}` ended with {done.returncode}:\n{last_lines}")
