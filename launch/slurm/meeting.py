"""Where the agents of a start meet: a key-value store that the first node holds, which is also the ranks' own.

All nodes call the methods in the same order: ``check_health``, ``wait_for_go``, then ranks, then ``agree``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_REFUSED
from launch.rendezvous import Endpoint, RendezvousError, find, publish
from launch.slurm import health
from launch.slurm.context import Start
from launch.slurm.job import Job, JobDir

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_AGREE_SECONDS = 20.0  # what a failing agent takes to end its ranks, and more
_SEVERITY = (EXIT_REFUSED, EXIT_FAILED, EXIT_PREEMPTED, EXIT_FINISHED)
_PREFIX = "nodes"
_POLL_SECONDS = 0.05


class Meeting:
    """One node's side of the meeting.

    Args:
        store: connected; on the first node the one that serves.
        address: under which this node reaches it.
        port: likewise.
        node: this node's number; 0 is the first.
        names: of all nodes.
        seconds: how long to wait for others.
        link: of the first node: serves the measurement of links.
    """

    def __init__(
        self,
        store: Store,
        address: str,
        port: int,
        node: int,
        names: Sequence[str],
        seconds: float,
        link: health.LinkServer | None,
    ) -> None:
        self.address, self.port = address, port
        self._store, self._node, self._names, self._seconds = store, node, tuple(names), seconds
        self._link = link
        store.set(f"here/{node}", "1")

    def __enter__(self) -> Meeting:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._link is not None:
            self._link.close()

    def check_health(self, job: Job, job_dir: JobDir, start: Start, say: Callable[[str], None]) -> bool:
        """Looks at all nodes; False if the ranks should not start. The first node says and keeps what is wrong.

        Raises:
            RendezvousError: the first node does not answer in time.
        """
        profile = job.profile
        probe = None
        if self._node:
            port = int(self._read("link", self._seconds))
            probe = self._in_turn(
                lambda: health.measure_link(self.address, port, profile.health_timeout_seconds),
                profile.health_timeout_seconds / 2,
            )
        elif self._link is not None:
            self._store.set("link", str(self._link.port))
        report = health.look(
            self._names[self._node],
            job_dir.run,
            profile.scratch,
            job.ranks_per_node if profile.has_gpus else 0,
            probe,
            profile.minimum_megabytes_per_second,
        )
        self._store.set(f"health/{self._node}", json.dumps(report))
        if self._node:
            return self._read("verdict", self._seconds + 2 * profile.health_timeout_seconds) == "healthy"
        reports = self._collect_reports(profile.health_timeout_seconds)
        for number, each in enumerate(reports):
            health.save(job_dir.health(start.job_id, start.restart, number), each)
        bad = [each for each in reports if each["problems"]]
        for each in bad:
            say(f"node {each['node']} is not healthy: {', '.join(each['problems'])}")
        self._store.set("verdict", "bad" if bad else "healthy")
        return not bad

    def wait_for_go(self) -> None:
        """Until the first node says that ranks may start.

        Raises:
            RendezvousError: it does not within the rendezvous' time, twice: it may be waiting itself.
        """
        if self._node:
            self._read("go", 2 * self._seconds)
        else:
            self._store.set("go", "1")

    def failure_elsewhere(self) -> Callable[[], str | None]:
        """Gives a function that says whose ranks have failed; to be called from one other thread."""
        store = _connect(self.address, self.port, self._seconds)

        def ask() -> str | None:
            try:
                if store.check(["failed"]):
                    return f"ranks of node {store.get('failed').decode()} have failed"
            except RuntimeError:  # the first node's agent is gone
                return f"the agent of the first node ({self._names[0]}) is gone"
            return None

        return ask

    def agree(self, code: int) -> int:
        """The exit code of all nodes: the one that explains most. The first node, which holds the store, leaves last."""
        try:
            if code in (EXIT_FAILED, EXIT_REFUSED):
                self._store.set("failed", self._names[self._node])
            self._store.set(f"exit/{self._node}", str(code))
            if self._node:
                agreed = int(self._read("agreed", 2 * _AGREE_SECONDS))
                self._store.set(f"bye/{self._node}", "1")
                return agreed
            codes = [code, *self._others("exit", _AGREE_SECONDS)]
            worst = (
                min((each for each in codes), key=_SEVERITY.index) if len(codes) == len(self._names) else EXIT_FAILED
            )
            self._store.set("agreed", str(worst))
            self._others("bye", 5.0)
            return worst
        except (RuntimeError, RendezvousError):
            return code if code in (EXIT_FAILED, EXIT_REFUSED) else EXIT_FAILED

    def _others(self, key: str, seconds: float) -> list[int]:
        """Values of the other nodes that are there in time."""
        deadline = time.monotonic() + seconds
        missing, found = list(range(1, len(self._names))), []
        while missing and time.monotonic() < deadline:
            for number in list(missing):
                if self._store.check([f"{key}/{number}"]):
                    found.append(int(self._store.get(f"{key}/{number}")))
                    missing.remove(number)
            if missing:
                time.sleep(0.05)
        return found

    def _collect_reports(self, seconds: float) -> list[dict[str, Any]]:
        """Of all nodes. First they have to arrive, which may take them long: their file system has to show them Python first."""
        self._wait_for_all("here", self._seconds)
        self._wait_for_all("health", 1.5 * seconds)
        reports = []
        for number, name in enumerate(self._names):
            if self._store.check([f"health/{number}"]):
                reports.append(json.loads(self._store.get(f"health/{number}")))
            elif self._store.check([f"here/{number}"]):
                reports.append(health.missing_report(name, "did not report", seconds))
            else:
                reports.append(health.missing_report(name, "did not arrive", self._seconds))
        return reports

    def _wait_for_all(self, key: str, seconds: float) -> None:
        self._poll(
            [f"{key}/{number}" for number in range(len(self._names))], seconds
        )  # who is missing is found out afterwards

    def _poll(self, keys: list[str], seconds: float) -> bool:
        """Whether all keys are there in time. The store's own wait would keep Python from hearing of signals."""
        deadline = time.monotonic() + seconds
        while not self._store.check(keys):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _in_turn(
        self, measure: Callable[[], tuple[float, float]], patience_seconds: float
    ) -> Callable[[], tuple[float, float]]:
        """One node after the other: links that are measured at the same time would share the first node's."""

        def wait_and_measure() -> tuple[float, float]:
            if self._node > 1:
                with suppress(RendezvousError):  # a node that hangs must not make those after it look bad
                    self._read(f"measured/{self._node - 1}", patience_seconds)
            try:
                return measure()
            finally:
                self._store.set(f"measured/{self._node}", "1")

        return wait_and_measure

    def _read(self, key: str, seconds: float) -> str:
        reason = ""
        try:
            if self._poll([key], seconds):
                return self._store.get(key).decode()
        except RuntimeError as error:  # its agent is gone
            reason = f": {str(error).splitlines()[0]}"
        raise RendezvousError(
            f"node {self._names[self._node]} heard nothing of {key!r} from host {self._names[0]} port {self.port} within "
            f"{seconds:.0f} s{reason}",
            fix="read the first node's log in this folder: it says what it was doing",
        )


