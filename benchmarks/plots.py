"""Pictures of the results: horizontal bars, ours in colour, with quartiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.report import PLOTS, TABLES

Record = Mapping[str, Any]
_OURS, _OTHERS = "#d95f02", "#7570b3"
_VALUES = {"prepare": ("megabytes_per_second", "MB/s"), "peers_tokenizers": ("megabytes_per_second", "MB/s")}
_LOGARITHMIC = ("loader", "peers_loaders")


def draw_all(records: Sequence[Record], folder: Path) -> list[Path]:
    """One picture a question that was measured; returns what was written."""
    written = []
    for question in PLOTS:
        mine = [record for record in records if record["question"] == question]
        name, unit = _VALUES.get(question, ("tokens_per_second", "tokens/s"))
        measured = [record for record in mine if name in record["values"]]
        if measured:
            written.append(_draw_bars(question, measured, name, unit, folder / f"{question}.png"))
    return written


def _draw_bars(question: str, records: Sequence[Record], name: str, unit: str, path: Path) -> Path:
    label = TABLES[question][0][1]
    labels = [label(record) + (" cores" if question == "prepare" else "") for record in records]
    medians = [record["values"][name]["median"] for record in records]
    low, high = zip(*(record["values"][name]["quartiles"] for record in records), strict=True)
    errors = [
        [median - quartile for median, quartile in zip(medians, low, strict=True)],
        [quartile - median for median, quartile in zip(medians, high, strict=True)],
    ]
    compares = question.startswith(("peers", "loader"))
    colours = [_OURS if not compares or text.startswith("zerostream") else _OTHERS for text in labels]
    figure = Figure(figsize=(8, 1.2 + 0.34 * len(records)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.barh(labels, medians, xerr=errors, color=colours, error_kw={"ecolor": "#333333", "lw": 1})
    for row, (median, end) in enumerate(zip(medians, high, strict=True)):
        axes.annotate(f"  {median:,.4g}" if median < 1e4 else f"  {median:,.0f}", (end, row), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(unit + (", logarithmic" if question in _LOGARITHMIC else ""))
    if question in _LOGARITHMIC:
        axes.set_xscale("log")
    axes.margins(x=0.18)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(question.replace("_", ": "), loc="left")
    figure.savefig(path, dpi=120)
    return path
