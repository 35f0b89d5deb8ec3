"""Real sockets and processes: who listens is found, and who is not there is named."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.rendezvous import (
    Endpoint,
    RendezvousError,
    address_of_interface,
    find,
    interface_of,
    is_loopback,
    local_address_to,
    publish,
    resolve,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return port_of(server)


def test_what_is_published_is_found(tmp_path: Path, listener: socket.socket) -> None:
    path = tmp_path / "rendezvous" / "7-0.json"
    publish(path, Endpoint("node1", "127.0.0.1", port_of(listener)))
    assert find(path, seconds=5, first_node="node1", this_node="node2") == ("127.0.0.1", port_of(listener))
    assert [entry.name for entry in path.parent.iterdir()] == ["7-0.json"]


def test_a_node_waits_for_the_first_one(tmp_path: Path, listener: socket.socket) -> None:
    path = tmp_path / "7-0.json"
    later = threading.Timer(0.5, publish, (path, Endpoint("node1", "127.0.0.1", port_of(listener))))
    later.start()
    assert find(path, seconds=30, first_node="node1", this_node="node2")[1] == port_of(listener)
    later.join()


def test_an_address_that_does_not_answer_is_no_end_if_the_name_does(tmp_path: Path, listener: socket.socket) -> None:
    # The first node may know itself under an address that others cannot use, as 127.0.1.1 on Debian.
    path = tmp_path / "7-0.json"
    publish(path, Endpoint("localhost", "no-such-host.invalid", port_of(listener)))
    assert find(path, seconds=5, first_node="localhost", this_node="node2") == ("localhost", port_of(listener))


def test_a_deadline_names_the_host_that_published_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(RendezvousError) as missed:
        find(tmp_path / "7-0.json", seconds=0.3, first_node="node1", this_node="node2")
    assert "host node1" in missed.value.cause
    assert "node node2" in missed.value.cause
    assert "7-0.json" in missed.value.cause
    assert time.monotonic() - began >= 0.3


def test_a_deadline_names_host_and_port_that_do_not_answer(tmp_path: Path) -> None:
    port = closed_port()
    publish(tmp_path / "7-0.json", Endpoint("no-such-host.invalid", "127.0.0.1", port))
    with pytest.raises(RendezvousError) as missed:
        find(tmp_path / "7-0.json", seconds=0.3, first_node="node1", this_node="node2")
    assert f"host no-such-host.invalid port {port}" in missed.value.cause
    assert f"127.0.0.1:{port}: Connection refused" in missed.value.cause
    assert "no-such-host.invalid" in missed.value.cause
    assert "the name does not resolve" in missed.value.cause
    assert "network_interface" in missed.value.fix


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": "a"}', b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_waited_for_and_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "7-0.json").write_bytes(content)
    with pytest.raises(RendezvousError, match=r"7-0\.json cannot be read"):
        find(tmp_path / "7-0.json", seconds=0.3, first_node="node1", this_node="node2")


def test_processes_meet_at_a_port_that_nobody_chose(tmp_path: Path) -> None:
    path = tmp_path / "7-0.json"
    first = (
        "import socket, sys; from pathlib import Path; from launch.rendezvous import *\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        f"publish(Path({str(path)!r}), Endpoint('node1', '127.0.0.1', server.getsockname()[1]))\n"
        "for _ in range(2): server.accept()\n"
    )
    other = (
        "import sys; from pathlib import Path; from launch.rendezvous import *\n"
        f"print(find(Path({str(path)!r}), seconds=30, first_node='node1', this_node=sys.argv[1])[1])\n"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", other, name], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for name in ("node2", "node3")
    ]
    server = subprocess.Popen([sys.executable, "-c", first], cwd=ROOT)
    ports = [process.communicate(timeout=60)[0].strip() for process in others]
    assert server.wait(60) == 0
    assert ports == [str(json.loads(path.read_text())["port"])] * 2


def test_interfaces_and_addresses_belong_together() -> None:
    assert address_of_interface("lo") == "127.0.0.1"
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("127.0.1.1") == "lo"  # not listed, and yet its own
    assert interface_of("203.0.113.7") is None
    assert address_of_interface("no-such0") is None
    assert local_address_to("127.0.0.1", 9) == "127.0.0.1"


def test_names_resolve_or_do_not() -> None:
    assert resolve("127.0.0.1") == "127.0.0.1"
    assert resolve("no-such-host.invalid") is None


@pytest.mark.parametrize(
    ("address", "answer"),
    [("127.0.0.1", True), ("127.0.1.1", True), ("::1", True), ("10.0.0.1", False), ("node1", False), ("", False)],
)
def test_loopback_addresses_are_known(address: str, answer: bool) -> None:
    assert is_loopback(address) is answer
