"""Stop at a step, start again: the same digits, for every engine and precision, with dropout."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from framework.checkpoint.manifest import CheckpointManifest, verify
from framework.config.batch import BatchPlan
from framework.data.corpus import local_corpus
from framework.data.stream import TrainStream
from framework.metrics.records import read_json_lines
from framework.train.trained import evaluate_trained, load_trained
from tests.distributed.conftest import ENGINES, PRECISIONS, Runs, StartRanks, engine_overrides, oracle_jobs

pytestmark = pytest.mark.distributed

MEASURED = {"step_seconds", "tokens_per_second", "data_wait_seconds", "peak_memory_bytes"}

# Every engine's checkpoint is read by another one, and every engine reads another one's.
MOVES = (
    ("reference", "zero3"),
    ("zero3", "zero0"),
    ("zero0", "zero2"),
    ("zero2", "zero1"),
    ("zero1", "reference"),
    ("zero3", "zero1"),
)
STOP_AT = 4
RESUMED_STEPS = 8


def resume_jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    """For each engine and precision: undisturbed, and stopped and started again; with dropout."""
    jobs: dict[str, list[str]] = {}
    for engine in ENGINES:
        for precision in PRECISIONS:
            common = [
                *engine_overrides(engine),
                f"engine.precision={precision}",
                "model.dropout=0.1",
                f"train.max_steps={RESUMED_STEPS}",
                "train.eval_every_steps=3",
            ]
            whole, cut = f"whole-{engine}-{precision}", f"cut-{engine}-{precision}"
            jobs[whole] = [str(config), f"run_dir={folder / whole}", *common]
            jobs[f"{cut}-stopped"] = [str(config), f"run_dir={folder / cut}", f"train.stop_at_step={STOP_AT}", *common]
            jobs[cut] = [str(config), f"run_dir={folder / cut}", *common]
    return jobs


def restart_jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    """Another micro-batch from start to start, and other engines."""
    regrouped = [str(config), f"run_dir={folder / 'regrouped'}", "engine.zero_stage=2"]
    jobs = {
        "regrouped-stopped": [*regrouped, f"train.stop_at_step={STOP_AT}"],
        "regrouped": [*regrouped, "engine.micro_batch_size=1"],
    }
    for before, after in MOVES:
        name = f"moved-{before}-{after}"
        common = [str(config), f"run_dir={folder / name}"]
        jobs[f"{name}-stopped"] = [*common, f"train.stop_at_step={STOP_AT}", *engine_overrides(before)]
        jobs[name] = [*common, *engine_overrides(after)]
    return jobs


def skipping_jobs(config: Path, shards: Path, folder: Path) -> dict[str, list[str]]:
    """A bad shard that is left out, in a run that is not interrupted and in one that is stopped and started again."""
    copy = folder / "shards"
    shutil.copytree(shards, copy)
    (copy / "train-000002.tar").unlink()
    common = [f"data.shards_dir={copy}", "data.on_bad_shard=skip", f"train.max_steps={RESUMED_STEPS}"]
    jobs: dict[str, list[str]] = {}
    for engine in ("reference", "zero2"):
        whole, cut = f"skips-{engine}", f"skips-cut-{engine}"
        jobs[whole] = [str(config), f"run_dir={folder / whole}", *common, *engine_overrides(engine)]
        cut_job = [str(config), f"run_dir={folder / cut}", *common, *engine_overrides(engine)]
        jobs[f"{cut}-stopped"] = [*cut_job, f"train.stop_at_step={STOP_AT}"]
        jobs[cut] = cut_job
    return jobs


def refused_jobs(config: Path, folder: Path) -> dict[str, list[str]]:
    """What ranks must refuse together."""
    common = [str(config), f"run_dir={folder / 'reference'}"]
    return {
        "another-seed": [*common, "engine.kind=reference", "seed=7"],
        "nothing-to-do": [*common, "engine.kind=reference", "checkpoint.every_steps=1000"],
    }


@pytest.fixture(scope="module")
def one_rank(
    tiny_config: Path, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory, start_ranks: StartRanks
) -> Runs:
    folder = tmp_path_factory.mktemp("one_rank")
    return start_ranks(1, skipping_jobs(tiny_config, tiny_shards, folder), folder)


@pytest.fixture(scope="module")
def two_ranks(
    tiny_config: Path, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory, start_ranks: StartRanks
) -> Runs:
    folder = tmp_path_factory.mktemp("two_ranks")
    jobs = {
        **oracle_jobs(tiny_config, folder),
        **resume_jobs(tiny_config, folder),
        **restart_jobs(tiny_config, folder),
        **refused_jobs(tiny_config, folder),
        **skipping_jobs(tiny_config, tiny_shards, folder),
    }
    return start_ranks(2, jobs, folder)


def reproducible(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]


def final_state(run_dir: Path) -> CheckpointManifest:
    """With the hashes of all weights and moments."""
    return verify(run_dir / "checkpoints" / f"step-{RESUMED_STEPS:08d}")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_resumed_run_is_the_same_digit_for_digit(engine: str, precision: str, two_ranks: Runs) -> None:
    whole, cut = f"whole-{engine}-{precision}", f"cut-{engine}-{precision}"
    assert two_ranks.outcomes[f"{cut}-stopped"]["exit_code"] == 75
    expected = two_ranks.metrics(whole)
    assert [line["step"] for line in expected] == list(range(1, RESUMED_STEPS + 1))
    assert reproducible(two_ranks.metrics(cut)) == reproducible(expected)
    assert read_json_lines(two_ranks.path(cut) / "eval.jsonl") == read_json_lines(two_ranks.path(whole) / "eval.jsonl")
    assert final_state(two_ranks.path(cut)) == final_state(two_ranks.path(whole))


@pytest.mark.parametrize("engine", ENGINES)
def test_checkpoints_verify_and_hold_the_cursor(engine: str, two_ranks: Runs) -> None:
    folder = two_ranks.path(f"cut-{engine}-fp32") / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [f"step-{STOP_AT:08d}", f"step-{RESUMED_STEPS:08d}"]
    manifest = verify(folder / f"step-{STOP_AT:08d}")
    assert (manifest.step, manifest.cursor, manifest.world_size) == (STOP_AT, STOP_AT * 8, 2)
    assert sorted(manifest.files) == [f"state-{rank:05d}-of-00002.safetensors" for rank in range(2)]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_saved_weights_are_those_that_were_evaluated(engine: str, two_ranks: Runs) -> None:
    """fp32, loaded without DeepSpeed: a wrong gather of partitions would show."""
    path = two_ranks.path(engine)
    trained = load_trained(path)
    loss = evaluate_trained(trained, max_sequences=trained.config.train.eval_max_sequences)["loss"]
    assert loss == pytest.approx(read_json_lines(path / "eval.jsonl")[-1]["loss"], rel=1e-5)


def test_another_micro_batch_goes_on_with_the_same_sequences(two_ranks: Runs) -> None:
    regrouped, whole = two_ranks.metrics("regrouped"), two_ranks.metrics("zero2")
    assert [line["batch_digest"] for line in regrouped] == [line["batch_digest"] for line in whole]
    assert [line["loss"] for line in regrouped] == pytest.approx([line["loss"] for line in whole], rel=1e-5)


@pytest.mark.parametrize("engine", ["reference", "zero2"])
def test_what_a_bad_shard_cost_is_counted_over_all_ranks_and_starts(
    engine: str, one_rank: Runs, two_ranks: Runs
) -> None:
    seen = []
    for runs in (one_rank, two_ranks):
        bad = runs.folder / "shards" / "train-000002.tar"
        expected = skipped_sequences_of(bad.parent, bad.name)
        for name in (f"skips-{engine}", f"skips-cut-{engine}"):
            assert len(runs.metrics(name)) == RESUMED_STEPS
            events = read_json_lines(runs.path(name) / "events.jsonl")
            assert {event["event"] for event in events} == {"sequences_skipped"}
            assert {event["step"]: event["skipped_sequences"] for event in events} == expected
            assert [event["cursors"] for event in events] == [[8 * (step - 1), 8 * step] for step in expected]
            assert [event.get("bad_shards") for event in events] == [[str(bad)]] + [None] * (len(events) - 1)
            result = json.loads((runs.path(name) / "result.json").read_text())
            assert result["skipped_sequences"] == sum(expected.values()) > 0
            seen.append(runs.metrics(name)[-1]["batch_digest"])
    assert min(expected) <= STOP_AT < max(expected)  # on both sides of the stop
    assert len(set(seen)) == 1
    assert "skipped_sequences" not in json.loads((two_ranks.path(engine) / "result.json").read_text())


def skipped_sequences_of(shards: Path, name: str) -> dict[int, int]:
    """By step (from 1), how many sequences of shard ``name`` the run comes to, from the order function alone."""
    plan = BatchPlan(1, 8, 1, 8, 64)
    stream = TrainStream(local_corpus(shards, "skip"), plan, lanes=16, seed=1337, rank=0)
    places = [stream.shard_at(stream.order.locate(cursor)).entry.name for cursor in range(8 * RESUMED_STEPS)]
    return dict(sorted(Counter(cursor // 8 + 1 for cursor, place in enumerate(places) if place == name).items()))


def test_dropout_was_on(two_ranks: Runs) -> None:
    assert two_ranks.metrics("whole-zero1-fp32")[0]["loss"] != two_ranks.metrics("zero1")[0]["loss"]


def test_another_seed_is_refused(two_ranks: Runs) -> None:
    outcome = two_ranks.outcomes["another-seed"]
    assert outcome["exit_code"] == 2
    assert "seed 7 (there: 1337)" in outcome["message"]


@pytest.mark.parametrize(("before", "after"), MOVES)
def test_a_checkpoint_moves_to_another_engine_and_stage(before: str, after: str, two_ranks: Runs) -> None:
    name, whole = f"moved-{before}-{after}", two_ranks.metrics("reference")
    assert two_ranks.outcomes[f"{name}-stopped"]["exit_code"] == 75
    moved = two_ranks.metrics(name)
    assert [line["batch_digest"] for line in moved] == [line["batch_digest"] for line in whole]
    assert [line["loss"] for line in moved] == pytest.approx([line["loss"] for line in whole], rel=1e-5)


def test_a_finished_run_stays_finished(two_ranks: Runs) -> None:
    assert two_ranks.outcomes["nothing-to-do"]["exit_code"] == 0
    assert (two_ranks.path("reference") / "result.json").exists()
    assert len(two_ranks.metrics("reference")) == 20


def test_every_run_went_well(one_rank: Runs, two_ranks: Runs) -> None:
    for name, outcome in (one_rank.outcomes | two_ranks.outcomes).items():
        expected = 75 if name.endswith("-stopped") else 2 if name == "another-seed" else 0
        assert outcome["exit_code"] == expected, (name, outcome["message"])
