from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_a_rank_speaks_into_a_file_of_its_own_and_keeps_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "speaker.py").write_text(
        "import os, sys\n"
        "print('out', sys.argv[1:], os.environ['RANK'])\n"
        "print('err', file=sys.stderr)\n"
        "os.system('echo from a child')\n"
        "sys.exit(75)\n"
    )
    environment = {**os.environ, "RANK": "3", "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    command = [sys.executable, "-u", "-m", "launch.slurm.rank", str(tmp_path), "speaker", "a", "b=c"]
    for _ in range(2):  # a file that is there grows
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (75, "", "")
    said = (tmp_path / "rank-00003.out").read_text()
    assert said == "out ['a', 'b=c'] 3\nerr\nfrom a child\n" * 2


def test_the_process_that_the_agent_started_is_the_rank(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text("import os, signal\nprint(os.getpid())\nos.kill(os.getpid(), signal.SIGKILL)\n")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    command = [sys.executable, "-u", "-m", "launch.slurm.rank", str(tmp_path), "killed"]
    process = subprocess.Popen(command, env=environment)
    assert process.wait(60) == -signal.SIGKILL
    assert (tmp_path / "rank-00000.out").read_text() == f"{process.pid}\n"
