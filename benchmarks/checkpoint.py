"""What a checkpoint costs: how long it holds training, how long it is written, how long a start takes that goes on from it.

    python -m benchmarks.checkpoint                               GPT-2 with 124M parameters, ZeRO-1 on 2 ranks
    python -m benchmarks.checkpoint model.preset=gpt2_mini --ranks 1

Starts of real ranks: the first takes steps and saves, the others (``--resumes``), each in new processes, verify the newest
checkpoint, build the same run, load it and take one step. Python's imports are not counted, everything after them until the first
step begins is, but for the time that ranks wait for each other to come. Medians of the slowest rank; on a
machine that others use as well, its processor time says more. Prints one JSON line;
``--append FILE`` keeps it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.command import zerostream
from benchmarks.records import add_output, publish
from framework.run_dir import RunDir
from launch.local import prepare_environment

CONFIG = """\
run_dir: FOLDER/run
model: {preset: gpt2_small, context_length: 128, pad_vocab_to_multiple: 50304}  # as many rows as GPT-2's own tokenizer needs
tokenizer: {kind: train_bpe, vocab_size: 2048}
data: {source: embedded, documents: 2000, shards_dir: FOLDER/shards, lanes: 16}
engine: {kind: deepspeed, zero_stage: 1, micro_batch_size: 2, global_batch_size: 4}
train: {max_steps: 1000000}
checkpoint: {keep: 1}
"""
_SAVES, _STEPS_BETWEEN = 3, 6
_UNTIL_THE_END = ExitStack()
"""Of a rank's process: leaves the process group."""


