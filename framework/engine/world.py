"""The ranks of a run: who am I, on which device, and how do we agree."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from framework.errors import ConfigError, ZerostreamError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """All ranks of this start. Every method is a collective: all ranks must call it, in the same order."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes what there is one of."""
        return self.rank == 0

    def sum_integers(self, values: Sequence[int]) -> list[int]:
        """Element-wise sums over ranks; exact below 2^63."""
        tensor = torch.tensor(values, dtype=torch.int64, device=self.device)
        dist.all_reduce(tensor)
        return [int(value) for value in tensor.tolist()]

    def sum_floats(self, values: Sequence[float] | torch.Tensor) -> list[float]:
        """Element-wise sums over ranks, in float64."""
        tensor = torch.as_tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def sum_in_place(self, tensor: torch.Tensor) -> None:
        """Element-wise sums over ranks, in the tensor's own memory and precision."""
        dist.all_reduce(tensor)

    def maxima(self, values: Sequence[float]) -> list[float]:
        """Element-wise largest values of any rank, in float64."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return [float(value) for value in tensor.tolist()]

    def integer_from_main(self, value: int) -> int:
        """Rank 0's value, on every rank."""
        tensor = torch.tensor([value], dtype=torch.int64, device=self.device)
        dist.broadcast(tensor, src=0)
        return int(tensor.item())

    def barrier(self) -> None:
        self.sum_integers([0])

    def from_main(self, compute: Callable[[], T]) -> T:
        """Runs ``compute`` on rank 0 alone and gives its result, or raises its error, on every rank."""
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = compute()
            except Exception as error:  # the other ranks must hear of it, whatever it is
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0, device=self.device)
        if outcome[1] is not None:
            raise outcome[1]
        return cast(T, outcome[0])

    def together(self, work: Callable[[], T]) -> list[T]:
        """Runs ``work`` on every rank and gives all results by rank; raises the first failing rank's error on all.

        ``work`` must contain no collective: a rank that fails would leave the others waiting in it.
        """
        outcome: tuple[T | None, Exception | None]
        try:
            outcome = (work(), None)
        except Exception as error:  # agreed on below
            outcome = (None, error)
        outcomes: list[Any] = [None] * self.world_size
        dist.all_gather_object(outcomes, outcome)
        for rank, (_, failure) in enumerate(outcomes):
            if isinstance(failure, ZerostreamError):
                raise failure
            if failure is not None:
                raise RuntimeError(f"rank {rank} failed: {failure!r}") from failure
        return [result for result, _ in outcomes]


@contextmanager
def join_world(timeout_seconds: int) -> Iterator[World]:
    """Joins the ranks that torchrun started, over NCCL with GPUs and gloo without; alone when nobody started us.

    Ranks that have joined already are taken as they are.

    Raises:
        ConfigError: RANK, WORLD_SIZE or LOCAL_RANK are set only in part.
    """
    if dist.is_initialized():  # the caller's ranks, and the caller's to end
        yield World(dist.get_rank(), int(os.environ.get("LOCAL_RANK", "0")), dist.get_world_size(), _device())
        return
    rank, local_rank, world_size = _read_environment()
    device = _device()
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout_seconds),
        device_id=device if on_gpu else None,
    )
    try:
        yield World(rank, local_rank, world_size, device)
    finally:
        dist.destroy_process_group()


def _device() -> torch.device:
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def _read_environment() -> tuple[int, int, int]:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    found = [name for name in names if name in os.environ]
    if not found:
        os.environ.update(
            RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port())
        )
    elif len(found) < len(names):
        missing = ", ".join(name for name in names if name not in found)
        raise ConfigError(
            f"the environment sets {', '.join(found)} but not {missing}",
            fix="start ranks with torchrun or `zerostream train`",
        )
    rank, local_rank, world_size = (int(os.environ[name]) for name in names)
    return rank, local_rank, world_size


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
