from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from framework.errors import ConfigError
from framework.run_dir import RunDir
from launch.slurm.arrays import compare_tasks, task_has_ended
from launch.slurm.comparison import JSON_NAME, MARKDOWN_NAME
from launch.slurm.job import JobDir
from launch.slurm.status import look_at
from launch.slurm.sweep import array_tasks, parameters_of, sweep_tasks
from tests.unit.launch.slurm.conftest import write_steps

MakeRun = Callable[..., JobDir]


def test_every_combination_is_a_task() -> None:
    assert sweep_tasks(["optimizer.lr=1e-4,3e-4", "seed=1,2"]) == (
        ("optimizer.lr=1e-4", "seed=1"),
        ("optimizer.lr=1e-4", "seed=2"),
        ("optimizer.lr=3e-4", "seed=1"),
        ("optimizer.lr=3e-4", "seed=2"),
    )


def test_commas_inside_brackets_and_quotes_belong_to_a_value() -> None:
    assert sweep_tasks(["model.overrides={a: 1, b: 2},{a: 3}"]) == (
        ("model.overrides={a: 1, b: 2}",),
        ("model.overrides={a: 3}",),
    )
    assert sweep_tasks(["train.sample_prompts=['Once, long ago', \"x\"],[]"])[0] == (
        "train.sample_prompts=['Once, long ago', \"x\"]",
    )


@pytest.mark.parametrize("sweep", ["seed", "seed=", "=1,2", "seed=1,,2", "seed=1,1", "run_dir=a,b"])
def test_what_is_no_sweep_is_refused(sweep: str) -> None:
    with pytest.raises(ConfigError, match="--sweep"):
        sweep_tasks([sweep])


def test_a_key_is_swept_once() -> None:
    with pytest.raises(ConfigError, match="seed is given 2 times"):
        sweep_tasks(["seed=1", "seed=2"])


def test_the_tasks_of_an_array() -> None:
    assert array_tasks("train", [], None) is None
    assert array_tasks("finetune", ["seed=1,2"], None) == (("seed=1",), ("seed=2",))
    assert array_tasks("prepare", [], 3) == (("--part=1/3",), ("--part=2/3",), ("--part=3/3",))
    with pytest.raises(ConfigError, match="--tasks 3 with --command train"):
        array_tasks("train", [], 3)
    with pytest.raises(ConfigError, match="--sweep with --command prepare"):
        array_tasks("prepare", ["seed=1,2"], None)


def test_parameters_are_the_overrides_without_the_run_directory() -> None:
    assert parameters_of(("optimizer.lr=1e-4", "run_dir=x/task-000", "--part")) == {"optimizer.lr": "1e-4"}


@pytest.fixture
def sweep(make_run: MakeRun) -> JobDir:
    tasks = tuple((f"seed={seed}",) for seed in (1, 2, 3))
    array = make_run("sweep", tasks=tasks)
    for number, loss in enumerate((3.0, 1.5)):
        task = make_run(f"sweep/task-{number:03d}", job_id=f"12_{number}", array=str(array.run), result=True)
        write_steps(RunDir(task.run), 20, loss)
        task.history.append("ended", job_id=f"12_{number}", step=20, exit_code=0)
    make_run("sweep/task-002", job_id="12_2", array=str(array.run), step=0)
    return array


def test_the_comparison_waits_for_the_last_task(sweep: JobDir, commands: Callable[..., object]) -> None:
    commands({"squeue": ("", "", 0)})
    sweep.task(2).history.append("submitted", job_id="12_2")
    task_has_ended(sweep.run)
    assert not (sweep.run / JSON_NAME).exists()
    sweep.task(2).history.append("gave_up", job_id="12_2", reason="3 starts without progress")
    task_has_ended(sweep.run)
    found = json.loads((sweep.run / JSON_NAME).read_text())
    rows = [
        (row["parameters"]["seed"], row["state"], row["validation"].get("loss"), row["step"]) for row in found["runs"]
    ]
    assert rows == [("2", "finished", 1.5, 20), ("1", "finished", 3.0, 20), ("3", "gave up", None, None)]
    page = (sweep.run / MARKDOWN_NAME).read_text().splitlines()
    assert page[2].startswith("| run | seed | state | step | validation loss | validation bits per byte |")
    assert page[4].startswith("| task-001 | 2 | finished | 20 | 1.5000 | 0.7500 |")
    assert len(page) == 7


def test_resubmitted_tasks_are_waited_for_again(sweep: JobDir, commands: Callable[..., object]) -> None:
    commands({"squeue": ("", "", 0)})
    sweep.task(2).history.append("gave_up", job_id="12_2")
    sweep.task(2).history.append("submitted", job_id="13")
    task_has_ended(sweep.run)
    assert not (sweep.run / JSON_NAME).exists()


def test_rows_hold_what_the_runs_wrote(sweep: JobDir, commands: Callable[..., object]) -> None:
    commands({"squeue": ("", "", 0)})
    rows = compare_tasks(sweep, look_at([task.run for task in sweep.tasks()]))
    assert replace(rows[0], validation={}).report() == {
        "run_dir": str(sweep.task(1).run),
        "parameters": {"seed": "2"},
        "state": "finished",
        "step": 20,
        "validation_step": 20,
        "validation": {},
        "train_loss": 1.5 + 1 / 20,
        "tokens_per_second": 1000.0,
    }
