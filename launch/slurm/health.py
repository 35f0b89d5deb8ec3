"""A short look at each node before ranks start: its disks, its devices, and its link to the first node.

What is wrong with a node is a list of short sentences; an empty one is a healthy node. The report stays in the start's log
folder, and what comes after the start reads it there (``launch.slurm.afterwards``).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from framework.durable import free_bytes

_PAYLOAD_BYTES = 16 * 2**20
_PINGS = 5
_LEAST_FREE_BYTES = 100 * 2**20
_CHUNK_BYTES = 2**20


def look(
    node: str,
    run_dir: Path,
    scratch: Path | None,
    gpus: int,
    probe: Callable[[], tuple[float, float]] | None,
    minimum_megabytes_per_second: float | None,
) -> dict[str, Any]:
    """What this node finds out about itself.

    Args:
        node: its name.
        run_dir: has to be there, to be writable, and to have room.
        scratch: likewise, if the profile names one.
        gpus: devices that ranks will use; 0 does not look.
        probe: gives megabytes a second and round trip seconds to the first node; None on that node itself.
        minimum_megabytes_per_second: a slower link is a problem; None measures without judging.

    Returns:
        ``{"node", "problems": [sentence], "megabytes_per_second", "round_trip_seconds", "gpus"}``.
    """
    problems = [*_disk_problems(run_dir), *(_disk_problems(scratch) if scratch is not None else ())]
    report: dict[str, Any] = {"node": node, "problems": problems}
    if gpus:
        report["gpus"], problem = _count_gpus()
        if problem:
            problems.append(problem)
        elif report["gpus"] < gpus:
            problems.append(f"{report['gpus']} of {gpus} GPUs are there")
    if probe is not None:
        try:
            speed, round_trip = probe()
        except OSError as error:
            problems.append(f"the link to the first node failed: {error.strerror or type(error).__name__}")
        else:
            report |= {"megabytes_per_second": round(speed, 1), "round_trip_seconds": round(round_trip, 6)}
            if minimum_megabytes_per_second is not None and speed < minimum_megabytes_per_second:
                least = minimum_megabytes_per_second
                problems.append(f"{speed:.1f} MB/s to the first node, less than {least:g}")
    return report


def save(path: Path, report: dict[str, Any]) -> None:
    """Leaves a report for those who come after; a disk that refuses it is a problem which it names itself."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report) + "\n", encoding="utf-8")


def missing_report(node: str, what: str, seconds: float) -> dict[str, Any]:
    """Of a node that did not do ``what`` it should in time."""
    return {"node": node, "problems": [f"{what} within {seconds:.0f} s"]}


class LinkServer:
    """On the first node: takes what other nodes send and gives each ping back, on a port of its own."""

    def __init__(self) -> None:
        self._listener = (
            socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
            if _has_ipv6()
            else (socket.create_server(("", 0)))
        )
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, name="link", daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def measure_link(address: str, port: int, seconds: float) -> tuple[float, float]:
    """Megabytes a second towards the first node, and the shortest round trip in seconds.

    Raises:
        OSError: the connection fails or takes longer than ``seconds``.
    """
    with socket.create_connection((address, port), timeout=seconds) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = []
        for _ in range(_PINGS):
            began = time.perf_counter()
            connection.sendall(b"p")
            _read_exactly(connection, 1)
            trips.append(time.perf_counter() - began)
        payload = bytes(_CHUNK_BYTES)
        began = time.perf_counter()
        connection.sendall(b"b")
        for _ in range(_PAYLOAD_BYTES // _CHUNK_BYTES):
            connection.sendall(payload)
        _read_exactly(connection, 1)
        return _PAYLOAD_BYTES / 1e6 / (time.perf_counter() - began), min(trips)


def _answer(connection: socket.socket) -> None:
    with suppress(OSError), connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while command := connection.recv(1):
            if command == b"b":
                _read_exactly(connection, _PAYLOAD_BYTES)
            connection.sendall(b"k")


def _read_exactly(connection: socket.socket, size_bytes: int) -> None:
    while size_bytes > 0:
        received = connection.recv(min(size_bytes, _CHUNK_BYTES))
        if not received:
            raise ConnectionResetError("the other side hung up")
        size_bytes -= len(received)


def _has_ipv6() -> bool:
    return socket.has_dualstack_ipv6()


def _disk_problems(folder: Path) -> list[str]:
    path = folder / f".health-{socket.gethostname()}-{os.getpid()}"
    try:
        if not folder.is_dir():
            return [f"{folder} is not there"]
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, b"zerostream")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        finally:
            path.unlink(missing_ok=True)
        free = free_bytes(folder)
    except OSError as error:
        return [f"{folder} cannot be written: {error.strerror}"]
    return [f"{folder} has {free / 2**20:.0f} MB left"] if free < _LEAST_FREE_BYTES else []


def _count_gpus() -> tuple[int, str]:
    """Devices by the driver's own tool, which hangs or fails on a broken one; what is visible is not asked."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0, "nvidia-smi is not there, so no GPU can be counted"
    try:
        done = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0, "nvidia-smi does not answer"
    if done.returncode:
        return 0, f"nvidia-smi failed: {' '.join((done.stdout + done.stderr).split())[:200]}"
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines()), ""
