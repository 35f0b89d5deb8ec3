"""A result for people: a folder with one page and its pictures, and a table for the terminal.

A *result* is what ``result.json`` holds. Read here are

* of the model: ``classes`` (names in order) and all keys of ``Scores.as_dict()``;
* ``baselines``: by name, the same keys;
* ``leakage``: ``test_texts_in_training_fraction``, and counts such as ``duplicate_rows`` and ``conflicting_texts``;
* where they are there: ``differences`` (by baseline, ``PairedDifference.as_dict()`` of the model minus the baseline),
  ``train_examples``, ``test_examples``, ``dropped`` (rows by reason), ``trainable_parameters``, ``total_parameters``, and
  ``folds`` (a list of mappings with ``accuracy`` and whatever other numbers each fold has);
* of an ensemble: ``ensemble`` (``with``, ``model_weight``) and ``model_alone``, the keys of the model without its companions; all
  that is said of the model above is then the ensemble's;
* also where they are there: ``trained_state_bytes``, of the gradients and optimizer states of a run over its ranks, and
  ``full_fine_tuning_state_bytes``, those of full fine-tuning.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from framework.durable import storage_errors, write_durably
from framework.plugins.lora.page import Picture, render_page
from framework.plugins.lora.plots import (
    DARK,
    LIGHT,
    draw_comparison,
    draw_confusion,
    draw_reliability,
    figure_to_image,
    figure_to_png,
)
from framework.plugins.lora.wording import (
    COMPARISON_HEADER,
    PER_CLASS_HEADER,
    comparison_rows,
    headline,
    is_leaky,
    leakage_sentences,
    memory_sentence,
    parameters_sentence,
    per_class_rows,
)

__all__ = ["draw_comparison", "draw_confusion", "draw_reliability", "figure_to_image", "format_table", "write_report"]


def write_report(folder: Path, title: str, result: Mapping[str, Any]) -> list[Path]:
    """Writes ``report.html``, ``confusion.png``, ``reliability.png`` and ``comparison.png``, each whole or not at all.

    ``folder`` is made where it is missing; older files of these names are replaced. Returns their paths.

    Raises:
        StorageError: the file system refuses.
        KeyError: the result lacks a key that is always there.
    """
    pictures = {
        name: Picture(figure_to_png(draw(result, LIGHT)), figure_to_png(draw(result, DARK)))
        for name, draw in (
            ("comparison", draw_comparison),
            ("confusion", draw_confusion),
            ("reliability", draw_reliability),
        )
    }
    contents = {"report.html": render_page(title, result, **pictures).encode()}
    contents |= {f"{name}.png": picture.light for name, picture in pictures.items()}
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_durably(folder / name, content)
    return [folder / name for name in contents]


def format_table(result: Mapping[str, Any]) -> str:
    """The result as plain text for a terminal: the model beside its baselines, class by class, and what the split leaks."""
    scores = [
        headline(result),
        _format(COMPARISON_HEADER, comparison_rows(result)),
        _format(PER_CLASS_HEADER, per_class_rows(result)),
    ]
    leakage = [leakage_sentences(result)]
    parts = [*leakage, *scores] if is_leaky(result) else [*scores, *leakage]
    training = " ".join(filter(None, [parameters_sentence(result), memory_sentence(result)]))
    return "\n\n".join(filter(None, [*parts, training]))


def _format(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, name in enumerate(header):
        table.add_column(Text(name), justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))
    content = io.StringIO()
    Console(file=content, width=10_000, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in content.getvalue().strip("\n").splitlines())


def _printable(text: str) -> str:
    """A class is named by a file's author: no line ends, and no codes that a terminal obeys."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
