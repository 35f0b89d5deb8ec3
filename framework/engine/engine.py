"""The interface of an engine, and the arithmetic of a step that all engines share.

One step, on every rank together::

    count     targets, digest and skipped sequences of the global batch         (one reduction)
    forward   the micro-batch's sum of losses; all ranks learn the global sum   (one reduction; refuses NaN and infinity)
    backward  of  loss_sum / targets in the global batch                        } for each micro-batch
    step      clip to the global norm, update the weights at this step's learning rate

A step whose loss or gradient is not finite on any rank is *left out* on all of them: weights and optimizer stay as they were.

Dividing every rank's sum by the *global* number of targets makes the gradient that of the token mean, however the
batch is cut into ranks and micro-batches, and whatever padding each of them has
(docs/decisions/0003-loss-is-a-sum-divided-by-global-targets.md).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch.profiler import record_function

from framework.data.stream import IGNORED_TARGET, Digest, MicroBatch, StepBatch
from framework.engine.world import World
from framework.failpoints import Place, corrupted, failpoint
from framework.model.loss_model import LossModel
from framework.optim.build import hidden_matrices, whole_shape
from framework.optim.muon import ADAMW_MOMENTS, MUON_MOMENTS, Matrix, Muon, Piece

WEIGHT = "weight"
"""A kind of numbers that a checkpoint holds: float32 weights. The others are the optimizer's moments."""
FORWARD, BACKWARD, OPTIMIZER = "step/forward", "step/backward", "step/optimizer"
"""How a profiler's trace calls the phases of a step. An annotation costs some microseconds, traced or not."""


@dataclass(frozen=True)
class StepOutcome:
    """What one step gave, the same on every rank.

    ``loss`` is the token mean over the global batch, in nats. ``left_out`` says why the weights are as before; then
    ``grad_norm`` is None, and ``loss`` as well when it was the loss that was not finite.
    """

    loss: float | None
    grad_norm: float | None
    target_tokens: int
    digest: Digest
    left_out: str | None = None
    is_overflow: bool = False
    """Left out because fp16's loss scale was too large, which is no failure."""
    skipped_sequences: int = 0
    """Of the global batch: empty because their shard is bad."""
    bad_shards: tuple[str, ...] = ()
    """Those that a rank came to for the first time in this start, in order; another rank may have named one before."""


@dataclass(frozen=True)
class Held:
    """Consecutive elements of one parameter that this rank keeps in float32, and can restore.

    Args:
        name: the parameter's.
        start: number of the first element in the flattened parameter.
        weight: [count] flat view of them.
        optimized: the tensor under which the optimizer keeps its moments; None for a frozen parameter.
        offset: where these elements begin in it.
    """

    name: str
    start: int
    weight: torch.Tensor
    optimized: torch.Tensor | None
    offset: int = 0

    def moment(self, state: dict[str, torch.Tensor], kind: str) -> torch.Tensor:
        """[count] flat view of one of the optimizer's moments."""
        return state[kind].view(-1)[self.offset : self.offset + self.weight.numel()]


@dataclass(frozen=True)
class Fragment:
    """Consecutive elements of one parameter, of one kind: what a checkpoint is made of. ``values`` is [count] float32."""

    kind: str
    name: str
    start: int
    values: torch.Tensor


class FragmentReader(ABC):
    """A checkpoint's numbers, whoever wrote them."""

    applied_steps: int
    loss_scale: float | None

    @abstractmethod
    def read(self, kind: str, name: str, start: int, count: int) -> torch.Tensor:
        """[count] float32: the elements from ``start`` on of the flattened parameter.

        Raises:
            CheckpointError: the checkpoint does not hold all of them.
        """


@torch.no_grad()
def sum_losses(
    forward: Callable[[MicroBatch], torch.Tensor], micro_batches: Iterable[MicroBatch], device: torch.device
) -> tuple[float, int]:
    """Sum of ``forward``'s losses in nats, and number of targets. No collective of its own."""
    loss, targets = 0.0, 0
    for micro_batch in micro_batches:
        loss += float(forward(micro_batch.to(device)))
        targets += int((micro_batch.targets != IGNORED_TARGET).sum())
    return loss, targets


