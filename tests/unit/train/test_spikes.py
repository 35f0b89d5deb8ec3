from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from framework.config import build_config, plan_batch
from framework.data.corpus import local_corpus
from framework.data.manifest import ShardManifest
from framework.data.stream import TrainStream
from framework.metrics.records import JsonLines
from framework.plugins.interface import StepRecord
from framework.run_dir import RunDir
from framework.train.events import EventLog
from framework.train.spikes import SpikeDetector, SpikeHook, sequences_of_step

QUICKSTART = [float(line) for line in (Path(__file__).parent / "quickstart_losses.txt").read_text().split()]
"""500 steps of `make quickstart` as it was on 2026-11-22, with 8 sequences a step: from 7.6 to 2.2 nats, with warm-up."""


def noisy(steps: int, seed: int, tail: float = 0.0) -> list[float]:
    """A loss that falls to 3 with normal noise of 0.05, and with probability ``tail`` of half as much again."""
    generator = random.Random(seed)
    return [
        3.0 + 7.0 * math.exp(-step / 150) + generator.gauss(0, 0.075 if generator.random() < tail else 0.05)
        for step in range(steps)
    ]


def spikes(losses: list[float | None]) -> list[int]:
    """The indices at which a spike begins."""
    detector = SpikeDetector()
    return [index for index, loss in enumerate(losses) if detector.observe(loss) is not None]


# --- Nothing to see ---


@pytest.mark.parametrize(
    "losses",
    [
        QUICKSTART,
        [10.8 * math.exp(-step / 300) for step in range(3000)],
        [2.5] * 500,
        [0.0] * 500,
        [*[10.8] * 60, *[10.8 + 0.001 * step for step in range(200)]],
        [3.0 + 0.01 * (step % 2) for step in range(500)],
        *[noisy(20_000, seed) for seed in range(3)],
        *[noisy(20_000, seed, tail=0.1) for seed in range(3)],
    ],
    ids=["quickstart", "smooth", "flat", "zero", "rising slowly", "ripple", *["noise"] * 3, *["heavy tails"] * 3],
)
def test_an_ordinary_curve_has_no_spike(losses: list[float]) -> None:
    assert spikes(losses) == []


def test_a_loss_that_falls_suddenly_is_no_spike() -> None:
    assert spikes([*noisy(600, 1), *[1.0] * 300]) == []


# --- Spikes ---


@pytest.mark.parametrize("at", [40, 120, 300, 499])
def test_a_jump_in_a_real_curve_is_found_where_it_is(at: int) -> None:
    losses = list(QUICKSTART)
    losses[at] += 5.0 if at == 40 else 0.5  # where the loss falls fast, only more stands out
    assert spikes(losses) == [at]


def test_a_spike_of_several_steps_is_told_once_and_the_next_again() -> None:
    losses = noisy(1000, 3)
    for step in (*range(400, 410), 700):
        losses[step] += 2.0
    assert spikes(losses) == [400, 700]


def test_a_loss_that_stays_high_is_told_once() -> None:
    assert spikes([*noisy(600, 4), *[loss + 3.0 for loss in noisy(1000, 5)[400:]]]) == [600]


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_for_others_and_changes_nothing(nothing: float | None) -> None:
    losses: list[float | None] = [*noisy(400, 6)]
    losses[395] = 9.0
    losses[200:200] = [nothing] * 50
    assert spikes(losses) == [445]


def test_before_there_is_enough_to_compare_with_nothing_is_a_spike() -> None:
    assert spikes([3.0] * 11 + [9.0]) == []
    assert spikes([3.0] * 12 + [9.0]) == [12]


# --- The hook ---


def record(step: int, loss: float | None) -> StepRecord:
    return StepRecord(step, 100 * step, loss, 1e-3, 0.5, 0.1, 1000.0, 0.001, 2**30, "00ff")


@pytest.fixture
def stream(write_shards: Callable[..., ShardManifest], tmp_path: Path) -> TrainStream:
    """Three shards of a few rows each, read 6 sequences a step."""
    folder = tmp_path / "shards"
    write_shards(folder, [[range(1, 1 + tokens)] for tokens in (27, 35, 19)])
    config = build_config(
        {"model": {"context_length": 4}, "engine": {"micro_batch_size": 3, "global_batch_size": 6}}, origin="tests"
    )
    return TrainStream(local_corpus(folder), plan_batch(config, 1), lanes=4, seed=1, rank=0)


def run_hook(
    run_dir: RunDir, stream: TrainStream, losses: list[float], start: int = 0
) -> tuple[list[dict[str, Any]], list[str]]:
    """The events and the lines said of a start at step ``start``."""
    run_dir.path.mkdir(exist_ok=True)
    said: list[str] = []
    metrics = JsonLines(run_dir.metrics, resume_step=start)
    events = EventLog(run_dir, start, said.append, is_main=True)
    hook = SpikeHook(run_dir, events, stream)
    hook.on_start(start)
    for step, loss in enumerate(losses[start:], start=start + 1):
        metrics.append(record(step, loss))
        hook.on_step(record(step, loss))
    events.close()
    metrics.close()
    return [json.loads(line) for line in run_dir.events.read_text().splitlines()], said


def test_a_spike_is_noted_with_the_sequences_of_its_step(tmp_path: Path, stream: TrainStream) -> None:
    losses = noisy(200, 7)
    losses[149] = 9.0
    (event,), (line,) = run_hook(RunDir(tmp_path), stream, losses)
    addresses = [stream.order.locate(cursor) for cursor in range(149 * 6, 150 * 6)]
    assert (event["event"], event["step"], event["loss"]) == ("loss_spike", 150, 9.0)
    assert event["cursors"] == [894, 900]
    assert event["first_sequences"] == [
        {
            "cursor": 894 + number,
            "epoch": address.epoch,
            "shard": str(tmp_path / "shards" / f"train-{address.shard:06d}.tar"),
            "row": address.row,
        }
        for number, address in enumerate(addresses)
    ]
    assert sum(event["shards"].values()) == 6
    assert "step 150: the loss jumped to 9.0000" in line
    assert "sequences 894 to 899, from " in line


def test_a_restart_sees_the_spike_that_an_undisturbed_run_sees(tmp_path: Path, stream: TrainStream) -> None:
    losses = noisy(200, 8)
    losses[104] = 9.0
    undisturbed, _ = run_hook(RunDir(tmp_path / "undisturbed"), stream, losses)
    run_hook(RunDir(tmp_path / "restarted"), stream, losses[:103])
    assert run_hook(RunDir(tmp_path / "restarted"), stream, losses, start=100)[0] == undisturbed
    assert [event["step"] for event in undisturbed] == [105]


def test_of_many_sequences_the_first_few_and_their_number_are_told(stream: TrainStream) -> None:
    stream = replace(stream, plan=replace(stream.plan, global_batch_size=600))
    told = sequences_of_step(3, stream)
    assert told["cursors"] == [1200, 1800]
    assert sum(told["shards"].values()) == 600
    assert len(told["shards"]) == 3
    assert [each["cursor"] for each in told["first_sequences"]] == list(range(1200, 1208))
