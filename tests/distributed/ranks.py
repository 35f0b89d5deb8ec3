"""Runs on every rank: trains one config after another in the same process group, and reports each exit code.

    torchrun --nproc-per-node N -m tests.distributed.ranks JOBS.json OUTCOMES.json

Starting ranks takes longer than most of the jobs; here it is paid for once.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from framework.config import load_config
from framework.engine import join_world
from framework.errors import ZerostreamError
from framework.failpoints import arm
from framework.train.session import train
from framework.train.stopping import StopRequest


def run_job(name: str, arguments: list[str]) -> dict[str, object]:
    """The exit code that ``python -m framework.train`` would have, and the message; ``name!fault`` arms a failpoint."""
    arm(name.partition("!")[2])
    try:
        train(load_config(Path(arguments[0]), arguments[1:]), StopRequest())
    except ZerostreamError as error:
        return {"exit_code": error.exit_code, "message": str(error)}
    except Exception:
        return {"exit_code": 1, "message": traceback.format_exc()}
    return {"exit_code": 0, "message": ""}


def main() -> None:
    """Takes every job together with the other ranks; rank 0 writes the outcomes."""
    jobs: dict[str, list[str]] = json.loads(Path(sys.argv[1]).read_text())
    with join_world(120):
        outcomes = {name: run_job(name, arguments) for name, arguments in jobs.items()}
    if os.environ["RANK"] == "0":
        Path(sys.argv[2]).write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main()