class Engine(ABC):
    """Weights, gradients and optimizer of one run, sharded over the ranks. All methods are collectives.

    Args:
        world: the ranks.
        model: what is trained, and what generation reads; under ZeRO stage 3 its parameters are gathered on use.
    """

    def __init__(self, world: World, model: LossModel) -> None:
        self.world = world
        self.model = model
        self._muon_matrices: frozenset[str] = frozenset()

    def train_step(self, batch: StepBatch, lr: float) -> StepOutcome:
        """One optimizer step at learning rate ``lr``; left out on all ranks when a number is not finite on any."""
        step = batch.step + 1
        counted = self._count(batch)
        target_tokens = counted.target_tokens
        if target_tokens == 0:
            return replace(counted, left_out="none of its sequences could be read")
        self._set_training(True)
        total = 0.0
        for number, micro_batch in enumerate(batch.micro_batches):
            failpoint("accumulate" if number else "forward", step=step)
            with record_function(FORWARD):
                loss_sum = _perhaps_corrupted("loss", self._forward(micro_batch.to(self.world.device)), step)
            # After the first loss that is not finite on any rank, every rank's gradients become NaN: the step is then left
            # out by the path that also clears all of an engine's buffers, the same on all ranks.
            total += self.world.sum_floats(loss_sum.detach().reshape(1))[0]
            if not math.isfinite(total):
                loss_sum = loss_sum * math.nan
            failpoint("backward", step=step)
            with record_function(BACKWARD):
                self._backward(_perhaps_corrupted("gradient", loss_sum, step), target_tokens)
        failpoint("step", step=step)
        with record_function(OPTIMIZER):
            grad_norm = self._step(lr)
        if not math.isfinite(total):
            return replace(counted, left_out=f"its loss is {total}")
        loss = total / target_tokens
        if not math.isfinite(grad_norm):
            is_overflow = self._scales_loss()
            why = "the loss scale was too large" if is_overflow else f"its gradient norm is {grad_norm}"
            return replace(counted, loss=loss, left_out=why, is_overflow=is_overflow)
        return replace(counted, loss=loss, grad_norm=grad_norm)

    def _count(self, batch: StepBatch) -> StepOutcome:
        """What is known of the step before it is computed, over all ranks."""
        target_tokens, high, low, skipped, named = self.world.sum_integers(
            [batch.target_tokens, batch.digest.high, batch.digest.low, batch.skipped_sequences, len(batch.bad_shards)]
        )
        # Names are exchanged only where there are any, which all ranks have just learned.
        names = self.world.together(lambda: batch.bad_shards) if named else []
        bad_shards = tuple(sorted(set(chain.from_iterable(names))))
        return StepOutcome(
            None, None, target_tokens, Digest(high, low) + Digest(), skipped_sequences=skipped, bad_shards=bad_shards
        )

    def evaluate(self, micro_batches: Iterable[MicroBatch]) -> tuple[float, int]:
        """Sum of losses in nats, and number of targets, over all ranks' micro-batches; every rank has as many."""
        self._set_training(False)
        loss, targets = sum_losses(self._forward, micro_batches, self.world.device)
        total, count = self.world.sum_floats([loss, float(targets)])
        return total, int(count)

    def fragments(self) -> Iterator[Fragment]:
        """This rank's share of the checkpoint, as views of what training goes on with. No collective.

        All ranks' shares together hold every element of every trained parameter once. What is replicated is shared out
        evenly; what is frozen is as the model was built, and is not saved.
        """
        for held in self._held():
            share = self._share_of(held)
            if share is None or held.optimized is None:
                continue
            first, last = share
            yield Fragment(WEIGHT, held.name, held.start + first, held.weight[first:last])
            state = self._optimizer_state(held)
            if state is not None:
                for kind in self._moments_of(held):
                    yield Fragment(kind, held.name, held.start + first, held.moment(state, kind)[first:last])

    def restore(self, reader: FragmentReader) -> None:
        """Takes over a checkpoint, whatever engine, stage, precision and number of ranks wrote it.

        Raises:
            CheckpointError: it lacks something.
        """
        filled, replicas = 0, 1
        with torch.no_grad(), self._writable():
            for held in self._held():
                if held.optimized is None:
                    continue
                count = held.weight.numel()
                filled += count
                replicas = self.world.world_size if self._is_replicated(held) else 1
                held.weight.copy_(reader.read(WEIGHT, held.name, held.start, count))
                if reader.applied_steps:
                    state = self._make_state(held, reader.applied_steps)
                    for kind in self._moments_of(held):
                        held.moment(state, kind).copy_(reader.read(kind, held.name, held.start, count))
        self._set_loss_scale(reader.loss_scale)
        # What is built to be filled holds anything: not one element may be left.
        everything = sum(
            getattr(parameter, "ds_numel", parameter.numel())
            for parameter in self.model.parameters()
            if parameter.requires_grad
        )
        [all_filled] = self.world.sum_integers([filled])
        assert all_filled == replicas * everything, f"{all_filled:,} of {replicas * everything:,} weights were restored"

    @property
    def applied_steps(self) -> int:
        """Optimizer steps that changed the weights: the optimizer's own count."""
        for held in self._held():
            state = self._optimizer_state(held)
            if state is not None:
                return int(state["step"])
        return 0

    def trained_state_bytes(self) -> int:
        """What learning keeps in memory beside the weights, on this rank: for every element that it updates a float32 gradient,
        and the optimizer's moments as they stand. No collective.

        Counted from the tensors, so that what is frozen, or another rank's, weighs nothing. A gradient that is whole until
        the ranks have shared it out (ZeRO stages 0 and 1), and rounded copies of it, are not counted.
        """
        total = 0
        for held in self._held():
            if held.optimized is None:
                continue
            state = self._optimizer_state(held)
            moments = [held.moment(state, kind) for kind in self._moments_of(held)] if state else []
            total += sum(tensor.nbytes for tensor in (held.weight, *moments))
        return total

    def _share_of(self, held: Held) -> tuple[int, int] | None:
        """Which of the held elements this rank writes: all of a shard, an even part of what every rank has."""
        count = held.weight.numel()
        if not self._is_replicated(held):
            return (0, count) if count else None
        rank, ranks = self.world.rank, self.world.world_size
        first, last = count * rank // ranks, count * (rank + 1) // ranks
        return (first, last) if first < last else None

    def _optimizer_state(self, held: Held) -> dict[str, torch.Tensor] | None:
        """The optimizer's state of these elements; None before its first step, and for what is frozen."""
        if held.optimized is None:
            return None
        state = self._torch_optimizer().state.get(held.optimized)
        return state or None

    def _make_state(self, held: Held, applied_steps: int) -> dict[str, torch.Tensor]:
        states, optimized = self._torch_optimizer().state, held.optimized
        assert optimized is not None
        if not states.get(optimized):
            states[optimized] = {kind: torch.zeros_like(optimized) for kind in self._moments_of(held)}
        state: dict[str, torch.Tensor] = states[optimized]
        state["step"] = torch.tensor(float(applied_steps), device=optimized.device)
        return state

    def _moments_of(self, held: Held) -> tuple[str, ...]:
        """The kinds of numbers that the optimizer keeps of these elements."""
        return MUON_MOMENTS if held.name in self._muon_matrices else ADAMW_MOMENTS

    def _place_matrices(self) -> None:
        """Tells a Muon where its matrices are, once the engine has cut them. Every engine's constructor ends with it."""
        optimizer = self._torch_optimizer()
        if not isinstance(optimizer, Muon):
            return
        held = {held.name: held for held in self._held()}
        shapes = {name: whole_shape(parameter) for name, parameter in hidden_matrices(self.model).items()}
        self._muon_matrices = frozenset(shapes)
        cut = self.world.sum_integers(
            [name in held and held[name].weight.numel() < shapes[name].numel() for name in shapes]
        )
        optimizer.place(
            [
                Matrix(shape, _piece(held.get(name)), bool(by))
                for (name, shape), by in zip(shapes.items(), cut, strict=True)
            ],
            self.world.sum_in_place,
        )

    @abstractmethod
    def _set_training(self, training: bool) -> None:
        """Turns dropout on or off."""

    @abstractmethod
    def _forward(self, micro_batch: MicroBatch) -> torch.Tensor:
        """This rank's sum of losses, float32 scalar."""

    @abstractmethod
    def _backward(self, loss_sum: torch.Tensor, target_tokens: int) -> None:
        """Adds the gradient of ``loss_sum / target_tokens``, summed over ranks by the end of the step's last call."""

    @abstractmethod
    def _step(self, lr: float) -> float:
        """Clips, updates, clears the gradients; returns the global norm before clipping.

        When that is not finite, weights and optimizer are left as they were.
        """

    @abstractmethod
    def _held(self) -> Iterator[Held]:
        """Everything that this rank keeps in float32 (what is frozen: in its own precision)."""

    @abstractmethod
    def _is_replicated(self, held: Held) -> bool:
        """Whether every rank holds the same elements."""

    @abstractmethod
    def _torch_optimizer(self) -> torch.optim.Optimizer:
        """The one that updates what ``_held`` yields."""

    @abstractmethod
    def _writable(self) -> AbstractContextManager[None]:
        """In its body held weights may be written; at its end the weights that the forward reads follow them."""

    @property
    def loss_scale(self) -> float | None:
        """fp16's current loss scale; None in other precisions."""
        return None

    def _set_loss_scale(self, scale: float | None) -> None:  # noqa: B027 - most engines have none
        """Takes over a loss scale, where one is used."""

    def _scales_loss(self) -> bool:
        """Whether a gradient that is not finite only says that the loss scale was too large."""
        return False


def clip_gradients(parameters: Sequence[torch.nn.Parameter], clip_norm: float) -> torch.Tensor:
    """Scales gradients down to ``clip_norm`` together, unless it is 0; scalar, their norm before that. No collective."""
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if clip_norm > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return norm


def _piece(held: Held | None) -> Piece | None:
    if held is None or held.optimized is None:
        return None
    return Piece(held.optimized, held.offset, held.start, held.weight.numel())


def _perhaps_corrupted(place: Place, loss_sum: torch.Tensor, step: int) -> torch.Tensor:
    value = corrupted(place, step=step)
    return loss_sum if value is None else loss_sum * value
