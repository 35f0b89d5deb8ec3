"""``zerostream board``: TensorBoard over a run or all runs."""

from __future__ import annotations

import getpass
import socket
import subprocess
import sys
from pathlib import Path

from framework.errors import RunDirError


def serve_board(run_dir: Path, host: str, port: int) -> None:
    """Serves until interrupted.

    Raises:
        RunDirError: the folder does not exist.
    """
    if not run_dir.is_dir():
        raise RunDirError(f"{run_dir} does not exist", fix="train first, or name a run directory or a folder of them")
    port = port or _free_port(host)
    print(f"TensorBoard on http://{host}:{port}/ (stop it with Ctrl-C)")
    print(f"from your own machine: ssh -N -L {port}:{host}:{port} {_user()}@{socket.gethostname()}", flush=True)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(run_dir), "--host", host, "--port", str(port)]
    try:
        code = subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return
    if code:
        raise RunDirError(
            f"TensorBoard ended with exit code {code}", fix="read its message above; --port 0 takes a free port"
        )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "USER"


def _free_port(host: str) -> int:
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])