def open_meeting(path: Path, endpoint: Endpoint, names: Sequence[str], seconds: float) -> Meeting:
    """On the first node: serves the store on a free port and publishes where.

    Raises:
        StorageError: the file system refuses.
    """
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    # The port is bound here and only then told. torchrun's agent shares this server (multi_tenant).
    server = TCPStore(
        endpoint.address, 0, None, True, timedelta(seconds=seconds), wait_for_workers=False, multi_tenant=True
    )
    link = health.LinkServer() if len(names) > 1 else None
    publish(path, replace(endpoint, port=server.port))
    return Meeting(PrefixStore(_PREFIX, server), endpoint.address, server.port, 0, names, seconds, link)


def join(path: Path, node: int, names: Sequence[str], seconds: float) -> Meeting:
    """On every other node: finds the first one.

    Raises:
        RendezvousError: it does not publish, or does not answer; names host and port.
    """
    address, port = find(path, seconds=seconds, first_node=names[0], this_node=names[node])
    return Meeting(_connect(address, port, seconds), address, port, node, names, seconds, None)


def _connect(address: str, port: int, seconds: float) -> Store:
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    client = TCPStore(address, port, None, False, timedelta(seconds=seconds), wait_for_workers=False)
    return PrefixStore(_PREFIX, client)
