from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from framework.errors import EXIT_PREEMPTED
from framework.train.stopping import StopRequest

# Waits in torch's own store, as a rank does whose peers have not come: no Python handler runs there.
WAITING = """
import sys
from datetime import timedelta
from framework.train.stopping import StopRequest
stop = StopRequest()
stop.install(lambda message: print(message, flush=True))
{before}
import torch.distributed as dist
store = dist.TCPStore("127.0.0.1", 0, 2, True, timedelta(seconds=60), wait_for_workers=False)
print("waiting", flush=True)
try:
    store.wait(["never"], timedelta(seconds={seconds}))
except Exception:
    print("code", stop.code(0.0), stop.has_ended_start, flush=True)
    sys.exit(9)
"""


def started(before: str = "", seconds: int = 60) -> subprocess.Popen[str]:
    code = WAITING.format(before=before, seconds=seconds)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_ends_a_start_that_waits_for_other_ranks(number: signal.Signals) -> None:
    process = started()
    asked = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == EXIT_PREEMPTED
    assert time.monotonic() - asked < 30  # and not the 60 seconds that it would have waited
    assert f"stopped before the first step ({number.name} was received)" in output


def test_after_the_first_step_a_signal_is_only_remembered() -> None:
    process = started(before="stop.step_done()", seconds=2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 9
    assert output == f"code {int(signal.SIGTERM)} False\n"


def test_the_time_limit_counts_from_the_start_and_keeps_a_reserve() -> None:
    stop = StopRequest()
    stop.limit(3600)
    assert stop.code(reserve_seconds=60) == 0
    assert stop.code(reserve_seconds=3601) != 0
    assert stop.code(reserve_seconds=0) != 0  # once agreed, it stays
