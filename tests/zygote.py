"""Forks real processes from one that has imported everything: a start then costs a tenth of a second of processor, and not six.

    python -m tests.zygote SOCKET

A connection is one start, and a fork of its own serves it. The client sends one JSON line, gets one back when what it asked for
runs (``pids``), and another when all of it has ended. When the client is gone, so is what it started. There are two kinds:

* a command (``module``, ``arguments``, ``environment``, ``directory``, and three open files): what ``python -m module arguments``
  does, from where its imports are done. Its ``sys.executable`` is the program that asks for such starts (tests/forked_python.py),
  so that torchrun's agent, which this may be, gets its ranks in the same way.
* ranks (beside those ``ranks``, ``folder``, ``trace``): the fork is to them what torchrun's agent is to those of ``zerostream
  train``: it holds their store, and when one rank fails it ends the others, politely first.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tests.faults.trace import record_durability

GRACE_SECONDS = 10.0  # as launch.local
_POLL_SECONDS = 0.01
# With what they import only when they are asked to do something. Not what is run as a module: that would be there twice.
_IMPORTED = (
    "framework.train.session",
    "framework.train.trained",
    "framework.metrics.tensorboard",
    "framework.engine.reference",
    "framework.engine.deepspeed_engine",
    "framework.plugins.lora.commands",
    "launch.local",
    "launch.slurm.commands",
    "peft",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "torch.distributed.run",
    "torch.distributed.launcher.api",
    "torch.profiler",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
)


def main() -> None:
    """Imports, then serves for as long as standard input is open."""
    for name in _IMPORTED:
        importlib.import_module(name)
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    # pyarrow's allocator knows of forks; any other thread would be missing in what is forked, its locks held for ever.
    if len([name for name in names if name != "jemalloc_bg_thd"]) > 1:
        raise RuntimeError(f"threads run already: {', '.join(names)}")
    gc.collect()
    gc.freeze()  # or each fork's first collection would copy every page
    signal.signal(signal.SIGCHLD, _reap)
    server = socket.socket(socket.AF_UNIX)
    server.bind(sys.argv[1])
    server.listen(64)
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([server, sys.stdin], [], [])
        if sys.stdin in readable:
            return
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _serve(connection)
        connection.close()


def _reap(number: int, frame: FrameType | None) -> None:
    """Of what has ended the processor time is counted as this process's children's, which ignoring the signal would forget."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _serve(connection: socket.socket) -> NoReturn:
    """Runs one start and ends this process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    try:
        request, files = _receive(connection)
        if "ranks" in request:
            _supervise(request, connection)
        else:
            _run_command(request, files, connection)
    except BaseException:
        traceback.print_exc()
    os._exit(0)


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    text, files, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while not text.endswith(b"\n"):
        text += connection.recv(1 << 16)
    return json.loads(text), files


def _run_command(request: dict[str, Any], files: list[int], connection: socket.socket) -> None:
    pid = os.fork()
    if pid == 0:
        connection.close()
        os.setsid()
        for target, file in enumerate(files):
            os.dup2(file, target)
            os.close(file)
        os.environ.clear()
        sys.executable = request["executable"]
        _be_module(request)
    for file in files:
        os.close(file)
    _tell(connection, {"pids": [pid]})
    _tell(connection, {"codes": list(_wait_for_all([pid], connection).values())})


def _supervise(request: dict[str, Any], connection: socket.socket) -> None:
    import torch.distributed as dist

    # The ranks are forked before the store begins a thread, and wait for its port.
    started = [_fork_rank(request, rank, connection) for rank in range(request["ranks"])]
    store = dist.TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=300), wait_for_workers=False)
    for _, pipe in started:
        os.write(pipe, str(store.port).encode())
        os.close(pipe)
    pids = [pid for pid, _ in started]
    _tell(connection, {"pids": pids})
    codes = _wait_for_all(pids, connection)
    first = next((pid for pid, code in codes.items() if code != 0), None)
    exit_code = 0 if first is None else codes[first] if codes[first] in (2, 75) else 1
    _tell(
        connection,
        {
            "exit_code": exit_code,
            "first": None if first is None else pids.index(first),
            "codes": [codes[pid] for pid in pids],
            "ended": time.time(),
        },
    )


def _wait_for_all(pids: list[int], connection: socket.socket) -> dict[int, int]:
    """Exit code by process, in the order in which they ended; negative for a signal."""
    codes: dict[int, int] = {}
    kill_at: float | None = None
    while len(codes) < len(pids):
        for pid in pids:
            if pid not in codes and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        alive = [pid for pid in pids if pid not in codes]
        if kill_at is None and any(codes.values()):
            kill_at = time.monotonic() + GRACE_SECONDS
            _signal(alive, signal.SIGTERM)
        if _is_closed(connection) or (kill_at is not None and time.monotonic() > kill_at):
            _signal(alive, signal.SIGKILL)
    return codes


def _is_closed(connection: socket.socket) -> bool:
    """Whether the client has gone; waits a moment for it."""
    readable, _, _ = select.select([connection], [], [], _POLL_SECONDS)
    return bool(readable) and connection.recv(1) == b""


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)  # ours, and not yet reaped: the number is still theirs


def _fork_rank(request: dict[str, Any], rank: int, connection: socket.socket) -> tuple[int, int]:
    """The process, and where it waits for the store's port."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        connection.close()
        os.close(write_end)
        _be_rank(request, rank, os.read(read_end, 16).decode())
    os.close(read_end)
    return pid, write_end


def _be_rank(request: dict[str, Any], rank: int, port: str) -> NoReturn:
    os.setsid()
    if request["ranks"] == 1:  # or it would take a thread for each core, and they would wait for each other, spinning
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    folder = Path(request["folder"])
    log = os.open(folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    ranks = str(request["ranks"])
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        GROUP_RANK="0",
        WORLD_SIZE=ranks,
        LOCAL_WORLD_SIZE=ranks,
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=port,
        TORCHELASTIC_USE_AGENT_STORE="True",
        TORCHELASTIC_RESTART_COUNT="0",
        TORCHELASTIC_MAX_RESTARTS="0",
        TORCHELASTIC_RUN_ID=folder.name,
        TORCHELASTIC_ERROR_FILE=str(folder / f"rank-{rank}.error.json"),
    )
    if request["trace"]:
        record_durability(Path(request["trace"]))
    _be_module(request)


def _be_module(request: dict[str, Any]) -> NoReturn:
    """What ``python -m`` does, as far as it is not done yet."""
    from framework import failpoints

    code: object = 0
    try:
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        sys.path[:0] = [request["directory"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        importlib.invalidate_caches()
        failpoints.arm(os.environ.get("ZEROSTREAM_FAILPOINTS", ""))
        sys.argv[1:] = request["arguments"]
        sys.stdout.reconfigure(line_buffering=True)  # as under -u, which ranks are started with
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _tell(connection: socket.socket, values: dict[str, Any]) -> None:
    connection.sendall((json.dumps(values) + "\n").encode())


if __name__ == "__main__":
    main()
