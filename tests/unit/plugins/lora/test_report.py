from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image as matplotlib_image
from matplotlib.figure import Figure

from framework.errors import StorageError
from framework.plugins.lora.plots import DARK, LIGHT, Theme
from framework.plugins.lora.report import (
    draw_comparison,
    draw_confusion,
    draw_reliability,
    figure_to_image,
    format_table,
    write_report,
)
from framework.plugins.lora.scores import paired_difference, score

CLASSES = ("0-2", "3-5", "6-8", "9+")
PICTURES = {"confusion": draw_confusion, "reliability": draw_reliability, "comparison": draw_comparison}
Draw = Callable[[Mapping[str, Any], Theme], Figure]


def result_of(
    *,
    classes: Sequence[str] = CLASSES,
    ages: Sequence[float] | None = (0, 3, 6, 9),
    leaky: float = 0.0,
    examples: int = 200,
) -> dict[str, Any]:
    """As ``result.json`` has it: a model, two baselines and a split."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, len(classes), examples)
    guess = (generator.dirichlet(np.ones(len(classes)), examples) + 0.2 * np.eye(len(classes))[labels]) / 1.2
    skilled = (guess + 0.4 * np.eye(len(classes))[labels]) / 1.4
    constant = np.tile(np.eye(len(classes))[0], (examples, 1))

    def scores(probabilities: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
        return score(labels, probabilities, classes=classes, class_ages=ages, ages=None, groups=None).as_dict()

    result = {
        **scores(skilled),
        "classes": list(classes),
        "baselines": {"majority": scores(constant), "tfidf_logistic_regression": scores(guess)},
        "differences": {"tfidf_logistic_regression": paired_difference(labels, skilled, guess, groups=None).as_dict()},
        "leakage": {
            "rows": 1000,
            "duplicate_rows": 37,
            "conflicting_texts": 0,
            "test_texts_in_training_fraction": leaky,
            "is_leaky": leaky > 0,
        },
        "train_examples": 800,
        "test_examples": examples,
        "dropped": {"no age": 2},
        "trainable_parameters": 2_948,
        "total_parameters": 1_247_347,
        "trained_state_bytes": 2_948 * 12,
        "full_fine_tuning_state_bytes": 1_247_347 * 12,
        "folds": [{"accuracy": 0.5, "examples": 100}, {"accuracy": 0.75, "examples": 100}],
    }
    return dict(json.loads(json.dumps(result)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of ``result_of()``."""
    folder = tmp_path_factory.mktemp("runs") / "age" / "report"
    write_report(folder, "A title", result_of())
    return folder


def written_page(folder: Path, result: Mapping[str, Any], title: str = "A title") -> str:
    return next(path for path in write_report(folder, title, result) if path.suffix == ".html").read_text()


def test_an_ensemble_is_called_one_and_its_model_stands_beside_it(tmp_path: Path) -> None:
    """Nobody may take its score for the model's."""
    result = result_of()
    alone = {**result["baselines"]["majority"], "differences": {}}
    result |= {"ensemble": {"with": ["tfidf_logistic_regression"], "model_weight": 0.25}, "model_alone": alone}
    said = (
        "An ensemble: class probabilities are 25% the model's, the rest those of TF-IDF + logistic regression fitted to the same "
        f"training rows. The model alone has {alone['accuracy']:.1%}"
    )
    table = format_table(result)
    for text in (table, " ".join(Texts(written_page(tmp_path, result)).texts)):
        assert said in text
        assert "On the same examples the ensemble is" in text
        assert 0 < text.index("the ensemble ") < text.index("this model alone")
    assert "ensemble" not in format_table(result_of())


