"""One rank's entry point: ``torchrun --nproc-per-node 2 -m framework.train CONFIG [key.path=value ...]``."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path

from framework.config import load_config
from framework.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_REFUSED, ZerostreamError
from framework.failpoints import failpoint
from framework.train.stopping import StopRequest, stopped_before_first_step

_USAGE = "usage: torchrun --nproc-per-node N -m framework.train CONFIG [key.path=value ...]"


def main(arguments: list[str]) -> int:
    """Trains as ``arguments`` (config file and overrides) say; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, file=sys.stderr)
        return EXIT_FINISHED if arguments else EXIT_REFUSED
    stop = StopRequest()
    try:
        stop.install(_report)
        config = load_config(Path(arguments[0]), arguments[1:])
        failpoint("import")
        from framework.train.session import train  # torch and transformers take seconds: a typing error must not

        train(config, stop)
    except ZerostreamError as error:
        _report(str(error))
        return error.exit_code
    except Exception as error:  # a defect, ours or a dependency's: the traceback is what helps
        if stop.has_ended_start:  # the other ranks were faster, and a connection to them broke
            _report(str(stopped_before_first_step(stop.code(0.0))))
            return EXIT_PREEMPTED
        traceback.print_exc()
        fix = "read the traceback above; the same command goes on from the last checkpoint"
        _report(f"{type(error).__name__}: {error}. To fix it: {fix}.")
        return EXIT_FAILED
    finally:
        stop.close()
    return EXIT_FINISHED


def _report(message: str) -> None:
    """Says why this rank ends: to a person, and to torchrun, which shows the first rank's reason."""
    if os.environ.get("RANK", "0") == "0":
        print(f"zerostream: {message}", file=sys.stderr, flush=True)
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if error_file:
        details = {"message": message, "extraInfo": {"timestamp": str(int(time.time())), "py_callstack": ""}}
        Path(error_file).write_text(json.dumps({"message": details}), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
