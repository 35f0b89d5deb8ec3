"""The DeepSpeed engine against the oracle, on real ranks over gloo."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from framework.checkpoint.manifest import verify
from framework.metrics.records import read_json_lines
from tests.distributed.conftest import ENGINES, PRECISIONS, Runs, StartRanks, engine_overrides, oracle_jobs

pytestmark = pytest.mark.distributed

STEPS = 20
BAD_NUMBERS = ("loss@3#1=nan", "gradient@3#1=inf")


def bf16_jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    more = ["engine.precision=bf16", "model.dropout=0.1", "train.max_steps=8"]
    return {
        f"{engine}-bf16": [str(config), f"run_dir={folder / f'{engine}-bf16'}", *engine_overrides(engine), *more]
        for engine in ENGINES
    }


def variant_jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    """Ways to compute that must not change the result."""
    variants = {
        "offload-optimizer": ["engine.zero_stage=2", "engine.offload.optimizer=true"],
        "offload-parameters": [
            "engine.zero_stage=3",
            "engine.offload.optimizer=true",
            "engine.offload.parameters=true",
        ],
        "checkpointing": ["engine.zero_stage=1", "engine.activation_checkpointing=true"],
        "checkpointing-zero3": ["engine.zero_stage=3", "engine.activation_checkpointing=true"],
        "accumulation": ["engine.zero_stage=2", "engine.micro_batch_size=2"],
        "profiled": ["train.profile.steps=2", "train.profile.skip_steps=1", "logging.tensorboard=true"],
        "llama": ["model.architecture=llama", "engine.zero_stage=3"],
        "llama-reference": ["model.architecture=llama", "engine.kind=reference"],
        "documents-zero3": ["model.document_mask=true", "engine.zero_stage=3"],
        "documents-reference": ["model.document_mask=true", "engine.kind=reference"],
        "documents-zero1-bf16": ["model.document_mask=true", "engine.zero_stage=1", "engine.precision=bf16"],
        "documents-reference-bf16": ["model.document_mask=true", "engine.kind=reference", "engine.precision=bf16"],
    }
    return {
        name: [str(config), f"run_dir={folder / name}", "train.max_steps=6", *more] for name, more in variants.items()
    }


def numerics_jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    """Numbers that are not finite, on one rank alone; two micro-batches a step."""
    jobs: dict[str, list[str]] = {}
    for engine in ENGINES:
        for precision in PRECISIONS:
            for fault in BAD_NUMBERS:
                name = f"{engine}-{precision}!{fault}"
                jobs[name] = [
                    str(config),
                    f"run_dir={folder / name}",
                    *engine_overrides(engine),
                    f"engine.precision={precision}",
                    "engine.micro_batch_size=2",
                    "checkpoint.every_steps=1",
                    "train.max_steps=4",
                    "checkpoint.keep=4",
                ]
    return jobs


@pytest.fixture(scope="module")
def one_rank(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory, start_ranks: StartRanks) -> Runs:
    folder = tmp_path_factory.mktemp("one_rank")
    return start_ranks(1, oracle_jobs(tiny_config, folder), folder)


@pytest.fixture(scope="module")
def two_ranks(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory, start_ranks: StartRanks) -> Runs:
    folder = tmp_path_factory.mktemp("two_ranks")
    jobs = {
        **oracle_jobs(tiny_config, folder),
        **bf16_jobs(tiny_config, folder),
        **variant_jobs(tiny_config, folder),
        **numerics_jobs(tiny_config, folder),
        "explodes": [str(tiny_config), f"run_dir={folder / 'explodes'}", "optimizer.lr=1e30", "optimizer.clip_norm=0"],
    }
    return start_ranks(2, jobs, folder)


def losses(lines: list[dict[str, Any]]) -> list[float]:
    return [line["loss"] for line in lines]


def digests(lines: list[dict[str, Any]]) -> list[str]:
    return [line["batch_digest"] for line in lines]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ranks", ["one_rank", "two_ranks"])
def test_every_engine_gives_the_oracles_losses(engine: str, ranks: str, request: pytest.FixtureRequest) -> None:
    oracle: Runs = request.getfixturevalue("one_rank")
    lines = request.getfixturevalue(ranks).metrics(engine)
    assert len(lines) == STEPS
    assert losses(lines) == pytest.approx(losses(oracle.metrics("reference")), rel=1e-5)
    assert [line["grad_norm"] for line in lines] == pytest.approx(
        [line["grad_norm"] for line in oracle.metrics("reference")], rel=1e-3
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_digests_do_not_depend_on_ranks_or_engine(engine: str, one_rank: Runs, two_ranks: Runs) -> None:
    expected = digests(one_rank.metrics("reference"))
    assert len(set(expected)) == STEPS
    assert digests(one_rank.metrics(engine)) == expected
    assert digests(two_ranks.metrics(engine)) == expected


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ranks", ["one_rank", "two_ranks"])
def test_gradients_and_moments_are_held_once_from_zero_1_on(
    engine: str, ranks: str, request: pytest.FixtureRequest
) -> None:
    runs: Runs = request.getfixturevalue(ranks)
    result = json.loads((runs.path(engine) / "result.json").read_text())
    copies = result["world_size"] if engine in ("reference", "zero0") else 1
    assert result["trained_state_bytes"] == copies * 3 * 4 * result["trainable_parameters"]
    assert "full_fine_tuning_state_bytes" not in result  # nothing was frozen


def test_losses_fall(one_rank: Runs) -> None:
    values = losses(one_rank.metrics("reference"))
    assert values[0] == pytest.approx(math.log(512), abs=0.2)
    assert values[-1] < values[0] - 0.3


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "reference"])
def test_bf16_stays_near_the_oracle(engine: str, two_ranks: Runs) -> None:
    lines, oracle = two_ranks.metrics(f"{engine}-bf16"), two_ranks.metrics("reference-bf16")
    assert losses(lines) == pytest.approx(losses(oracle), rel=2e-3)
    # DeepSpeed without ZeRO once took a dry Adam step at start: the norms then drift apart by percents.
    assert [line["grad_norm"] for line in lines] == pytest.approx([line["grad_norm"] for line in oracle], rel=0.02)


@pytest.mark.parametrize(
    "variant", ["offload-optimizer", "offload-parameters", "checkpointing", "checkpointing-zero3", "accumulation"]
)
def test_variants_compute_the_same(variant: str, one_rank: Runs, two_ranks: Runs) -> None:
    lines, oracle = two_ranks.metrics(variant), one_rank.metrics("reference")
    assert digests(lines) == digests(oracle)[: len(lines)]
    # Another max_steps is another schedule, but not before the warm-up has ended.
    assert losses(lines)[:6] == pytest.approx(losses(oracle)[:6], rel=1e-5)


def test_another_architecture_goes_the_same_way(two_ranks: Runs) -> None:
    assert losses(two_ranks.metrics("llama")) == pytest.approx(losses(two_ranks.metrics("llama-reference")), rel=1e-5)


@pytest.mark.parametrize(
    ("engine", "oracle", "rel"),
    [
        ("documents-zero3", "documents-reference", 1e-5),
        ("documents-zero1-bf16", "documents-reference-bf16", 2e-3),
        ("documents-reference-bf16", "documents-reference", 0.02),
    ],
)
def test_documents_of_a_row_are_kept_apart_by_every_engine(
    engine: str, oracle: str, rel: float, two_ranks: Runs
) -> None:
    masked = losses(two_ranks.metrics(oracle))
    assert losses(two_ranks.metrics(engine)) == pytest.approx(masked, rel=rel)
    assert masked != losses(two_ranks.metrics("reference"))[: len(masked)]


def test_a_loss_that_is_not_finite_stops_all_ranks(two_ranks: Runs) -> None:
    outcome = two_ranks.outcomes["explodes"]
    assert outcome["exit_code"] == 1
    assert "4 steps in a row were left out" in outcome["message"]
    assert "To fix it" in outcome["message"]
    assert not list((two_ranks.path("explodes") / "checkpoints").iterdir())


@pytest.mark.parametrize("fault", BAD_NUMBERS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_bad_number_on_one_rank_leaves_the_step_out_on_all(
    engine: str, precision: str, fault: str, two_ranks: Runs
) -> None:
    name = f"{engine}-{precision}!{fault}"
    lines = two_ranks.metrics(name)
    assert [line["step"] for line in lines if line["grad_norm"] is None] == [3]
    assert digests(lines) == digests(two_ranks.metrics("reference"))[:4]
    events = read_json_lines(two_ranks.path(name) / "events.jsonl")
    assert [(event["event"], event["step"], event["cursors"]) for event in events] == [("step_left_out", 3, [16, 24])]
    before, after, later = (verify(two_ranks.path(name) / "checkpoints" / f"step-{step:08d}") for step in (2, 3, 4))
    assert after.files == before.files  # weights and moments, hashed
    assert (after.applied_steps, later.applied_steps) == (2, 3)
    assert later.files != before.files


def test_every_run_went_well(one_rank: Runs, two_ranks: Runs) -> None:
    for name, outcome in (one_rank.outcomes | two_ranks.outcomes).items():
        assert outcome["exit_code"] == (name == "explodes"), (name, outcome["message"])


def test_a_profiled_run_tells_where_its_time_went(two_ranks: Runs) -> None:
    """And computes the same: the reference of the variants is the run without a profile."""
    same = [line["loss"] for line in two_ranks.metrics("zero1")][:5]
    # The schedule differs with train.max_steps only in its cosine, which begins after the five steps of warm-up.
    assert [line["loss"] for line in two_ranks.metrics("profiled")][:5] == same
    page = (two_ranks.path("profiled") / "profile.txt").read_text()
    assert "steps 2 to 3" in page
    for word in ("waiting for data", "forward", "backward", "optimizer", "(communication)", "aten::"):
        assert word in page
    (trace,) = (two_ranks.path("profiled") / "tensorboard").glob("rank-0.*.pt.trace.json.gz")
    names = {event.get("name") for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]}
    assert {"step/forward", "step/backward", "step/optimizer", "step/data_wait"} <= names
