"""What a cluster consists of: decided once by ``up``, remembered in its state directory until ``down``."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import ClusterError

STATE_PARENT = Path("/var/tmp")
_NAME = re.compile(r"[a-z][a-z0-9]{0,7}")
_FIRST_PORT = 17_000  # below the range from which Linux hands out ports by itself
_LONGEST_SOCKET = 100  # a socket's path may have 107 bytes
_MOST_NODES = 64
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Node:
    """One slurmd."""

    name: str
    address: str
    port: int


@dataclass(frozen=True)
class Plan:
    """One cluster, and every path of it.

    Args:
        subnet: the first three numbers of the nodes' addresses when each has a network namespace, else empty.
    """

    name: str
    state_dir: Path
    nodes: tuple[Node, ...]
    controller_port: int
    cpus_per_node: int
    memory_per_node_mb: int
    subnet: str

    @property
    def namespaces(self) -> bool:
        return bool(self.subnet)

    @property
    def controller_address(self) -> str:
        return f"{self.subnet}.254" if self.namespaces else _LOOPBACK

    @property
    def conf(self) -> Path:
        """What SLURM_CONF has to name."""
        return self.state_dir / "slurm.conf"

    @property
    def munge_key(self) -> Path:
        return self.state_dir / "munge" / "key"

    @property
    def munge_socket(self) -> Path:
        return self.state_dir / "munge" / "socket"

    @property
    def logs(self) -> Path:
        return self.state_dir / "logs"

    @property
    def export_line(self) -> str:
        return f"export SLURM_CONF={self.conf}"

    def node(self, name: str) -> Node:
        """
        Raises:
            ClusterError: no node has this name.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise ClusterError(f"the cluster has no node {name!r}", fix=f"name one of {names}")

    def save(self) -> None:
        text = json.dumps(asdict(self) | {"state_dir": str(self.state_dir)}, indent=1)
        temporary = _plan_file(self.state_dir).with_suffix(".tmp")
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(_plan_file(self.state_dir))


def state_directory(name: str, given: Path | None) -> Path:
    """Where the cluster ``name`` is, or will be.

    Raises:
        ClusterError: the name cannot begin a node's name, or the path is too long for a socket.
    """
    if not _NAME.fullmatch(name):
        raise ClusterError(
            f"the name {name!r} does not do", fix="take up to 8 small letters and digits, a letter first"
        )
    path = (given or STATE_PARENT / f"zerostream-slurm-{name}").resolve()
    if len(str(path / "munge" / "socket")) > _LONGEST_SOCKET:
        raise ClusterError(f"the path {path} is too long for a socket", fix="take a shorter --state-dir")
    if re.search(r"[\s#=,]", str(path)):
        raise ClusterError(
            f"slurm.conf cannot hold the path {str(path)!r}", fix="take a --state-dir without blanks, #, = or ,"
        )
    return path


def load_plan(state_dir: Path) -> Plan | None:
    """The cluster that ``up`` has put there; None if there is none.

    Raises:
        ClusterError: there is something else there, or another user may have put it there.
    """
    if not state_dir.exists():
        return None
    if not state_dir.is_dir():
        raise ClusterError(f"{state_dir} is no directory", fix="take another --state-dir")
    status = state_dir.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise ClusterError(
            f"{state_dir} belongs to somebody else, or can be written by others", fix="take another --state-dir"
        )
    if not _plan_file(state_dir).exists():
        if any(state_dir.iterdir()):
            raise ClusterError(
                f"{state_dir} holds files that are none of a local cluster", fix="take another --state-dir"
            )
        return None
    values = json.loads(_plan_file(state_dir).read_text(encoding="utf-8"))
    nodes = tuple(Node(**node) for node in values.pop("nodes"))
    return Plan(**values | {"nodes": nodes, "state_dir": Path(values["state_dir"])})


def make_plan(name: str, state_dir: Path, nodes: int, cpus_per_node: int, subnet: str) -> Plan:
    """A new cluster on ports that are free now.

    Raises:
        ClusterError: a number is out of range.
    """
    if not 1 <= nodes <= _MOST_NODES:
        raise ClusterError(f"--nodes {nodes} does not do", fix=f"take 1 to {_MOST_NODES}")
    if not 1 <= cpus_per_node <= 1024:
        raise ClusterError(f"--cpus-per-node {cpus_per_node} does not do", fix="take 1 to 1024")
    ports = _free_ports(_FIRST_PORT)
    controller_port = next(ports)
    members = tuple(
        Node(f"{name}{index}", f"{subnet}.{index}" if subnet else _LOOPBACK, next(ports))
        for index in range(1, nodes + 1)
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return Plan(name, state_dir, members, controller_port, cpus_per_node, max(512, memory // nodes), subnet)


def _plan_file(state_dir: Path) -> Path:
    return state_dir / "cluster.json"


def _free_ports(first: int) -> Iterator[int]:
    for port in range(first, first + 2_000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
        yield port
    raise ClusterError(f"no port from {first} to {first + 1_999} is free", fix="end what holds them")
