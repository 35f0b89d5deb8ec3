from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from framework.metrics.tensorboard import TensorBoard

LimitFiles = Callable[[int], AbstractContextManager[None]]


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance=STORE_EVERYTHING_SIZE_GUIDANCE)
    return events.Reload()


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(name)]


def write(folder: Path, steps: range, value: float, resume_step: int = 0) -> None:
    board = TensorBoard(folder, resume_step=resume_step)
    for step in steps:
        board.scalars(step, {"train/loss": value, "speed/step_seconds": value / 2})
    board.close()


def test_scalars_come_back(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4), 0.5)
    assert curve(tmp_path, "train/loss") == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert curve(tmp_path, "speed/step_seconds") == [(1, 0.25), (2, 0.25), (3, 0.25)]


@pytest.mark.parametrize("resume_step", [0, 1, 4])
def test_a_resumed_run_continues_one_curve(tmp_path: Path, resume_step: int) -> None:
    write(tmp_path, range(1, 8), 0.5)
    write(tmp_path, range(resume_step + 1, 10), 2.0, resume_step=resume_step)
    expected = [(step, 0.5 if step <= resume_step else 2.0) for step in range(1, 10)]
    assert curve(tmp_path, "train/loss") == expected


def test_texts_keep_their_lines(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, resume_step=0)
    board.text(3, "stories/0", "Once\nupon")
    board.close()
    (event,) = read(tmp_path).Tensors("stories/0/text_summary")
    assert event.step == 3
    assert event.tensor_proto.string_val[0].decode() == "Once  \nupon"


def test_hyper_parameters_and_their_metrics_come_back(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, resume_step=0)
    board.scalars(1, {"train/loss": 0.5})
    board.hyper_parameters({"optimizer.lr": 0.001, "model.architecture": "gpt2", "seed": 3}, {"final/loss": 1.5})
    board.close()
    events = read(tmp_path)
    content = events.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    stored = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert stored["optimizer.lr"].number_value == 0.001
    assert stored["model.architecture"].string_value == "gpt2"
    assert stored["seed"].number_value == 3
    assert [event.value for event in events.Scalars("final/loss")] == [1.5]
    assert [event.step for event in events.Scalars("train/loss")] == [1]


# --- A disk that refuses ---


def test_on_a_disk_without_space_points_wait_and_the_curve_is_whole(
    tmp_path: Path, limit_files: LimitFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    board = TensorBoard(tmp_path, resume_step=0)
    with limit_files(600):
        for step in range(1, 40):
            board.scalars(step, {"train/loss": 1.0 / step})
        shown = [step for step, _ in curve(tmp_path, "train/loss")]  # whole records alone: it can be read all the time
        assert shown == list(range(1, len(shown) + 1))
        assert 2 < len(shown) < 30
    board.scalars(40, {"train/loss": 1.0 / 40})
    board.close()
    assert curve(tmp_path, "train/loss") == [(step, pytest.approx(1.0 / step)) for step in range(1, 41)]
    warning, relief = capsys.readouterr().err.splitlines()
    assert "events.out.tfevents" in warning
    assert f"{39 - len(shown)} records had waited" in relief


def test_a_folder_that_cannot_be_made_at_first_holds_the_whole_curve_later(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    folder.write_text("in the way")
    board = TensorBoard(folder, resume_step=0)
    board.scalars(1, {"train/loss": 0.5})
    folder.unlink()
    board.scalars(2, {"train/loss": 0.25})
    board.close()
    assert curve(folder, "train/loss") == [(1, 0.5), (2, 0.25)]


@pytest.mark.parametrize("place", ["tensorboard.write", "tensorboard.write@2"])
def test_a_fault_at_one_write_costs_nothing(tmp_path: Path, arm: Callable[[str], None], place: str) -> None:
    arm(f"{place}=enospc")
    write(tmp_path, range(1, 4), 0.5)
    assert curve(tmp_path, "train/loss") == [(1, 0.5), (2, 0.5), (3, 0.5)]


def test_a_disk_that_stays_full_ends_nothing(tmp_path: Path, limit_files: LimitFiles) -> None:
    threads = threading.active_count()
    with limit_files(0):
        board = TensorBoard(tmp_path, resume_step=0)
        board.scalars(1, {"train/loss": 0.5})
        board.text(1, "stories/0", "Once")
        board.hyper_parameters({"seed": 3}, {"final/loss": 0.5})
        board.close()
    assert threading.active_count() == threads
