"""Seconds of collectives over two kinds of wire: between the ranks of a node, and between nodes. No torch.

Ring and hierarchical algorithms, as NCCL has them (Thakur et al. 2005, doi:10.1177/1094342005051521, for the counts of bytes and
hops): the faster one is taken. n ranks on N nodes of g each; V bytes are what a rank has when all are together.

    ring           V (n - 1) / n over the slower of a rank's link and its node's network; n - 1 hops
    hierarchical   V (g - 1) / g over the link, then V / g x (N - 1) / N over each rank's own network share; g + N - 2 hops
"""

from __future__ import annotations

from dataclasses import dataclass

from framework.planner.devices import Device

_LINK_HOP_SECONDS = 3e-6
_NETWORK_HOP_SECONDS = 10e-6


@dataclass(frozen=True)
class Network:
    """The wires of one start.

    Args:
        device: gives the rates.
        ranks_per_node: g.
        nodes: N.
        link_share: of the rate between the ranks of a node that collectives reach.
        network_share: the same, between nodes.
    """

    device: Device
    ranks_per_node: int
    nodes: int
    link_share: float
    network_share: float

    @property
    def ranks(self) -> int:
        return self.ranks_per_node * self.nodes

    def gather_seconds(self, size_bytes: float, messages: int = 1) -> float:
        """An all-gather that leaves ``size_bytes`` on every rank, or a reduce-scatter of as much, in so many messages."""
        if self.ranks == 1 or not size_bytes:
            return 0.0
        return min(self._ring(size_bytes, messages), self._hierarchical(size_bytes, messages))

    def all_reduce_seconds(self, size_bytes: float, messages: int = 1) -> float:
        """A reduce-scatter and an all-gather."""
        return 2 * self.gather_seconds(size_bytes, messages)

    def sent_bytes(self, gathered_bytes: float) -> float:
        """What a rank sends for collectives that gather or scatter so much: V (n - 1) / n."""
        return gathered_bytes * (self.ranks - 1) / self.ranks

    def _ring(self, size_bytes: float, messages: int) -> float:
        link, network = self._rates()
        rate = link if self.nodes == 1 else min(link, self.ranks_per_node * network)
        hop = _LINK_HOP_SECONDS if self.nodes == 1 else _NETWORK_HOP_SECONDS
        return self.sent_bytes(size_bytes) / rate + messages * (self.ranks - 1) * hop

    def _hierarchical(self, size_bytes: float, messages: int) -> float:
        link, network = self._rates()
        inside, nodes = self.ranks_per_node, self.nodes
        seconds = size_bytes * (inside - 1) / inside / link + size_bytes / inside * (nodes - 1) / nodes / network
        hops = (inside - 1) * _LINK_HOP_SECONDS + (nodes - 1) * _NETWORK_HOP_SECONDS
        return seconds + messages * hops

    def _rates(self) -> tuple[float, float]:
        return (
            self.device.link_bytes_per_second * self.link_share,
            self.device.nic_bytes_per_second * self.network_share,
        )