class Texts(HTMLParser):
    """What a reader sees, and that every tag which was opened is closed."""

    VOID = frozenset({"meta", "img", "source"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


def texts_in(page: str) -> str:
    return " ".join(" ".join(Texts(page).texts).split())


# --- The folder ---


def test_the_folder_holds_the_page_and_three_pictures_and_nothing_else(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["comparison.png", "confusion.png", "reliability.png", "report.html"]
    for path in folder.glob("*.png"):
        assert min(matplotlib_image.imread(path).shape[:2]) > 300


def test_writing_again_replaces_what_was_there_with_the_same_bytes(folder: Path) -> None:
    first = {path: path.read_bytes() for path in folder.iterdir()}
    (folder / "report.html").write_text("half a pa")
    assert {path: path.read_bytes() for path in write_report(folder, "A title", result_of())} == first


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_report(tmp_path / "file" / "report", "A title", result_of())


def test_nothing_is_written_when_the_result_cannot_be_drawn(tmp_path: Path) -> None:
    result = result_of()
    del result["confusion"]
    with pytest.raises(KeyError, match="confusion"):
        write_report(tmp_path / "report", "A title", result)
    assert not (tmp_path / "report").exists()


# --- The page ---


def test_the_page_says_the_scores_their_intervals_and_the_baselines(folder: Path) -> None:
    result = result_of()
    said = texts_in((folder / "report.html").read_text())
    low, high = result["accuracy_ci95"]
    assert f"{result['accuracy']:.1%} [{100 * low:.1f}, {100 * high:.1f}]" in said
    assert f"{result['baselines']['majority']['macro_f1']:.3f} [" in said
    assert "the best baseline, TF-IDF + logistic regression, has" in said
    assert "points better (95% interval +" in said
    assert "more than chance explains" in said
    assert "2,948 of 1,247,347 parameters were trained (0.24%)." in said
    assert "Gradients and optimizer states took 0.03 MiB; full fine-tuning would take 14.27 MiB, 423.1 times" in said
    assert "dropped: no age 2" in said
    assert "fold accuracy examples 1 50.0% 100 2 75.0% 100" in said


def test_the_page_needs_nothing_beside_it_and_has_every_picture_twice(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    sources = re.findall(r'(?:src|srcset|href)="([^"]*)"', page)
    assert len(sources) == 6
    assert len(set(sources)) == 6
    for source in sources:
        head, content = source.split(",")
        assert head == "data:image/png;base64"
        assert matplotlib_image.imread(io.BytesIO(base64.b64decode(content))).ndim == 3
    assert "url(" not in page
    assert "script" not in Texts(page).tags


def test_a_leaky_split_is_announced_before_everything_else(tmp_path: Path) -> None:
    page = written_page(tmp_path, result_of(leaky=1.0))
    assert texts_in(page).startswith(
        "A title LEAKY SPLIT: 100.0% of the test texts were also trained on"
    )  # <title> first
    assert page.index('role="alert"') < page.index("<h1>")


def test_a_clean_split_has_no_banner_and_says_that_nothing_leaks(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert 'role="alert"' not in page
    assert "No leak: none of the test texts was also trained on. 37 rows repeat" in texts_in(page)


@pytest.mark.parametrize(("share", "said"), [(1e-5, "0.0010%"), (0.99999, "99.9990%"), (0.25, "25.0%")])
def test_a_small_leak_is_not_rounded_away_nor_a_large_one_up(share: float, said: str) -> None:
    assert format_table(result_of(leaky=share)).startswith(f"LEAKY SPLIT: {said} of the test texts")


def test_what_a_file_or_a_config_names_cannot_become_markup(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>&'
    result = result_of(classes=(evil, "$x^2$", "[bold]b[/bold]", "'\"><img src=x>"))
    result["baselines"][evil] = result["baselines"]["majority"]
    result["dropped"] = {evil: 3}
    page = written_page(tmp_path, result, title=evil)
    tags = Texts(page).tags
    assert "script" not in tags
    assert tags.count("img") == 3
    assert f"dropped: {evil} 3" in texts_in(page)
    assert texts_in(page).startswith(evil)


def test_a_result_without_what_is_optional_still_has_its_page_and_table(tmp_path: Path) -> None:
    result = result_of(ages=None)
    result["baselines"] = {}
    for key in (
        "differences",
        "train_examples",
        "test_examples",
        "dropped",
        "trainable_parameters",
        "total_parameters",
        "trained_state_bytes",
        "full_fine_tuning_state_bytes",
        "folds",
    ):
        del result[key]
    result["leakage"] = {"test_texts_in_training_fraction": 0.0}
    said = texts_in(written_page(tmp_path, result))
    assert "Fold by fold" not in said
    assert "parameters" not in said
    assert "Gradients" not in said
    assert format_table(result).splitlines()[-1] == "No leak: none of the test texts was also trained on."


def test_scores_of_one_group_are_shown_without_an_interval(tmp_path: Path) -> None:
    result = result_of(examples=1)
    assert result["accuracy_ci95"] is None
    assert "[" not in format_table(result)
    assert "[" not in texts_in(written_page(tmp_path, result)).split("How to read")[0]


# --- The pictures ---


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_as_tensorboard_takes_it_and_on_the_themes_paper(draw: Draw, theme: Theme) -> None:
    figure = draw(result_of(), theme)
    picture = figure_to_image(figure)
    width, height = (figure.get_size_inches() * figure.dpi).round()
    assert (picture.shape, picture.dtype) == ((height, width, 3), np.uint8)
    assert "#{:02x}{:02x}{:02x}".format(*picture[0, 0]) == theme.paper
    assert picture.std() > 5


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_no_text_is_cut_off_at_the_edge_of_a_picture(draw: Draw) -> None:
    long = tuple(f"a class with a rather long name, number {i}" for i in range(12))
    for result in (result_of(), result_of(classes=long, ages=None)):
        picture = figure_to_image(draw(result, LIGHT))
        paper = picture[0, 0]
        for edge in (picture[:2], picture[-2:], picture[:, :2], picture[:, -2:]):
            assert (edge == paper).all()


def test_every_count_of_the_confusion_matrix_can_be_read() -> None:
    result = result_of()
    (axes,) = draw_confusion(result).axes
    read = [int(text.get_text().split("\n")[0]) for text in axes.texts]
    assert read == [count for row in result["confusion"] for count in row]


def test_dots_of_the_reliability_plot_are_the_bins_that_hold_examples() -> None:
    result = result_of()
    upper, lower = draw_reliability(result).axes
    dots = next(np.asarray(line.get_xydata()) for line in upper.lines if line.get_marker() == "o")
    assert dots.tolist() == [[each["confidence"], each["accuracy"]] for each in result["reliability"] if each["count"]]
    assert [bar.get_height() for bar in lower.patches] == [each["count"] for each in result["reliability"]]  # type: ignore[attr-defined]


def test_the_model_stands_above_its_baselines_in_another_colour() -> None:
    left, _ = draw_comparison(result_of()).axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == ["TF-IDF + logistic regression", "majority", "this model"]
    colours = [bar.get_facecolor() for bar in left.patches]
    assert colours[0] == colours[1] != colours[2]


# --- The terminal ---


def test_the_table_shows_the_model_its_baselines_and_every_class() -> None:
    result = result_of()
    lines = format_table(result).splitlines()
    (model,) = (line for line in lines if line.startswith("this model"))
    assert f"{result['mean_absolute_error_years']:.2f} [" in model
    assert f"{result['expected_calibration_error']:.3f}" in model
    starts = [line.split("  ")[0] for line in lines]
    assert {"majority", "TF-IDF + logistic regression", *CLASSES} <= set(starts)


def test_a_class_name_cannot_command_the_terminal_or_break_the_table() -> None:
    plain = format_table(result_of(classes=("a?b?c", "d", "[red]e[/red]", "g"), ages=None))
    evil = format_table(result_of(classes=("a\x1bb\nc", "d", "[red]e[/red]", "g"), ages=None))
    assert "\x1b" not in evil
    assert "[red]e[/red]" in evil
    assert evil == plain.replace("a?b?c", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c")


def test_a_model_that_does_not_beat_its_baseline_is_said_not_to() -> None:
    result = result_of()
    result["differences"]["tfidf_logistic_regression"] |= {
        "accuracy_difference": -0.012,
        "accuracy_difference_ci95": [-0.04, 0.016],
    }
    assert (
        "the model is 1.2 points worse (95% interval -4.0 to +1.6), too little for this test set to tell from none."
        in format_table(result)
    )
