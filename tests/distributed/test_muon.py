"""Muon under every engine: matrices that ZeRO has cut are put together, and restarts go on, wherever they were cut before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.checkpoint.fragments import CheckpointReader
from framework.checkpoint.manifest import verify
from tests.distributed.conftest import ENGINES, PRECISIONS, Runs, StartRanks, engine_overrides

pytestmark = pytest.mark.distributed

MOVES = (("zero1", "zero3"), ("zero3", "reference"), ("reference", "zero2"), ("zero2", "zero0"))
STEPS, STOP_AT = 8, 4
CUT = [(engine, "fp32") for engine in ENGINES] + [("zero1", "bf16"), ("zero3", "bf16")]


def jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    # Of an odd number of blocks, two ranks' border is within a matrix with ZeRO 1 and 2 too.
    model = ["model.layers=3", "optimizer.kind=muon", "optimizer.lr=3e-3"]
    common = [str(config), *model, f"train.max_steps={STEPS}"]

    def whole(name: str, *more: str) -> Iterator[tuple[str, list[str]]]:
        yield name, [*common, f"run_dir={folder / name}", *more]

    def stopped(name: str, before: list[str], after: list[str], *more: str) -> Iterator[tuple[str, list[str]]]:
        run = [*common, f"run_dir={folder / name}", *more]
        yield f"{name}-stopped", [*run, f"train.stop_at_step={STOP_AT}", *before]
        yield name, [*run, *after]

    all_jobs: dict[str, list[str]] = {}
    for engine in ENGINES:
        for precision in PRECISIONS:
            way = engine_overrides(engine)
            all_jobs |= whole(f"{engine}-{precision}", *way, f"engine.precision={precision}")
            if (engine, precision) in CUT:
                all_jobs |= stopped(f"cut-{engine}-{precision}", way, way, f"engine.precision={precision}")
    for before, after in MOVES:
        all_jobs |= stopped(f"moved-{before}-{after}", engine_overrides(before), engine_overrides(after))
    return all_jobs


@pytest.fixture(scope="module")
def muon_on_two_ranks(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory, start_ranks: StartRanks) -> Runs:
    folder = tmp_path_factory.mktemp("muon_two_ranks")
    return start_ranks(2, jobs(tiny_config, folder), folder)


@pytest.fixture(scope="module")
def muon_on_one_rank(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory, start_ranks: StartRanks) -> Runs:
    folder = tmp_path_factory.mktemp("muon_one_rank")
    chosen = ("reference-fp32", "zero1-fp32")
    return start_ranks(1, {name: job for name, job in jobs(tiny_config, folder).items() if name in chosen}, folder)


def losses(runs: Runs, name: str) -> list[float]:
    return [line["loss"] for line in runs.metrics(name)]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_oracles_losses(engine: str, muon_on_one_rank: Runs, muon_on_two_ranks: Runs) -> None:
    oracle = losses(muon_on_one_rank, "reference-fp32")
    assert oracle[-1] < oracle[0] - 0.3
    assert losses(muon_on_two_ranks, f"{engine}-fp32") == pytest.approx(oracle, rel=1e-5)


def test_on_one_rank_too(muon_on_one_rank: Runs) -> None:
    assert losses(muon_on_one_rank, "zero1-fp32") == pytest.approx(losses(muon_on_one_rank, "reference-fp32"), rel=1e-5)


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "reference"])
def test_bf16_stays_near_the_oracle(engine: str, muon_on_two_ranks: Runs) -> None:
    oracle = losses(muon_on_two_ranks, "reference-bf16")
    assert losses(muon_on_two_ranks, f"{engine}-bf16") == pytest.approx(oracle, rel=2e-3)


@pytest.mark.parametrize(("engine", "precision"), CUT)
def test_a_stopped_run_goes_on_with_the_same_digits(engine: str, precision: str, muon_on_two_ranks: Runs) -> None:
    name = f"{engine}-{precision}"
    assert losses(muon_on_two_ranks, f"cut-{name}") == losses(muon_on_two_ranks, name)
    last = Path("checkpoints") / f"step-{STEPS:08d}"
    whole, cut = (verify(muon_on_two_ranks.path(run) / last) for run in (name, f"cut-{name}"))
    assert cut.files == whole.files


@pytest.mark.parametrize(("before", "after"), MOVES)
def test_another_engine_goes_on(before: str, after: str, muon_on_two_ranks: Runs) -> None:
    moved = losses(muon_on_two_ranks, f"moved-{before}-{after}")
    assert moved == pytest.approx(losses(muon_on_two_ranks, "reference-fp32"), rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_checkpoint_has_one_moment_of_a_hidden_matrix_and_two_of_the_rest(
    engine: str, muon_on_two_ranks: Runs
) -> None:
    folder = muon_on_two_ranks.path(f"{engine}-fp32") / "checkpoints" / f"step-{STEPS:08d}"
    reader = CheckpointReader(folder, verify(folder))
    without = reader.names("weight") - reader.names("exp_avg_sq")
    assert without == {
        name for name in reader.names("weight") if ".h." in name and name.endswith(".weight") and ".ln_" not in name
    }
    assert reader.names("exp_avg") == reader.names("weight")
