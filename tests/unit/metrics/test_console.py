from __future__ import annotations

import pytest

from framework.metrics.console import Console, format_seconds
from framework.plugins.interface import StepRecord


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (14.4, "14s"),
        (59.6, "1m00s"),
        (200, "3m20s"),
        (3599.4, "59m59s"),
        (3599.6, "1h00m"),
        (3725, "1h02m"),
        (100 * 3600, "100h00m"),
    ],
)
def test_seconds_are_rounded_to_what_a_person_wants(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_in_a_log_only_due_steps_are_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.begin(10, 100)
    for step in (11, 12):
        record = StepRecord(step, 100, 2.5, 1e-3, 0.5, 0.1, 12_345.0, 0.001, 2**29, "00ff")
        console.step(record, is_due=step == 12)
    console.evaluation(12, {"loss": 2.0, "tiny": 0.5})
    console.end()
    captured = capsys.readouterr()
    step_line, evaluation_line = captured.err.splitlines()
    assert captured.out == ""
    for shown in ("12/100", "loss 2.5000", "lr 1.00e-03", "grad norm 0.50", "12,345 tokens/s", "0.50 GiB", "left"):
        assert shown in step_line
    assert "validation  loss 2.0000  tiny 0.5000" in evaluation_line


def test_a_step_that_was_left_out_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.begin(0, 10)
    console.step(StepRecord(1, 100, None, 1e-3, None, 0.1, 1e4, 0.001, 2**29, "00ff"), is_due=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert "no loss" in line
    assert "step left out" in line
