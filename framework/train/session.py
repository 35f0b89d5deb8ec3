"""Builds one rank's parts from the config, trains, and writes the result. Everything is decided before it starts."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from typing import Any

import torch

from framework.checkpoint.store import CheckpointStore
from framework.config import Config, dump_config
from framework.data.stream import Prefetcher
from framework.durable import only_one_writer, storage_errors, write_durably
from framework.engine import Engine, World, build_engine, join_world
from framework.failpoints import failpoint
from framework.metrics.console import Console, format_seconds
from framework.metrics.hardware import describe_environment, peak_flops, training_flops_per_token
from framework.metrics.records import read_json_lines
from framework.model.build import count_elements, count_parameters
from framework.model.loss_model import LossModel
from framework.optim.schedule import describe_schedule
from framework.plugins.interface import Hook
from framework.plugins.registry import active_plugins
from framework.run_dir import RunDir
from framework.train import preflight
from framework.train.cores import available_cores
from framework.train.events import EventLog, count_skipped_sequences
from framework.train.hooks import ConsoleHook, RecordHook, TensorBoardHook, write_result
from framework.train.loop import Progress, TrainingLoop
from framework.train.profile import ProfileHook, explained_out_of_memory
from framework.train.recipe import Recipe
from framework.train.stopping import StopRequest
from framework.train.watch import Watch

_SECOND_NET_SECONDS = 60


def train(config: Config, stop: StopRequest) -> None:
    """Trains, or goes on with, the run that ``config`` describes, until ``stop`` says so. Every rank calls it alike.

    Raises:
        UserError: something does not fit together; nothing has been written.
        PreemptedError: stopped before the end, and saved.
        ZerostreamError: as the loop and the checkpoints raise it.
    """
    _use_own_share_of_cores()
    _compute_the_same_every_time()
    stop.limit(config.train.time_limit_seconds)
    found = preflight.check(config, int(os.environ.get("WORLD_SIZE", "1")))
    run_dir, console = RunDir(config.run_dir), Console(found.recipe.unit)
    deadlines = config.train
    watch = Watch(run_dir, int(os.environ.get("RANK", "0")))
    # Deadlines come first, with the stacks that explain them; a collective's own end is the second net.
    patience = max(deadlines.start_timeout_seconds, deadlines.step_timeout_seconds) + _SECOND_NET_SECONDS
    with ExitStack() as stack:
        stack.callback(watch.close)
        watch.expect("start", 0, deadlines.start_timeout_seconds)
        failpoint("rendezvous")
        world = stack.enter_context(join_world(patience))
        # All ranks have looked before rank 0 writes, or a slow one would find a run directory in the making.
        world.barrier()
        world.from_main(lambda: _fence(run_dir, stack))
        if world.is_main:
            watch.forget_gone(world.world_size)
        recipe = found.recipe
        checkpoints = CheckpointStore(config, recipe.data_fingerprint, world)
        goes_on = checkpoints.begin_verifying()
        model = (recipe.build_model_to_fill if goes_on else recipe.build_model)(recipe.tokenizer)
        torch.manual_seed(config.seed)  # whatever building has drawn, or left out
        size = _ModelSize(config, model)
        engine = build_engine(config, found.plan, world, model, weights_follow=goes_on)
        saved = checkpoints.newest_verified()
        if world.is_main:
            for cause in checkpoints.passed_over:
                console.say(f"warning: {cause}; going on from an older checkpoint")
        world.from_main(
            lambda: _open_run_dir(config, run_dir, recipe, describe_environment(world.world_size, world.device))
        )
        start = Progress()
        if saved is not None:
            checkpoints.load(saved, engine)
            start = Progress(saved.step, saved.tokens, saved.train_loss)
        if world.is_main:
            console.say(_headline(config, found, size, world, start))
        if start.step >= config.train.max_steps:
            state_bytes = _count_state(engine)
            world.from_main(lambda: _write_missing_result(run_dir, world, size, start, state_bytes))
            if world.is_main:
                console.say(f"nothing to do: this run has taken its {config.train.max_steps} steps")
            return
        if world.is_main and config.schedule.warmup_steps >= config.train.max_steps:
            rates = describe_schedule(config.optimizer, config.schedule, config.train.max_steps)
            console.say(f"warning: learning rate {rates}")
        world.from_main(lambda: run_dir.result.unlink(missing_ok=True))
        stream = recipe.stream(found.plan, world.rank)
        batches = stack.enter_context(
            Prefetcher(
                stream.steps(start.step), depth=config.data.prefetch_steps, pin_memory=world.device.type == "cuda"
            )
        )
        evaluator = recipe.evaluator(found.plan, engine)
        events = EventLog(run_dir, start.step, console.say, is_main=world.is_main)
        stack.callback(events.close)
        hooks = _make_hooks(config, found, size, start, console, engine, events)
        watch.expect("start", start.step, deadlines.start_timeout_seconds)
        began = time.perf_counter()
        loop = TrainingLoop(
            config,
            engine,
            batches,
            evaluator,
            checkpoints,
            hooks,
            events,
            stop,
            watch,
            recipe.ignorant_loss,
        )
        with explained_out_of_memory(config, is_main=world.is_main):
            end = loop.run(start)
        failpoint("shutdown")
        seconds = time.perf_counter() - began
        state_bytes = _count_state(engine)
        if world.is_main:
            result = _summarise(run_dir, world, size, start, end, seconds, state_bytes)
            write_result(run_dir, result)
            console.say(_closing_words(recipe, run_dir, result))


def _fence(run_dir: RunDir, stack: ExitStack) -> None:
    """Keeps a second copy of the run out for as long as this one lives."""
    with storage_errors(run_dir.path):
        run_dir.path.mkdir(parents=True, exist_ok=True)
    stack.enter_context(only_one_writer(run_dir.lock, refusal=preflight.live_copy(run_dir)))


class _ModelSize:
    """Parameters and FLOPs, counted before ZeRO stage 3 partitions them away."""

    def __init__(self, config: Config, model: LossModel) -> None:
        self.trainable = count_parameters(model)
        self.parameters = sum(map(count_elements, model.parameters()))
        self.is_muon = config.optimizer.kind == "muon"
        embeddings = _look_up_parameters(model)
        self.flops_per_token = training_flops_per_token(
            self.parameters,
            embeddings,
            config.model.layers,
            config.model.width,
            config.model.context_length,
            frozen_parameters=self.parameters - self.trainable,
        )

    def __str__(self) -> str:
        whole = f"{self.parameters / 1e6:.1f}M parameters"
        if self.trainable == self.parameters:
            return whole
        return f"{whole}, {self.trainable:,} of them trained ({self.trainable / self.parameters:.2%})"


def _look_up_parameters(model: LossModel) -> int:
    """Weights that are only looked up; an embedding that is also the output matrix takes part in a product."""
    output = getattr(model.transformer, "get_output_embeddings", lambda: None)()
    embeddings = {module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    return sum(weight.numel() for weight in embeddings if output is None or weight is not output.weight)


def _use_own_share_of_cores() -> None:
    """On a CPU, ranks beside each other share the cores; torch alone would let each of them take all."""
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _compute_the_same_every_time() -> None:
    """On a CPU, what is computed twice is equal digit for digit, compiled or not (docs/decisions/0008).

    torch.compile would otherwise add up the gradients of embeddings in the order in which threads happen to arrive.
    """
    if not torch.cuda.is_available():
        torch.use_deterministic_algorithms(True)
        # Its other half costs time, and helps only debugging.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _open_run_dir(config: Config, run_dir: RunDir, recipe: Recipe, environment: dict[str, Any]) -> None:
    # First of all: without it, what a kill leaves behind would look like somebody else's folder.
    write_durably(run_dir.config, dump_config(config).encode())
    write_durably(run_dir.environment, (json.dumps(environment, indent=1) + "\n").encode())
    recipe.tokenizer.save(run_dir.tokenizer)
    recipe.save_for_use(run_dir)
    with storage_errors(run_dir.checkpoints):
        run_dir.checkpoints.mkdir(exist_ok=True)


def _count_state(engine: Engine) -> int:
    """Bytes of gradients and optimizer states, over all ranks, which call it together."""
    return engine.world.sum_integers([engine.trained_state_bytes()])[0]


def _write_missing_result(run_dir: RunDir, world: World, size: _ModelSize, end: Progress, state_bytes: int) -> None:
    """A run that was killed between its last checkpoint and its result gets it now."""
    if not run_dir.result.exists():
        write_result(run_dir, _summarise(run_dir, world, size, end, end, 0.0, state_bytes))


def _make_hooks(
    config: Config,
    found: preflight.Preflight,
    size: _ModelSize,
    start: Progress,
    console: Console,
    engine: Engine,
    events: EventLog,
) -> list[Hook]:
    world = engine.world
    hooks: list[Hook] = []
    run_dir = RunDir(config.run_dir)
    board = None
    if world.is_main:
        hooks.append(RecordHook(run_dir, start.step))
        if config.logging.tensorboard:
            rate = peak_flops(world.device, config.engine.precision) * world.world_size
            board = TensorBoardHook(config, start.step, size.flops_per_token, rate)
        hooks.append(ConsoleHook(config, console))
    hooks += found.recipe.hooks(found.plan, engine, board, events)
    if world.is_main and config.train.profile.steps:
        hooks.append(ProfileHook(config, board))
    if board is not None:
        hooks.append(board)
    for active in active_plugins(config):
        if active.plugin.hooks is not None:
            hooks += active.plugin.hooks(config, active.options)
    return hooks


def _headline(config: Config, found: preflight.Preflight, size: _ModelSize, world: World, start: Progress) -> str:
    engine = config.engine
    name = f"deepspeed ZeRO-{engine.zero_stage}" if engine.kind == "deepspeed" else "reference engine"
    begin = f"going on at step {start.step}" if start.step else found.recipe.beginning
    return (
        f"{config.model.architecture} with {size}, {begin}; {name}, {engine.precision}, "
        f"{world.world_size} ranks on {world.device.type}\n"
        f"step: {found.plan}\n"
        f"text: {found.recipe.describe_data(found.plan)}; watch with `zerostream board {config.run_dir}`"
    )


def _summarise(
    run_dir: RunDir,
    world: World,
    size: _ModelSize,
    start: Progress,
    end: Progress,
    seconds: float,
    state_bytes: int,
) -> dict[str, Any]:
    steps, evaluations = read_json_lines(run_dir.metrics), read_json_lines(run_dir.evaluations)
    finished: dict[str, Any] = {
        "status": "finished",
        "step": end.step,
        "tokens": end.tokens,
        "parameters": size.parameters,
        "trainable_parameters": size.trainable,
        "trained_state_bytes": state_bytes,
        "flops_per_token": size.flops_per_token,
        "world_size": world.world_size,
    }
    # What full fine-tuning would train, in place of what was added. Muon keeps less of some parameters: no ratio tells how much.
    if (frozen := size.parameters - size.trainable) and not size.is_muon:
        finished["full_fine_tuning_state_bytes"] = round(state_bytes * frozen / size.trainable)
    if skipped := count_skipped_sequences(run_dir):
        finished["skipped_sequences"] = skipped
    if not steps or not evaluations:  # a disk refused them to the end, or they were removed: the weights are there
        return finished
    rates = sorted(line["tokens_per_second"] for line in steps)
    evaluation = {key: value for key, value in evaluations[-1].items() if key != "step"}
    return {
        **finished,
        "train_loss": steps[-1]["loss"],
        "validation": evaluation,
        "tokens_per_second_median": rates[len(rates) // 2],
        "step_seconds_total": sum(line["step_seconds"] for line in steps),
        "data_wait_fraction": sum(line["data_wait_seconds"] for line in steps)
        / sum(line["step_seconds"] for line in steps),
        "peak_memory_bytes": max(line["peak_memory_bytes"] for line in steps),
        "resumed_at_step": start.step,
        "seconds_of_this_start": seconds,
    }


def _memory_words(result: dict[str, Any]) -> str:
    peak = f"{result['peak_memory_bytes'] / 2**30:.2f} GiB at the peak of a rank"
    if "full_fine_tuning_state_bytes" not in result:
        return peak
    held, full = result["trained_state_bytes"] / 2**20, result["full_fine_tuning_state_bytes"] / 2**20
    return f"{peak}; gradients and optimizer states {held:,.2f} MiB, of full fine-tuning {full:,.2f} MiB"


def _closing_words(recipe: Recipe, run_dir: RunDir, result: dict[str, Any]) -> str:
    if "validation" not in result:
        return f"\nfinished {result['step']} steps; {run_dir.metrics} or {run_dir.evaluations} has no line to sum up"
    of_recipe = recipe.closing_lines(result["validation"])
    lines = [
        of_recipe[0],
        (
            "speed",
            f"{result['tokens_per_second_median']:,.0f} {recipe.unit}/s, {100 * result['data_wait_fraction']:.2f}% of it waiting "
            "for data",
        ),
        ("memory", _memory_words(result)),
        *of_recipe[1:],
    ]
    if skipped := result.get("skipped_sequences", 0):
        lines.append(("left out", f"{skipped:,} sequences of bad shards, named in {run_dir.events}"))
    took = format_seconds(result["seconds_of_this_start"])
    return f"\nfinished {result['step']} steps, {result['tokens']:,} {recipe.unit}, in {took}\n" + "\n".join(
        f"  {word:<12} {text}" for word, text in lines
    )
