from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from framework.errors import EXIT_PREEMPTED, EXIT_REFUSED
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


# Runs a rank's entry point, which refuses its arguments. What is left in ``__main__`` is torn down when Python has already given
# all signals their defaults back; a rank that has trained spends seconds there.
ENDING = """
import os, signal, sys

class Last:
    def __del__(self, kill=os.kill, me=os.getpid(), numbers=(signal.SIGUSR2, signal.SIGINT, signal.SIGTERM), write=os.write):
        for number in numbers:
            kill(me, number)
        write(1, b"still there")

last = Last()
from framework.train.__main__ import main
sys.exit(main(["missing.yaml"]))
"""


def test_a_signal_that_comes_while_python_ends_does_not_kill_a_rank_that_has_said_its_last_words() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=60)
    assert ended.stdout == "still there"
    assert ended.returncode == EXIT_REFUSED
    assert "missing.yaml" in ended.stderr


def test_closing_gives_the_wakeup_descriptor_back() -> None:
    code = """
import signal, socket
from framework.train.stopping import StopRequest
_, mine = socket.socketpair()
mine.setblocking(False)
signal.set_wakeup_fd(mine.fileno())
stop = StopRequest()
stop.install(print)
stop.close()
stop.close()  # once more changes nothing
assert signal.set_wakeup_fd(-1) == mine.fileno()
StopRequest().close()  # never installed
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
