"""How nodes find the first one: it binds a free port, then writes down where it listens; the others wait for that file.

A port derived from a job's number, as is common, may be taken by anybody; this one is held before it is told (decision 0010).
"""

from __future__ import annotations

import ipaddress
import json
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from framework.durable import storage_errors, write_durably
from framework.errors import ZerostreamError

_POLL_SECONDS = 0.2
_ATTEMPT_SECONDS = 5.0


class RendezvousError(ZerostreamError):
    """Nodes did not find each other in time."""


@dataclass(frozen=True)
class Endpoint:
    """Where the first node listens: its name, its address as it knows it, and a port that it holds."""

    host: str
    address: str
    port: int


def publish(path: Path, endpoint: Endpoint) -> None:
    """Writes the endpoint whole or not at all; it must be listening already.

    Raises:
        StorageError: the file system refuses.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, json.dumps(asdict(endpoint)).encode())


def find(path: Path, *, seconds: float, first_node: str, this_node: str) -> tuple[str, int]:
    """Address and port under which this node reaches the first one, tried out.

    Args:
        path: where it is published.
        seconds: how long to wait for the file, and for an answer, together.
        first_node: who should publish it, for the message.
        this_node: who is waiting, for the message.

    Raises:
        RendezvousError: nothing was published, or nobody answers there; names host and port.
    """
    deadline = time.monotonic() + seconds
    endpoint = _wait_for_file(path, deadline, seconds, first_node, this_node)
    tried: dict[str, str] = {}
    while True:
        for name in dict.fromkeys((endpoint.address, endpoint.host)):
            try:
                with socket.create_connection((name, endpoint.port), timeout=_ATTEMPT_SECONDS):
                    return name, endpoint.port
            except OSError as error:
                tried[name] = _reason(error)
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_SECONDS)
    reasons = "; ".join(f"{name}:{endpoint.port}: {reason}" for name, reason in tried.items())
    raise RendezvousError(
        f"node {this_node} could not reach host {endpoint.host} port {endpoint.port} within {seconds:.0f} s ({reasons})",
        fix="check that nodes may connect to each other's high ports and that their names resolve, or set network_interface in "
        "the cluster profile to one that all nodes share",
    )


def local_address_to(address: str, port: int) -> str:
    """The address of this machine from which it reaches that one; nothing is sent."""
    family, kind, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str | None:
    """Name of the network interface that has this address."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == address for each in addresses):
            return str(name)
    return "lo" if address.startswith("127.") else None


def address_of_interface(name: str) -> str | None:
    """The first IPv4 address of a network interface, or its IPv6 one; None if there is no such interface."""
    import psutil

    found = {each.family: each.address.partition("%")[0] for each in reversed(psutil.net_if_addrs().get(name, ()))}
    address = found.get(socket.AF_INET) or found.get(socket.AF_INET6)
    return None if address is None else str(address)


def resolve(name: str) -> str | None:
    """The first address behind a name; None if it does not resolve."""
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return None


def is_loopback(address: str) -> bool:
    """Whether this is an address of the machine itself, that no other one can use."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _wait_for_file(path: Path, deadline: float, seconds: float, first_node: str, this_node: str) -> Endpoint:
    while True:
        try:
            return Endpoint(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, OSError) as error:
            if time.monotonic() >= deadline:
                raise RendezvousError(f"{path} cannot be read: {error}", fix="check the shared file system") from None
        if time.monotonic() >= deadline:
            raise RendezvousError(
                f"node {this_node} waited {seconds:.0f} s for host {first_node} to publish its port in {path}",
                fix=f"look at the first node's log beside {path.parent.parent / 'logs'}: it may not have started, or not see "
                "the same folder as this node",
            )
        time.sleep(_POLL_SECONDS)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    if isinstance(error, TimeoutError):
        return "no answer"
    return error.strerror or type(error).__name__
