"""Python, for the few modules whose starts are forked (tests/zygote.py); any other start is handed to the real one.

    python -S -E tests/forked_python.py NAME [-u] -m MODULE [ARGUMENTS ...]

NAME is the executable file that calls this one, in the folder of the zygote's socket.

It stands for the process that was asked for in all that another one can see: it has its arguments, hands on its signals and its
open files, and ends as it ended. When it is killed, so is what it stands for.
"""

import ctypes
import json
import os
import signal
import socket
import sys
from contextlib import suppress

FORKED = ("launch.cli", "framework.train", "torch.distributed.run", "benchmarks")
PR_SET_PDEATHSIG = 1
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


def main(name: str, words: list[str]) -> int:
    """Exit code of the start; negative for the signal that killed it."""
    pids: list[int] = []
    early: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        if not pids:
            early.append(number)
            return
        with suppress(ProcessLookupError):  # it has ended, and its exit code is on the way
            os.kill(pids[0], number)

    for number in SIGNALS:
        signal.signal(number, hand_on)
    if words[1] == "framework.train":  # a rank hears of the death of its agent, which is this process's parent
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    request = {
        "module": words[1],
        "arguments": words[2:],
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "executable": name,
    }
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.path.join(os.path.dirname(name), "socket"))
    text = (json.dumps(request) + "\n").encode()
    sent = socket.send_fds(connection, [text], [0, 1, 2])
    connection.sendall(text[sent:])
    answers = connection.makefile("r")
    pids += json.loads(answers.readline())["pids"]
    for number in early:
        hand_on(number, None)
    [code] = json.loads(answers.readline())["codes"]
    return int(code)


if __name__ == "__main__":
    name, *words = sys.argv[1:]
    rest = words[1:] if words[:1] == ["-u"] else words
    if rest[:1] != ["-m"] or rest[1] not in FORKED:
        os.execv(sys.executable, [sys.executable, *words])
    ended = main(name, rest)
    if ended < 0:
        signal.signal(-ended, signal.SIG_DFL)
        os.kill(os.getpid(), -ended)
    os._exit(ended)
