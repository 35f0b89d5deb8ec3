"""Decision 0011 as a table: every combination of facts, and the few that a person would think of."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from framework.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_REFUSED
from launch.slurm.context import Start
from launch.slurm.decision import Facts, decide, has_ended, starts_in_vain
from launch.slurm.history import Event

KILLED = 137
CODES = (None, EXIT_FINISHED, EXIT_FAILED, EXIT_REFUSED, EXIT_PREEMPTED, KILLED, 143, 127)
SAVED = Facts(
    exit_code=EXIT_PREEMPTED,
    step_before=10,
    step_now=20,
    in_vain=0,
    most_in_vain=3,
    may_requeue=True,
    is_resumable=True,
)


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        (SAVED, "requeue"),
        (replace(SAVED, may_requeue=False), "follow_up"),
        (replace(SAVED, exit_code=EXIT_FINISHED), "end"),
        (replace(SAVED, exit_code=EXIT_REFUSED), "end"),
        (replace(SAVED, exit_code=EXIT_FAILED), "requeue"),
        (replace(SAVED, exit_code=KILLED), "requeue"),
        # The first checkpoint is progress; none at all is not.
        (replace(SAVED, step_before=None, step_now=5, in_vain=2), "requeue"),
        (replace(SAVED, step_before=None, step_now=None, in_vain=2), "give_up"),
        # Without progress, so often and no oftener.
        (replace(SAVED, step_now=10, in_vain=1), "requeue"),
        (replace(SAVED, step_now=10, in_vain=2), "give_up"),
        (replace(SAVED, step_now=10, most_in_vain=1), "give_up"),
        (replace(SAVED, in_vain=99), "requeue"),
        # A checkpoint that was removed is not progress.
        (replace(SAVED, step_now=5, in_vain=2), "give_up"),
        (replace(SAVED, step_now=None, in_vain=2), "give_up"),
        # Who asked for the end, and who has requeued already.
        (replace(SAVED, was_cancelled=True), "cancelled"),
        (replace(SAVED, was_cancelled=True, exit_code=EXIT_FAILED, in_vain=2, step_now=10), "cancelled"),
        (replace(SAVED, slurm_requeues=True), "leave"),
        (replace(SAVED, slurm_requeues=True, step_now=10, in_vain=2), "leave"),
        (replace(SAVED, slurm_requeues=True, exit_code=EXIT_FINISHED), "end"),
        # The user wants it to stop here; going on from here is another matter.
        (replace(SAVED, stop_at_step=20), "stop"),
        (replace(SAVED, stop_at_step=30), "requeue"),
        (replace(SAVED, stop_at_step=20, step_before=20), "requeue"),
        (replace(SAVED, stop_at_step=20, exit_code=EXIT_FAILED), "requeue"),
        (replace(SAVED, stop_at_step=20, was_cancelled=True), "cancelled"),
        # A benchmark has nothing to go on from.
        (replace(SAVED, is_resumable=False), "end"),
        (replace(SAVED, is_resumable=False, slurm_requeues=True), "leave"),
    ],
)
def test_what_comes_after_a_start(facts: Facts, action: str) -> None:
    assert decide(facts).action == action


def every_fact() -> list[Facts]:
    steps = (None, 10, 20)
    flags = (False, True)
    return [
        Facts(code, before, now, in_vain, 3, requeue, resumable, cancelled, slurm)
        for code, before, now, in_vain, requeue, resumable, cancelled, slurm in itertools.product(
            CODES, steps, steps, range(4), flags, flags, flags, flags
        )
    ]


def test_nothing_is_tried_for_ever_and_nothing_that_advances_is_given_up() -> None:
    for facts in every_fact():
        decision = decide(facts)
        advanced = facts.step_now is not None and (facts.step_before is None or facts.step_now > facts.step_before)
        goes_on = decision.action in ("requeue", "follow_up")
        if goes_on:
            assert advanced or facts.in_vain + 1 < facts.most_in_vain, facts
            assert facts.exit_code not in (EXIT_FINISHED, EXIT_REFUSED), facts
            assert not facts.was_cancelled, facts
            assert decision.action == ("requeue" if facts.may_requeue else "follow_up"), facts
            assert not decision.is_excused, facts
        if decision.action == "give_up":
            assert not advanced, facts
        assert decision.is_excused == (decision.action == "leave"), facts
        assert decision.reason, facts


def test_a_refusal_says_what_rank_0_said() -> None:
    refused = replace(SAVED, exit_code=EXIT_REFUSED)
    assert decide(replace(refused, last_words="no shards. To fix it: prepare")).reason == (
        "refused: no shards. To fix it: prepare"
    )
    assert decide(refused).reason.startswith("refused: config, input or machine do not fit")


def test_a_users_cancel_is_always_heard() -> None:
    assert {decide(facts).action for facts in every_fact() if facts.was_cancelled} == {"cancelled"}


def test_the_reason_says_what_happened_and_how_far_it_came() -> None:
    assert decide(SAVED).reason == "saved and wants to go on, after progress to step 20"
    killed = decide(replace(SAVED, exit_code=KILLED, step_now=10, in_vain=2, slurm_reason="TimeLimit"))
    assert killed.reason == (
        "killed by SIGKILL (TimeLimit), without a newer checkpoint (3 of at most 3 such starts in a row)"
    )


# --- Counting starts in vain ---


def started(restart: int, step: int | None, job: str = "7") -> Event:
    return Event(time=0, event="started", job_id=job, restart=restart, step=step)


def ended(restart: int, step: int | None, *, kind: str = "requeued", job: str = "7", is_excused: bool = False) -> Event:
    values = {"time": 0, "event": kind, "job_id": job, "restart": restart, "step": step, "is_excused": is_excused}
    return Event.model_validate(values)


SUBMITTED = Event(time=0, event="submitted", job_id="7")


@pytest.mark.parametrize(
    ("events", "count"),
    [
        ([], 0),
        ([SUBMITTED], 0),
        ([SUBMITTED, started(0, None)], 0),
        ([SUBMITTED, started(0, None), ended(0, None)], 1),
        ([SUBMITTED, started(0, None), ended(0, 5)], 0),
        ([SUBMITTED, started(0, None), ended(0, None), started(1, None), ended(1, None)], 2),
        ([SUBMITTED, started(0, None), ended(0, None), started(1, None), ended(1, 5)], 0),
        ([SUBMITTED, started(0, 5), ended(0, 5), started(1, 5), ended(1, 5, is_excused=True)], 1),
        # Died with the batch script: the next start's step tells.
        ([SUBMITTED, started(0, None), started(1, None)], 1),
        ([SUBMITTED, started(0, None), started(1, None), started(2, None)], 2),
        ([SUBMITTED, started(0, None), started(1, 5)], 0),
        ([SUBMITTED, started(0, 5), started(1, 5), ended(1, 10)], 0),
        # Saved after the end had been written down, as when the batch script was killed first.
        ([SUBMITTED, started(0, 5), ended(0, 5), started(1, 10)], 0),
        ([SUBMITTED, started(0, 5), ended(0, 5), started(1, 10), ended(1, 10)], 1),
        # Another job of the same run: a follow-up goes on counting, a submission by the user does not.
        ([SUBMITTED, started(0, 5), ended(0, 5, kind="followed_up"), started(0, 5, "8"), ended(0, 5, job="8")], 2),
        ([SUBMITTED, started(0, 5), ended(0, 5), SUBMITTED, started(0, 5, "8")], 0),
        # What belongs to no start, or to another one, does not count.
        ([SUBMITTED, started(0, 5), Event(time=0, event="excluded", job_id="7", nodes=("n1",)), ended(0, 5)], 1),
        ([SUBMITTED, started(1, 5), ended(0, 5)], 0),
    ],
)
def test_starts_in_vain(events: list[Event], count: int) -> None:
    assert starts_in_vain(events) == count


def test_a_start_has_ended_when_the_history_says_so() -> None:
    events = [SUBMITTED, started(0, 5), ended(0, 10), started(1, 10)]
    assert has_ended(events, Start("7", 0))
    assert not has_ended(events, Start("7", 1))
    assert not has_ended(events, Start("8", 0))
