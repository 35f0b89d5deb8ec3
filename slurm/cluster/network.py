"""A network namespace and a host name for each node: veth pairs on a bridge, so that a node's link can be cut."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from .errors import ClusterError
from .plan import Node, Plan

_CLONE_NEWNET, _CLONE_NEWUTS = 0x4000_0000, 0x0400_0000
_INTERFACE = "eth0"  # in the node's namespace
_SUBNETS = [f"10.213.{third}" for third in range(256)]


def free_subnet() -> str:
    """The first three numbers of a network that no interface of this machine is in.

    Raises:
        ClusterError: there is no ``ip`` command, or no network left.
    """
    if shutil.which("ip") is None:
        raise ClusterError("there is no `ip` command for network namespaces", fix="run `slurm/local-cluster install`")
    addresses = re.findall(r"inet (\d+\.\d+\.\d+)\.", _ip("-o", "-4", "address"))
    for subnet in _SUBNETS:
        if subnet not in addresses:
            return subnet
    raise ClusterError("no network of 10.213.0.0/16 is free", fix="take clusters down that are not needed")


def build(plan: Plan) -> None:
    """Bridge, namespaces and links of the plan; what is there already stays.

    Raises:
        ClusterError: the kernel or the container does not allow it.
    """
    bridge = _bridge(plan)
    if not _exists(bridge):
        _ip("link", "add", bridge, "type", "bridge")
        _ip("address", "add", f"{plan.controller_address}/24", "dev", bridge)
    _ip("link", "set", bridge, "up")
    for node in plan.nodes:
        if _namespace(node).exists():
            set_link(node, connected=True)
            continue
        _ip("netns", "add", node.name)
        _ip("link", "add", _outer(node), "type", "veth", "peer", "name", _INTERFACE, "netns", node.name)
        _ip("link", "set", _outer(node), "master", bridge, "up")
        _ip("-n", node.name, "address", "add", f"{node.address}/24", "dev", _INTERFACE)
        for interface in ("lo", _INTERFACE):
            _ip("-n", node.name, "link", "set", interface, "up")


def remove(plan: Plan) -> None:
    """All of it; the links go with their namespaces."""
    for node in plan.nodes:
        if _exists(_outer(node)):
            _ip("link", "delete", _outer(node))
        if _namespace(node).exists():
            _ip("netns", "delete", node.name)
    if _exists(_bridge(plan)):
        _ip("link", "delete", _bridge(plan))


def set_link(node: Node, *, connected: bool) -> None:
    """Plugs the node's cable in, or out."""
    _ip("link", "set", _outer(node), "up" if connected else "down")


def is_connected(node: Node) -> bool:
    flags = Path("/sys/class/net", _outer(node), "flags")
    return flags.exists() and bool(int(flags.read_text(), 16) & 1)


def entrance(node: Node) -> Callable[[], None]:
    """To be called in a new process: from then on it is on that node.

    Not ``ip netns exec``: it mounts another /sys, in which slurmd finds no cgroups and ends.
    """

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(_namespace(node), os.O_RDONLY)
        if libc.setns(descriptor, _CLONE_NEWNET) or libc.unshare(_CLONE_NEWUTS):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        os.close(descriptor)
        socket.sethostname(node.name)

    return enter


def _bridge(plan: Plan) -> str:
    return f"{plan.name}-br"


def _outer(node: Node) -> str:
    return f"{node.name}-link"


def _namespace(node: Node) -> Path:
    return Path("/run/netns", node.name)


def _exists(interface: str) -> bool:
    return Path("/sys/class/net", interface).exists()


def _ip(*arguments: str) -> str:
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10, check=False)
    if result.returncode:
        raise ClusterError(
            f"`ip {' '.join(arguments)}` failed: {result.stderr.strip()}",
            fix="run it as root where network namespaces may be made, or go without --network-namespaces",
        )
    return result.stdout
