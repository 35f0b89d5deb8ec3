"""Forks real ranks from a process that has imported everything: a start then costs a second, and not ten.

    python -m tests.faults.zygote SOCKET

A connection is one start. The client sends one JSON line (``arguments``, ``ranks``, ``environment``, ``folder``, ``trace``)
and gets one back when the ranks run, and another when the last of them has ended. A fork of its own serves each connection.
It is to its ranks what torchrun's agent is to those of ``zerostream train``: it holds their store, and when one rank fails it
ends the others, politely first. When the client is gone, so are the ranks.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from tests.faults.trace import record_durability

GRACE_SECONDS = 10.0  # as launch.local
_POLL_SECONDS = 0.01
# With what they import only when they are asked to do something.
_IMPORTED = (
    "framework.train.__main__",
    "framework.train.session",
    "framework.metrics.tensorboard",
    "framework.engine.reference",
    "framework.engine.deepspeed_engine",
    "transformers.models.gpt2.modeling_gpt2",
)


def main() -> None:
    """Imports, then serves for as long as standard input is open."""
    _import_everything()
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    # pyarrow's allocator knows of forks; any other thread would be missing in the ranks, its locks held for ever.
    if len([name for name in names if name != "jemalloc_bg_thd"]) > 1:
        raise RuntimeError(f"threads run already: {', '.join(names)}")
    gc.collect()
    gc.freeze()  # or each fork's first collection would copy every page
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
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


def _import_everything() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)


def _serve(connection: socket.socket) -> NoReturn:
    """Runs one start and ends this process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    try:
        _supervise(connection)
    except BaseException:
        traceback.print_exc()
    os._exit(0)


def _supervise(connection: socket.socket) -> None:
    import torch.distributed as dist

    request = json.loads(connection.makefile("r").readline())
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
    """What ``python -m framework.train`` does, from where its imports are done."""
    from framework import failpoints
    from framework.train.__main__ import main as train_main

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
    os.environ.update(request["environment"])
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
    code: object = 1
    try:
        if request["trace"]:
            record_durability(Path(request["trace"]))
        failpoints.arm(os.environ.get("ZEROSTREAM_FAILPOINTS", ""))
        code = train_main(request["arguments"])
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _tell(connection: socket.socket, values: dict[str, Any]) -> None:
    connection.sendall((json.dumps(values) + "\n").encode())


if __name__ == "__main__":
    main()
