from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from framework.errors import EXIT_FINISHED, EXIT_PREEMPTED
from launch.local import _message, _root_cause

NOW = 1_800_000_000


def failure(tmp_path: Path, rank: int, exit_code: int, after: int = 0) -> ProcessFailure:
    """As torch's agent makes it from what a rank of ours has written."""
    error_file = tmp_path / f"{rank}.json"
    details = {"message": f"rank {rank} says so", "extraInfo": {"timestamp": str(NOW + after), "py_callstack": ""}}
    error_file.write_text(json.dumps({"message": details}))
    return ProcessFailure(rank, 1000 + rank, exit_code, str(error_file))


@pytest.mark.parametrize(
    ("exits", "root"),
    [
        ({0: (1, 0), 1: (-9, 1)}, 1),  # rank 0 lost its connection to the killed one, and was seen a second earlier
        ({0: (75, 0), 1: (-9, 0)}, 1),  # rank 0 was told to end because of it
        ({0: (75, 0), 1: (1, 1)}, 1),
        ({0: (1, 0), 1: (2, 0)}, 1),
        ({0: (2, 0), 1: (2, 0)}, 0),
        ({0: (75, 0), 1: (75, 1)}, 0),
        ({0: (75, 0), 1: (-15, 0)}, 0),  # rank 1 was still ending when the agent told it to
        ({0: (1, 0), 1: (-9, 4)}, 1),  # on a busy machine the agent looks late
        ({0: (-9, 10), 1: (1, 0)}, 1),  # rank 0 did not end by itself: the agent killed it ten seconds later
    ],
)
def test_the_root_cause_is_the_rank_that_made_the_others_end(
    tmp_path: Path, exits: dict[int, tuple[int, int]], root: int
) -> None:
    failures = {rank: failure(tmp_path, rank, code, after) for rank, (code, after) in exits.items()}
    assert _root_cause(failures)[0] == root
    assert _root_cause(dict(reversed(failures.items())))[0] == root


def test_a_rank_is_quoted_without_what_torch_packs_around_it(tmp_path: Path) -> None:
    assert _message(failure(tmp_path, 1, 2)) == "rank 1 says so"
    assert "Signal 9" in _message(ProcessFailure(1, 1001, -9, str(tmp_path / "none.json")))


# The real launcher and torch's real agent, with ranks that import nothing.
LAUNCHER = """
import os, signal, sys
from pathlib import Path
from framework.run_dir import RunDir
import launch.local as local

class Last:  # torn down when Python has given all signals their defaults back
    def __del__(self, kill=os.kill, me=os.getpid(), numbers=(signal.SIGUSR2, signal.SIGINT, signal.SIGTERM)):
        for number in numbers:
            kill(me, number)

last = Last()
local._RANK_MODULE = "rank"
sys.exit(local.launch_ranks(Path("config.yaml"), [], 2, RunDir(Path("run"))))
"""


def launched(tmp_path: Path, rank: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "rank.py").write_text(rank)
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(root)))}
    command = [sys.executable, "-c", LAUNCHER]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("code", [EXIT_FINISHED, EXIT_PREEMPTED])
def test_signals_that_come_when_the_ranks_have_ended_do_not_change_what_the_launcher_tells(
    tmp_path: Path, code: int
) -> None:
    # A child that outlives rank 0 sends signals from the moment when both ranks are dead, which the agent has yet to notice.
    rank = f"""
import os, signal, sys, time
launcher, me = os.getppid(), os.getpid()
for number in (signal.SIGUSR2, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
def is_running(pid):
    try:
        return open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
if os.environ["RANK"] == "0" and os.fork() == 0:
    others = [int(pid) for pid in open(f"/proc/{{launcher}}/task/{{launcher}}/children").read().split()]
    while any(map(is_running, others)):
        pass
    count = 0
    while is_running(launcher):
        os.kill(launcher, signal.SIGUSR2)
        count += 1
        open("sent", "w").write(str(count))
        time.sleep(0.002)
    os._exit(0)
sys.exit({code})
"""
    ended = launched(tmp_path, rank)
    assert ended.returncode == code
    assert int((tmp_path / "sent").read_text()) > 0
    assert "stopped before" not in ended.stderr


def test_a_signal_that_meets_a_rank_before_it_can_listen_is_no_failure(tmp_path: Path) -> None:
    rank = """
import os, signal, time
if os.environ["RANK"] == "0":
    os.kill(os.getppid(), signal.SIGUSR2)  # comes back, handed on, and is not listened to
time.sleep(60)
"""
    ended = launched(tmp_path, rank)
    assert ended.returncode == EXIT_PREEMPTED
    assert "stopped before rank" in ended.stderr
