from __future__ import annotations

from typing import Any

import pytest

from launch.slurm.gauges import Gauges, Heartbeats
from launch.slurm.history import Event
from launch.slurm.queue import QueuedJob
from launch.slurm.state import State, state_of_job, state_of_local_run

NOW = 1_000_000.0
ALIVE = Heartbeats(2, 1.0, 3.0, is_late=False)
LATE = Heartbeats(2, 900.0, 900.0, is_late=True)


def gauges(**known: Any) -> Gauges:
    names = Gauges.__dataclass_fields__
    return Gauges(**{**dict.fromkeys(names), "is_locked": False, **known})


def events(*names: str, **last: Any) -> list[Event]:
    made = [Event(time=NOW - 1000, event=name, job_id="12") for name in names]  # type: ignore[arg-type]
    return [*made[:-1], made[-1].model_copy(update=last)] if made else []


def job(state: str, reason: str = "None", **more: Any) -> QueuedJob:
    return QueuedJob("12", state, reason=reason, **more)


def decide(queued: QueuedJob | None, history: list[Event], found: Gauges | None = None, **more: Any) -> State:
    options = {"is_queued": True, "unreachable": None, "is_cancelled": False, "now": NOW, **more}
    return state_of_job(queued, history, found or gauges(), **options)


def test_a_new_job_is_queued_with_its_reason() -> None:
    state = decide(job("PENDING", "Resources"), events("submitted"))
    assert state == State("queued", "waits for nodes to become free (Resources)")


def test_a_job_that_has_run_before_is_requeued() -> None:
    assert decide(job("PENDING", "BeginTime"), events("submitted", "started")).name == "requeued"
    assert decide(job("PENDING"), events("submitted", "started", "followed_up", "submitted")).name == "requeued"
    assert decide(job("PENDING"), events("submitted", "started", "ended", "submitted")).name == "queued"


def test_a_running_job() -> None:
    assert decide(job("CONFIGURING"), events("submitted")).name == "starting"
    assert decide(job("RUNNING"), events("submitted", "started")).name == "starting"
    assert decide(job("RUNNING"), events("submitted", "started"), gauges(heartbeats=ALIVE)) == State("running")
    assert decide(job("SUSPENDED"), events("submitted", "started")).name == "suspended"
    wanted = decide(job("RUNNING"), events("submitted", "started"), gauges(heartbeats=ALIVE), is_cancelled=True)
    assert wanted == State("running", "was asked to save and end")


def test_a_start_that_has_ended_is_not_running_while_slurm_clears_up() -> None:
    assert decide(job("RUNNING"), events("submitted", "started", "ended", exit_code=1)).name == "failed"
    assert decide(job("COMPLETING"), events("submitted", "started", "requeued")).name == "requeued"
    asked = events("submitted", "started", "cancelled", job_id=None)
    assert decide(job("RUNNING"), asked, gauges(heartbeats=ALIVE), is_cancelled=True).name == "running"


def test_the_result_counts_when_the_job_is_over() -> None:
    done = gauges(result={"step": 20})
    assert decide(None, events("submitted", "started", "ended", exit_code=0), done).name == "finished"
    assert decide(job("COMPLETING"), events("submitted", "started"), done).name == "finished"
    assert decide(job("PENDING"), events("submitted"), done).name == "queued"  # it was resubmitted


@pytest.mark.parametrize(
    ("last", "values", "expected"),
    [
        ("ended", {"exit_code": 0}, State("finished")),
        ("ended", {"exit_code": 1, "reason": "rank 1 was killed"}, State("failed", "rank 1 was killed")),
        ("ended", {"exit_code": 1}, State("failed", "exit code 1")),
        ("gave_up", {"reason": "3 starts without gauges"}, State("gave up", "3 starts without gauges")),
        ("cancelled", {"reason": "by ada"}, State("cancelled", "by ada")),
    ],
)
def test_how_the_job_says_it_ended(last: str, values: dict[str, Any], expected: State) -> None:
    history = events("submitted", "started", last, **values)
    assert decide(None, history) == expected
    assert decide(job("FAILED", "NonZeroExitCode"), history) == expected
    assert decide(None, history, unreachable="no answer") == expected
    assert expected.is_over


def test_a_refused_start_says_where_to_read() -> None:
    assert "log" in decide(None, events("submitted", "started", "ended", exit_code=2)).reason


def test_a_cancel_is_heard_whatever_the_job_wrote_last() -> None:
    history = events("submitted", "started", "cancelled", "ended", exit_code=75)
    assert decide(None, history, is_cancelled=True).name == "cancelled"
    assert decide(job("CANCELLED"), events("submitted", "started")) == State("cancelled", "with scancel")


def test_what_slurm_says_counts_when_the_job_could_not_speak() -> None:
    assert decide(job("TIMEOUT", "TimeLimit"), events("submitted", "started")) == State(
        "failed", "SLURM says timeout: its time was up (TimeLimit)"
    )
    assert decide(job("NODE_FAIL"), events("submitted", "started")) == State("failed", "SLURM says node fail")


def test_a_job_on_its_way_back_into_the_queue_is_not_lost() -> None:
    just_now = events("submitted", "started", "requeued", time=NOW - 2)
    assert decide(job("COMPLETED"), just_now).name == "requeued"
    long_ago = events("submitted", "started", "requeued", time=NOW - 1000)
    assert decide(None, long_ago).name == "lost"


def test_nobody_knows() -> None:
    assert decide(None, events("submitted", "started")).name == "lost"
    assert decide(None, [], is_queued=False) == State("failed", "SLURM has not taken the job")


def test_without_slurm_the_heartbeats_tell() -> None:
    history = events("submitted", "started")
    assert decide(None, history, gauges(heartbeats=ALIVE), unreachable="no answer").name == "running"
    assert decide(None, history, gauges(heartbeats=LATE), unreachable="no answer").name == "unknown"
    assert decide(None, history, unreachable="no answer").name == "unknown"
    assert not decide(None, history, unreachable="no answer").is_over


def test_local_runs() -> None:
    assert state_of_local_run(gauges(is_locked=True)).name == "running"
    assert state_of_local_run(gauges(heartbeats=ALIVE)).name == "running"
    assert state_of_local_run(gauges(heartbeats=LATE, step=3)).name == "lost"
    assert state_of_local_run(gauges(result={}, step=20)).name == "finished"
    assert state_of_local_run(gauges(step=3)).name == "stopped"
    assert state_of_local_run(gauges()) == State("stopped", "before its first step")
