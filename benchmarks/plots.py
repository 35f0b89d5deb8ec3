"""Pictures of the results: bars with quartiles, ours in colour; and what was predicted against what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.report import PLOTS, PREDICTED, TABLES

Record = Mapping[str, Any]
_OURS, _OTHERS = "#d95f02", "#7570b3"
_VALUES = {"prepare": ("megabytes_per_second", "MB/s"), "peers_tokenizers": ("megabytes_per_second", "MB/s")}
_LOGARITHMIC = ("loader", "peers_loaders")
_GOALS = {"memory": 0.05, "planned_speed": 0.15}


def draw_all(records: Sequence[Record], folder: Path) -> list[Path]:
    """One picture a question that was measured; returns what was written."""
    written = []
    for question in PLOTS:
        mine = [record for record in records if record["question"] == question]
        if question in PREDICTED:
            predicted = [record for record in mine if "error" in record["values"]]
            if predicted:
                written.append(_draw_predictions(question, predicted, folder / f"{question}.png"))
            continue
        name, unit = _VALUES.get(question, ("tokens_per_second", "tokens/s"))
        measured = [record for record in mine if _has_spread(record["values"].get(name))]
        if measured:
            written.append(_draw_bars(question, measured, name, unit, folder / f"{question}.png"))
    return written


def _draw_bars(question: str, records: Sequence[Record], name: str, unit: str, path: Path) -> Path:
    label = TABLES[question][0][1]
    labels = [label(record) for record in records]
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


def _draw_predictions(question: str, records: Sequence[Record], path: Path) -> Path:
    """A point a run; on the line, it is as predicted, and in the band within the goal."""
    predicted_name, measured_name, scale, unit = PREDICTED[question]
    goal = _GOALS[question]
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for words, colour, among in (
        ("", _OURS, [record for record in records if not record["values"].get("calibrates")]),
        ("used in the fit", _OTHERS, [record for record in records if record["values"].get("calibrates")]),
    ):
        measured = [scale * _number(record["values"][measured_name]) for record in among]
        predicted = [scale * record["values"][predicted_name] for record in among]
        if among:
            axes.scatter(measured, predicted, s=22, color=colour, label=words or None, zorder=3)
    low, high = axes.get_xlim()
    ends = [max(low, 0), high]
    axes.plot(ends, ends, color="#333333", lw=1)
    axes.fill_between(ends, [(1 - goal) * x for x in ends], [(1 + goal) * x for x in ends], color="#dddddd", zorder=0)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_xlabel(f"measured, {unit}")
    axes.set_ylabel("predicted")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{question.replace('_', ' ')}; grey: within {goal:.0%}", loc="left")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    return path


def _has_spread(value: Any) -> bool:
    return isinstance(value, Mapping) and {"median", "quartiles"} <= value.keys()


def _number(value: Any) -> float:
    return float(value["median"] if isinstance(value, Mapping) else value)
