"""Sides that take turns: real processes, standing still while it is not their turn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.turn_gate import GIVER
from benchmarks.turns import Side, SideError, interleave, rate
from tests.conftest import ROOT

SIDE = """
import sys
from pathlib import Path
from benchmarks.turn_gate import TurnGate

folder, log, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
gate = TurnGate(folder, warmup=2, steps=3)
gate.begin_turn()
step = 0
while True:
    step += 1
    with log.open("a") as file:
        file.write(name)
    if gate.ends_turn(step):
        gate.end_turn({"tokens": 10 * step})
        gate.begin_turn()
"""


def start(folder: Path, log: Path, name: str) -> Side:
    command = [sys.executable, "-c", SIDE, str(folder), str(log), name]
    return Side(command, folder, environment={"PYTHONPATH": str(ROOT)}, patience_seconds=60)


def test_sides_work_in_their_turns_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with start(tmp_path / "a", log, "a") as a, start(tmp_path / "b", log, "b") as b:
        turns = interleave({"a": a, "b": b}, 2)
    assert log.read_text() == "aabb" + "aaabbb" + "bbbaaa"
    assert [turn["tokens"] for turn in turns["a"]] == [50, 80]
    assert all(0 < turn["seconds"] < 60 and turn["cpu_seconds"] >= 0 for turn in turns["a"] + turns["b"])


def test_a_side_does_not_outlive_who_gives_turns(tmp_path: Path) -> None:
    giver = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    folder = tmp_path / "side"
    folder.mkdir()
    for name in ("go", "answers"):
        os.mkfifo(folder / name)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), GIVER: str(giver.pid)}
    side = subprocess.Popen([sys.executable, "-c", SIDE, str(folder), str(tmp_path / "log"), "a"], env=environment)
    with pytest.raises(subprocess.TimeoutExpired):  # as long as the giver lives, it waits
        side.wait(timeout=4)
    giver.kill()
    giver.wait()
    assert side.wait(timeout=60) == 1


def test_a_side_that_ends_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such model')"]
    with Side(command, tmp_path / "side") as side, pytest.raises(SideError, match=r"ended with 1: no such model"):
        side.next_turn()


def test_a_side_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    side = Side(command, tmp_path / "side", patience_seconds=0.5)
    with side, pytest.raises(SideError, match="no answer within"):
        side.next_turn()


def test_a_rate_is_the_median_of_turns() -> None:
    turns = [{"tokens": 10, "seconds": 2}, {"tokens": 10, "seconds": 1}, {"tokens": 10, "seconds": 5}]
    assert rate(turns) == 5