def main() -> None:
    """Starts the ranks twice and prints what they measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="keys of the config, such as engine.zero_stage=3")
    parser.add_argument("--ranks", type=int, default=2, help="(default 2)")
    parser.add_argument("--resumes", type=int, default=5, help="starts that go on (default 5)")
    add_output(parser)
    parser.add_argument("--as-rank", choices=("save", "resume"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_rank:
        config_path, *overrides = arguments.overrides
        measure = _save if arguments.as_rank == "save" else _resume
        with _UNTIL_THE_END:
            measure(Path(config_path), overrides)
        return
    publish(_measure(arguments.overrides, arguments.ranks, arguments.resumes), arguments.append)


def _measure(overrides: list[str], ranks: int, resumes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIG.replace("FOLDER", folder), encoding="utf-8")
        zerostream("prepare", config, *overrides)
        saved = _start_ranks("save", config, overrides, ranks)
        resumed = [_start_ranks("resume", config, overrides, ranks) for _ in range(resumes)]
    whole = sorted(each.pop("resume_seconds") for each in resumed)
    used = statistics.median(each.pop("cpu_seconds") for each in resumed)
    parts = {name: round(statistics.median(each[name] for each in resumed), 3) for name in resumed[0]}
    return {
        "question": "checkpoint",
        "date": datetime.date.today().isoformat(),
        "ranks": ranks,
        "overrides": overrides,
        **saved,
        "resume_seconds": statistics.median(whole),
        "resume_seconds_least_and_most": [whole[0], whole[-1]],
        "resume_cpu_seconds": used,
        "resume": parts,
    }


def _start_ranks(what: str, config: Path, overrides: list[str], ranks: int) -> dict[str, Any]:
    prepare_environment(ranks)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    module = ["-m", "benchmarks.checkpoint", "--as-rank", what, str(config), *overrides]
    done = subprocess.run([*command, *module], stdout=subprocess.PIPE, text=True, check=True)
    values: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return values


def _build(config_path: Path, overrides: list[str]) -> tuple[_Clock, Any, Any, Any, Any, Any]:
    """The parts of a run as ``framework.train.session`` builds them, and the seconds each took on this rank."""
    from framework.checkpoint.store import CheckpointStore
    from framework.config import load_config
    from framework.engine import build_engine, join_world
    from framework.train import preflight

    clock = _Clock()
    config = load_config(config_path, overrides)
    found = preflight.check(config, int(os.environ["WORLD_SIZE"]))
    clock.lap("preflight_seconds")
    world = _UNTIL_THE_END.enter_context(join_world(600))
    world.barrier()
    clock.lap("rendezvous_seconds")
    store = CheckpointStore(config, found.recipe.data_fingerprint, world)
    goes_on = store.begin_verifying()
    build = found.recipe.build_model_to_fill if goes_on else found.recipe.build_model
    model = build(found.recipe.tokenizer)
    clock.lap("model_seconds")
    engine = build_engine(config, found.plan, world, model, weights_follow=goes_on)
    clock.lap("engine_seconds")
    saved = store.newest_verified()
    clock.lap("verify_seconds")
    if saved is not None:
        store.load(saved, engine)
    clock.lap("load_seconds")
    return clock, world, engine, store, found.recipe.stream(found.plan, world.rank), saved


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.began_cpu_seconds = time.process_time()
        self._last = time.perf_counter()

    def lap(self, name: str) -> float:
        now = time.perf_counter()
        self.laps[name], self._last = round(now - self._last, 3), now
        return self.laps[name]


def _save(config_path: Path, overrides: list[str]) -> None:
    from framework.config import dump_config, load_config
    from framework.metrics.hardware import describe_environment
    from framework.model.build import count_parameters

    _import_as_a_rank_does()
    _, world, engine, store, stream, _ = _build(config_path, overrides)
    batches = stream.steps(0)
    steps: list[float] = []
    beside: list[float] = []
    holds: list[float] = []
    written: list[float] = []
    step, saved_at = 0, 0.0
    for _ in range(_SAVES + 1):
        for _ in range(_STEPS_BETWEEN):
            began = time.perf_counter()
            engine.train_step(next(batches), 1e-4)
            (beside if store.is_pending else steps).append(time.perf_counter() - began)
            step += 1
            if store.is_pending and not world.maxima([float(store.is_busy)])[0]:
                store.advance()
                if not store.is_pending:
                    written.append(time.perf_counter() - saved_at)
        store.finish()
        saved_at = time.perf_counter()
        store.save(step, engine, tokens=step)
        holds.append(world.maxima([time.perf_counter() - saved_at])[0])
    store.finish()
    written.append(time.perf_counter() - saved_at)
    if world.is_main:
        config = load_config(config_path, overrides)
        RunDir(config.run_dir).config.write_text(dump_config(config), encoding="utf-8")  # makes it a run to go on with
        values = {
            "parameters": count_parameters(engine.model),
            "step_seconds": round(statistics.median(steps[1:]), 3),
            "step_seconds_beside_a_save": round(statistics.median(beside), 3),
            "first_hold_seconds": round(holds[0], 3),  # it also takes the memory that the others use again
            "hold_seconds": round(statistics.median(holds[1:]), 3),
            "written_after_seconds": round(statistics.median(written), 3),
            "checkpoint_bytes": _checkpoint_bytes(RunDir(config.run_dir)),
            "environment": describe_environment(world.world_size, world.device),
        }
        print(json.dumps(values), flush=True)


def _checkpoint_bytes(run_dir: RunDir) -> int:
    newest = run_dir.checkpoint(max(run_dir.checkpoint_steps()))
    return sum(path.stat().st_size for path in newest.iterdir())


def _resume(config_path: Path, overrides: list[str]) -> None:
    _import_as_a_rank_does()
    clock, world, engine, _, stream, saved = _build(config_path, overrides)
    batch = next(stream.steps(saved.step))
    clock.lap("first_batch_seconds")
    used = round(time.process_time() - clock.began_cpu_seconds, 3)
    parts = {
        **clock.laps,
        "cpu_seconds": used,
        "resume_seconds": round(sum(clock.laps.values()) - clock.laps["rendezvous_seconds"], 3),
    }
    slowest = dict(zip(parts, world.maxima(list(parts.values())), strict=True))
    engine.train_step(batch, 1e-4)
    if world.is_main:
        print(json.dumps(slowest), flush=True)


def _import_as_a_rank_does() -> None:
    import transformers.models.gpt2.modeling_gpt2  # noqa: F401

    import framework.engine.deepspeed_engine
    import framework.train.session  # noqa: F401


if __name__ == "__main__":
    main()
