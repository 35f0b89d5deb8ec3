"""All scenarios of the fault matrix. Where a fault strikes is drawn from a seed, within what the kind is about."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

from framework.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_REFUSED
from tests.faults import damage
from tests.faults.scenario import (
    ENGINES,
    PRECISIONS,
    STOPPED,
    UNDISTURBED,
    Outside,
    Scenario,
    Scene,
    Start,
    engine_overrides,
)
from tests.starts import Running

# With CONFIG of tests/faults/case.py: 12 steps of 2 micro-batches on 2 ranks, a save every 3, an evaluation every 4.
IN_A_STEP = ("forward", "accumulate", "backward", "step")
OF_A_SAVE = ("save.begin", "save.copy", "save.write", "save.sync")
WRITES = ("save.write", "save.sync")
OF_A_SAVE_ON_RANK_0 = ("save.manifest", "save.rename", "save.retain")
SETUPS = tuple(itertools.product(ENGINES, PRECISIONS))
OTHER_RUN = ("seed=7",)
STEP_DEADLINE, START_DEADLINE = 5, 10


def all_scenarios(seed: int) -> list[Scenario]:
    """The whole matrix; the same for the same seed."""
    rng = random.Random(seed)
    groups = (
        _killed, _told_to_stop, _stopped_and_hung, _raised, _bad_shards, _bad_checkpoints, _not_finite, _bad_storage,
        _elastic, _second_copy,
    )  # fmt: skip
    return [scenario for group in groups for scenario in group(rng)]


def _everywhere(
    rng: random.Random, action: str, rank: int | None, exits: tuple[int, ...] = (EXIT_FAILED,)
) -> tuple[Start, ...]:
    """Five starts that each end by ``action``: before the first step, in a step, in a save, while loading, near the end."""
    where = "" if rank is None else f"#{rank}"
    saves = OF_A_SAVE if rank else OF_A_SAVE + OF_A_SAVE_ON_RANK_0
    late = rng.choice(["evaluate", "shutdown", *(f"{place}@{rng.randint(10, 12)}" for place in IN_A_STEP)])
    places = [
        rng.choice(["import", "rendezvous", "fetch"]),
        f"{rng.choice(IN_A_STEP)}@{rng.randint(2, 6)}",
        f"{rng.choice(saves)}@{rng.choice([6, 9])}",
        "load",
        late,
    ]
    return tuple(Start(f"{place}{where}={action}", exits=exits) for place in places)


def _killed(rng: random.Random) -> Iterator[Scenario]:
    for engine, precision in SETUPS:
        setup = engine_overrides(engine, precision)
        for kind, rank in (("SIGKILL of rank 0", 0), ("SIGKILL of another rank", 1)):
            yield Scenario(
                kind,
                f"{engine} {precision}",
                _everywhere(rng, "kill", rank),
                setup,
                is_quick=(engine, precision, rank) in (("zero2", "bf16", 0), ("zero3", "fp32", 1)),
            )
    for engine in ("reference", "zero1", "zero3"):
        yield Scenario("SIGKILL of all ranks", engine, _everywhere(rng, "kill", None)[1:4], engine_overrides(engine))
    launcher = "SIGKILL of the launcher"
    for place, seconds in (("forward@7", 2), ("save.write@6", 4)):
        struck = Start(
            f"{place}#0=sleep:{seconds}", outside=_signal_launcher(signal.SIGKILL), exits=(-9,), deadline_seconds=seconds,
            through_launcher=True,
        )  # fmt: skip
        yield Scenario(launcher, place, (struck,), engine_overrides("zero2"), is_quick=seconds == 2)
    for kind, place in (("SIGKILL of rank 0", "import#0"), ("SIGKILL of another rank", "save.sync@6#1")):
        says = r"rank \d was killed by signal 9"
        struck = Start(f"{place}=kill", says=says, through_launcher=True)
        yield Scenario(kind, f"zerostream train, {place}", (struck,), engine_overrides("zero1"))
    names = ("save.retain@6", "save.retain@9", "save.rename@9")
    for place in names:
        struck = Start(f"{place}#0=kill", overrides=("checkpoint.asynchronous=false",), power_cut=True)
        yield Scenario("power cut", place, (struck,), engine_overrides("zero2"), is_quick=place == names[0])


def _told_to_stop(rng: random.Random) -> Iterator[Scenario]:
    for action, name in (("term", "SIGTERM"), ("int", "SIGINT"), ("usr2", "SIGUSR2")):
        for engine in ("zero1", "zero3", "reference"):
            early = rng.choice(["import", "rendezvous"])
            # A signal that comes when a step has been agreed on counts at the end of the next one.
            steps = sorted(rng.sample(range(6, 11, 2), 2))
            places = [early, "evaluate@4", *(f"{rng.choice(IN_A_STEP)}@{step}" for step in steps)]
            starts = tuple(Start(f"{place}#{rng.randint(0, 1)}={action}", exits=STOPPED) for place in places)
            yield Scenario(
                name, engine, starts, engine_overrides(engine), is_quick=(name, engine) == ("SIGTERM", "zero3")
            )
        to_launcher = Start(
            "forward@5#0=sleep:2", outside=_signal_launcher(_NUMBERS[action]), exits=STOPPED, through_launcher=True
        )
        yield Scenario(name, "zerostream train", (to_launcher,), engine_overrides("zero1"), is_quick=action == "usr2")
    for engine in ("zero1", "zero2", "reference"):
        starts = []
        for step, place in zip((4, 7, 10), rng.sample(OF_A_SAVE, 3), strict=True):
            first, second = rng.sample(["term", "int", "usr2"], 2)
            starts.append(Start(f"step@{step}#0={first}, {place}@{step}#0={second}", exits=STOPPED))
        yield Scenario(
            "second signal during a save", engine, tuple(starts), engine_overrides(engine), is_quick=engine == "zero1"
        )


_NUMBERS = {"term": signal.SIGTERM, "int": signal.SIGINT, "usr2": signal.SIGUSR2}


def _stopped_and_hung(rng: random.Random) -> Iterator[Scenario]:
    for engine, seconds, rank in (("zero2", 10, 1), ("zero3", 3, 0), ("reference", 3, 1)):
        place = f"{rng.choice(IN_A_STEP)}@{rng.randint(2, 12)}#{rank}"
        struck = Start(f"{place}=stop", outside=_continue_after(rank, seconds), exits=(EXIT_FINISHED,))
        yield Scenario(f"SIGSTOP for {seconds} s", engine, (struck,), engine_overrides(engine))
    quick = (f"train.step_timeout_seconds={STEP_DEADLINE}",)
    for number, (engine, rank) in enumerate((("zero1", 1), ("zero3", 0), ("reference", 1))):
        place = f"{rng.choice(IN_A_STEP)}@{rng.randint(5, 11)}#{rank}"
        struck = Start(f"{place}=stop", overrides=quick, deadline_seconds=STEP_DEADLINE)
        yield Scenario("SIGSTOP for ever", engine, (struck,), engine_overrides(engine), is_quick=number == 0)
    for engine, place in (
        ("zero1", f"backward@{rng.randint(5, 11)}#1"),
        ("zero2", f"accumulate@{rng.randint(5, 11)}#0"),
        ("zero3", "save.write@6#1"),
        ("reference", "evaluate#1"),
        ("zero1", "fetch#0"),
        ("zero2", "shutdown#1"),
    ):
        deadline = START_DEADLINE if place.startswith("fetch") else STEP_DEADLINE
        early = f"train.start_timeout_seconds={START_DEADLINE}"
        struck = Start(f"{place}=hang", overrides=(*quick, early), deadline_seconds=deadline)
        yield Scenario(
            "hang on one rank", f"{engine} {place}", (struck,), engine_overrides(engine), is_quick=place == "evaluate#1"
        )
    for place in ("rendezvous#1", "rendezvous#0", "import#1"):
        struck = Start(
            f"{place}=hang",
            overrides=(f"train.start_timeout_seconds={START_DEADLINE}",),
            deadline_seconds=START_DEADLINE,
        )
        yield Scenario("hang at the start", place, (struck,), engine_overrides("zero1"))
    struck = Start(
        f"forward@{rng.randint(5, 11)}#1=hang",
        overrides=quick,
        deadline_seconds=STEP_DEADLINE,
        through_launcher=True,
        says="missed a deadline",
    )
    yield Scenario("hang on one rank", "zerostream train", (struck,), engine_overrides("zero1"))


def _raised(rng: random.Random) -> Iterator[Scenario]:
    for engine, precision, rank in (
        ("zero0", "bf16", 0),
        ("zero1", "fp32", 1),
        ("zero3", "bf16", 1),
        ("reference", "fp32", 0),
    ):
        starts = _everywhere(rng, "raise", rank)
        yield Scenario(
            "exception on one rank",
            f"{engine} {precision} rank {rank}",
            tuple(replace(start, says="failpoint") for start in starts),
            engine_overrides(engine, precision),
            is_quick=engine == "zero1",
        )
    struck = Start("fetch#1=eio", exits=(EXIT_FAILED, EXIT_REFUSED))
    yield Scenario("input/output error while reading a shard", "zero1", (struck,), engine_overrides("zero1"))
    struck = Start(f"backward@{rng.randint(3, 11)}#1=raise", says="failpoint", through_launcher=True)
    yield Scenario("exception on one rank", "zerostream train", (struck,), engine_overrides("zero1"))


def _bad_shards(rng: random.Random) -> Iterator[Scenario]:
    def refused(what: damage.Damage, says: str = r"train-\d{6}\.tar") -> Start:
        return Start(before=what, exits=(EXIT_REFUSED,), says=says)

    for number, (name, breaks) in enumerate(damage.SHARD_DAMAGES.items()):
        again = Start(f"forward@{rng.randint(4, 6)}#1=kill", repair=damage.restore_shards, exits=(EXIT_FAILED,))
        starts = (refused(damage.to_shards(breaks)), again, refused(damage.to_shards(breaks)))
        repaired = replace(UNDISTURBED, repair=damage.restore_shards)
        engine = ("zero1", "zero2", "zero3")[number % 3]
        yield Scenario(
            f"shard {name}",
            engine,
            starts,
            engine_overrides(engine),
            finish=repaired,
            is_quick=name in ("bit-flipped", "missing"),
        )
        skipping = (*engine_overrides(engine), "data.on_bad_shard=skip")
        struck = Start(f"{rng.choice(IN_A_STEP)}@{rng.randint(7, 11)}#{number % 2}=kill", exits=(EXIT_FAILED,))
        yield Scenario(
            f"shard {name}, skipped", engine, (struck,), skipping, shards=name, is_quick=name == "zero-tailed"
        )
    extra = refused(damage.to_shards(damage.add_shard), says=r"train-\d{6}\.tar is not in the manifest")
    repaired = replace(UNDISTURBED, repair=damage.restore_shards)
    yield Scenario("shard the manifest does not know", "zero1", (extra,), engine_overrides("zero1"), finish=repaired)
    begun = Start(overrides=("train.stop_at_step=5",), exits=STOPPED)
    changed = refused(
        damage.to_shards(damage.change_shard_list), says="other shards|shard list|data_fingerprint|trained on"
    )
    for engine in ("zero1", "reference"):
        yield Scenario("shard list changed on resume", engine, (begun, changed), engine_overrides(engine),
                       finish=replace(UNDISTURBED, repair=damage.restore_shards), is_quick=engine == "zero1")  # fmt: skip


def _bad_checkpoints(rng: random.Random) -> Iterator[Scenario]:
    kinds: dict[str, damage.Damage] = {
        "checkpoint file missing": damage.lose_fragment,
        "checkpoint file truncated": damage.truncate_fragment,
        "checkpoint file with a flipped bit": damage.flip_bit_of_fragment,
        "checkpoint manifest missing": damage.lose_manifest,
        "checkpoint manifest truncated": damage.truncate_manifest,
        "stale temporary checkpoint": damage.leave_temporary_folder,
        "two newest checkpoints bad": damage.break_two_newest,
        "manifest of an older checkpoint": damage.take_older_manifest,
    }
    for number, (kind, breaks) in enumerate(kinds.items()):
        engine, precision = SETUPS[(3 * number + 2) % len(SETUPS)]
        stops = (7, rng.choice([9, 10]), 11)
        starts = tuple(
            Start(before=breaks if index else None, overrides=(f"train.stop_at_step={stop}",), exits=STOPPED)
            for index, stop in enumerate(stops)
        )
        finish = Start(before=breaks, exits=(EXIT_FINISHED,))
        yield Scenario(
            kind, f"{engine} {precision}", (*starts, finish), engine_overrides(engine, precision), damages_checkpoints=True,
            is_quick=number in (2, 6),
        )  # fmt: skip
    begun = Start(overrides=("train.stop_at_step=9",), exits=STOPPED)
    for name, breaks in (
        ("manifest alone", damage.take_manifest_of(OTHER_RUN)),
        ("whole", damage.take_checkpoint_of(OTHER_RUN)),
    ):
        struck = Start(before=breaks, exits=(EXIT_REFUSED,), says="belongs to another run")
        yield Scenario(
            "checkpoint of another run", name, (begun, struck), damages_checkpoints=True,
            finish=replace(UNDISTURBED, repair=damage.remove_newest),
        )  # fmt: skip


def _not_finite(rng: random.Random) -> Iterator[Scenario]:
    kinds = {
        "NaN loss": "loss@{}=nan",
        "infinite loss": "loss@{}=inf",
        "NaN in one micro-batch of one rank": "loss@{}#1=nan",
        "NaN in one rank's gradients": "gradient@{}#0=nan",
    }
    for number, (kind, pattern) in enumerate(kinds.items()):
        for engine, precision in SETUPS[number % 2 :: 2]:
            fault = pattern.format(rng.randint(2, 6))
            killed = f"{rng.choice(IN_A_STEP)}@{rng.randint(10, 12)}#{rng.randint(0, 1)}=kill"
            yield Scenario(
                kind,
                f"{engine} {precision}",
                (Start(f"{fault}, {killed}", records="left_out"),),
                engine_overrides(engine, precision),
                golden_failpoints=fault,
                is_quick=(number, engine) in ((0, "zero3"), (3, "zero1")),
            )
    for engine in ("zero1", "zero3", "reference"):
        first = rng.randint(7, 8)
        faults = ", ".join(f"loss@{step}#{rng.randint(0, 1)}=nan" for step in range(first, first + 4))
        yield Scenario(
            "four steps in a row not finite",
            engine,
            (Start(faults, exits=(EXIT_FAILED,), says="in a row", records="left_out", learns_otherwise=True),),
            (*engine_overrides(engine), "checkpoint.every_steps=6"),
            is_quick=engine == "zero1",
        )


def _bad_storage(rng: random.Random) -> Iterator[Scenario]:
    names = {
        "enospc": "no space for a checkpoint",
        "erofs": "checkpoints read-only",
        "eio": "input/output error in a save",
    }
    for number, (action, kind) in enumerate(names.items()):
        for rank, places in ((1, WRITES), (0, WRITES + OF_A_SAVE_ON_RANK_0)):
            engine = ("zero1", "zero2", "zero3", "reference", "zero0", "zero1")[2 * number + rank]
            # Each start goes on beyond the save that fails, and saves when it is stopped.
            starts = tuple(
                Start(
                    f"{place}@{step}#{rank}={action}",
                    overrides=(f"train.stop_at_step={step + 1}",),
                    exits=STOPPED,
                    records="save_failed",
                )
                for place, step in zip(places, (2, 4, 6, 8, 10), strict=False)
            )
            at_the_end = Start(
                f"{rng.choice(WRITES)}@12#{rank}={action}", exits=(EXIT_REFUSED,), says="cannot be written"
            )
            yield Scenario(
                kind,
                f"{engine} rank {rank}",
                (*starts, at_the_end),
                (*engine_overrides(engine), "checkpoint.every_steps=2"),
                is_quick=(number, rank) == (0, 0),
            )
    for place, extra in (
        ("metrics.write", ()),
        ("tensorboard.write", ("logging.tensorboard=true", "logging.every_steps=1")),
    ):
        for action in ("enospc", "erofs", "eio"):
            struck = Start(f"{place}@{rng.randint(2, 11)}#0={action}", exits=(EXIT_FINISHED,))
            yield Scenario(
                f"{place.partition('.')[0]} cannot be written", action, (struck,), (*engine_overrides("zero1"), *extra),
                is_quick=(place, action) == ("metrics.write", "enospc"),
            )  # fmt: skip
    for rank in (0, 1):
        struck = Start(f"save.sync@6#{rank}=sleep:2", exits=(EXIT_FINISHED,))
        yield Scenario("slow fsync", f"rank {rank}", (struck,), engine_overrides("zero2"))


LONG = ("train.max_steps=100", "model.dropout=0.0", "checkpoint.every_steps=10", "train.eval_every_steps=50")


def _elastic(rng: random.Random) -> Iterator[Scenario]:
    def killed(ranks: int, step: int, *overrides: str) -> Start:
        victim = rng.randrange(ranks)
        return Start(f"{rng.choice(IN_A_STEP[::2])}@{step}#{victim}=kill", ranks=ranks, overrides=overrides, moves=True)

    for number, (before, after) in enumerate(itertools.permutations((1, 2, 4), 2)):
        for engine in (("zero1", "zero3"), ("zero2", "reference"))[number % 2]:
            starts = (killed(before, rng.randint(22, 50)), killed(after, rng.randint(70, 95)))
            yield Scenario(
                "another world size", f"{before} to {after} ranks, {engine}", starts, (*engine_overrides(engine), *LONG),
                finish=replace(UNDISTURBED, ranks=after), golden_ranks=before, same="close",
                is_quick=(before, after, engine) == (2, 1, "zero1"),
            )  # fmt: skip
    for engine, sizes in (("zero1", (1, 2, 4, 2, 1)), ("zero3", (4, 1, 2, 4, 1)), ("zero2", (2, 4, 1, 4, 2))):
        steps = sorted(rng.sample(range(22, 98), len(sizes) - 1))
        starts = tuple(killed(ranks, step) for ranks, step in zip(sizes, steps, strict=False))
        yield Scenario(
            "chain of world sizes", f"{engine} {sizes}", starts, (*engine_overrides(engine), *LONG),
            finish=replace(UNDISTURBED, ranks=sizes[-1]), golden_ranks=sizes[0], same="close",
        )  # fmt: skip
    for number, chain in enumerate(_walks()):
        steps = sorted(rng.sample(range(14, 58), len(chain) - 1))
        starts = tuple(killed(2, step, *ENGINES[engine]) for engine, step in zip(chain, steps, strict=False))
        overrides = ("engine.precision=fp32", "model.dropout=0.0", "train.max_steps=60", "checkpoint.every_steps=6")
        yield Scenario(
            "another stage or engine", " ".join(chain), starts, overrides, same="close", is_quick=number == 0,
            finish=replace(UNDISTURBED, overrides=ENGINES[chain[-1]]),
        )  # fmt: skip


def _walks() -> list[tuple[str, ...]]:
    """Walks that together change from each engine to each other one: for each distance, once around."""
    names = tuple(ENGINES)
    walks = []
    for distance in range(1, len(names)):
        walks.append(tuple(names[turn * distance % len(names)] for turn in range(len(names) + 1)))
    return walks


def _second_copy(rng: random.Random) -> Iterator[Scenario]:
    def start_another(scene: Scene, running: Running) -> None:
        running.wait_until_fired()
        ended = scene.start_beside()
        assert ended.exit_code == EXIT_REFUSED, f"the second copy ended with {ended.exit_code}: {ended.text[-500:]}"

    struck = Start("forward@7#0=sleep:8", outside=start_another, exits=(EXIT_FINISHED,))
    yield Scenario("second live copy", "zero1", (struck,), engine_overrides("zero1"), is_quick=True)


def _signal_launcher(number: signal.Signals) -> Outside:
    """As soon as the ranks are where the scenario wants them."""

    def act(scene: Scene, running: Running) -> None:
        running.wait_until_fired()
        assert running.launcher is not None
        os.kill(running.launcher, number)

    return act


def _continue_after(rank: int, seconds: float) -> Outside:
    def act(scene: Scene, running: Running) -> None:
        running.wait_until_fired()
        time.sleep(seconds)
        os.kill(running.pids[rank], signal.SIGCONT)

    return act
