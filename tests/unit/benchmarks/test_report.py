"""Tables, plots and curves from lines of results, and the README's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.plots import draw_all
from benchmarks.records import RESULTS, summary
from benchmarks.report import TABLES, load, newest, page_of, table_of, with_tables, write_curves, write_page
from framework.errors import UserError
from tests.conftest import ROOT

ENVIRONMENT = {
    "device": "cpu",
    "cores": 2,
    "processor": "A Processor",
    "git_revision": "0123456789abcdef",
    "started_at": "2026-01-02T03:04:05Z",
    "packages": {"torch": "2.13.0"},
}


def line(reader: str, speed: float, **more: Any) -> dict[str, Any]:
    values = {"tokens_per_second": summary([speed, speed * 1.1, speed * 0.9]), **more}
    return {"question": "loader", "setting": {"reader": reader}, "values": values, "environment": ENVIRONMENT}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    lines = [
        line("zerostream", 5e7, first_batch_seconds=0.1),
        line("memory_map", 1e8, zerostream_over_it={"median": 0.5, "low": 0.4, "high": 0.6, "confidence": 0.95}),
        line("zerostream", 6e7, first_batch_seconds=0.2),
    ]
    (tmp_path / "loader.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    return tmp_path


def test_the_table_has_the_newest_line_of_each_setting(results: Path) -> None:
    table = table_of("loader", load(results))
    assert "| zerostream | 60,000,000 |  | 0.200 |" in table
    assert "50,000,000" not in table
    assert "| memory_map | 100,000,000 | 0.50x [0.40, 0.60] |" in table
    assert "2 cores of A Processor, torch 2.13.0, 2026-01-02, revision 012345678." in table


def test_what_was_not_measured_says_so(results: Path) -> None:
    assert table_of("prepare", load(results)) == "Not measured yet.\n"


def test_a_readme_has_its_marked_tables_made_anew(results: Path) -> None:
    text = "before\n<!-- benchmarks: loader -->\nold\n<!-- end -->\nafter\n"
    made = with_tables(text, load(results))
    assert "old" not in made
    assert made.startswith("before\n<!-- benchmarks: loader -->\n| reader |")
    assert made.endswith("<!-- end -->\nafter\n")
    assert with_tables(made, load(results)) == made


def test_every_question_that_was_measured_is_drawn(results: Path) -> None:
    (plot,) = draw_all(newest(load(results)), results)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_curve_has_a_point_a_measurement(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "board"
    count = write_curves(load(results), folder)
    board = EventAccumulator(str(folder))
    board.Reload()
    tags = board.Tags()["scalars"]
    assert len(tags) == count
    points = board.Scalars("loader/tokens_per_second/reader=zerostream")
    assert [(point.step, point.value) for point in points] == [(0, 5e7), (1, 6e7)]


def test_a_readme_of_something_else_stays(results: Path) -> None:
    records = load(results)
    for _ in range(2):  # its own page is made anew
        write_page(records, results)
    assert (results / "README.md").read_text() == page_of(records)
    (results / "README.md").write_text("# My project\n")
    with pytest.raises(UserError, match="is no page of results"):
        write_page(records, results)
    assert (results / "README.md").read_text() == "# My project\n"


def test_a_folder_that_is_none_is_refused(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        load(tmp_path / "nothing")
    with pytest.raises(UserError, match="is no folder"):
        write_curves(load(results), results / "loader.jsonl")


def test_a_line_of_another_form_is_told_or_passed_over(tmp_path: Path) -> None:
    odd = [{"question": "loader"}, {**line("ours", 1.0), "values": None}, {"setting": {}, "values": {}}]
    number = {**line("ours", 1.0), "values": {"tokens_per_second": 5.0}}
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(each) + "\n" for each in [*odd, number]))
    assert load(tmp_path) == [number]
    assert "| ours | 5 |" in table_of("loader", [number])
    assert draw_all([number], tmp_path) == []  # no quartiles to draw
    with pytest.raises(UserError, match="a line of loader is not as that question writes it: KeyError 'reader'"):
        table_of("loader", [{**number, "setting": {}}])


def test_the_kept_results_can_be_shown() -> None:
    records = load(RESULTS)
    assert {record["question"] for record in records} <= set(TABLES) | {"compare", "checkpoint", "published"}
    assert page_of(records) == (RESULTS / "README.md").read_text()
    readme = (ROOT / "README.md").read_text()
    assert with_tables(readme, records) == readme
