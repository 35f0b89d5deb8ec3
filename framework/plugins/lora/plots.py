"""Pictures of a result: PNG files, the report's page, and TensorBoard's image tab.

Figures are built without ``pyplot``, whose list of open figures is global and never freed by a long run. Every figure can be
drawn in the colours of a light or of a dark page.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from framework.plugins.lora.bootstrap import Floats
from framework.plugins.lora.wording import contestants, percent, three_digits

DOTS_PER_INCH = 160
_MOST_CLASSES_WITH_SHARES = 9
_BIN_KEYS = ("confidence", "accuracy", "count")


@dataclass(frozen=True)
class Theme:
    """Colours of one page."""

    paper: str
    ink: str
    muted: str
    line: str
    accent: str
    neutral: str


LIGHT = Theme(paper="#ffffff", ink="#1b1f24", muted="#5b6570", line="#d9dee3", accent="#1f6feb", neutral="#a9b3bd")
DARK = Theme(paper="#14181d", ink="#e8ecf0", muted="#9aa5b1", line="#333b44", accent="#5a9bff", neutral="#66717d")


def draw_confusion(result: Mapping[str, Any], theme: Theme = LIGHT) -> Figure:
    """Who is taken for whom: counts, coloured by their share of the true class (a row); right answers on the diagonal."""
    counts = np.array(result["confusion"], dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [_shortened(name) for name in result["classes"]]
    size = 2.2 + 0.7 * max(len(names), 3)
    figure = _new_figure(size + 0.8, size, theme)
    axes = figure.subplots()
    colours = LinearSegmentedColormap.from_list("share", [theme.paper, theme.accent])
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{count:,}" if len(names) > _MOST_CLASSES_WITH_SHARES else f"{count:,}\n{share:.0%}",
            color=_readable_on(colours(share), theme) if count else theme.muted,
            weight="bold" if row == column else "normal",
            fontsize=9,
            ha="center",
            va="center",
        )
    _dress(axes, theme, title="Who is taken for whom", x="predicted class", y="true class (examples)")
    is_long = max(map(len, names)) > 7
    axes.set_xticks(range(len(names)), names, rotation=40 if is_long else 0, ha="right" if is_long else "center")
    axes.set_yticks(
        range(len(names)), [f"{name} ({total:,})" for name, total in zip(names, counts.sum(1), strict=True)]
    )
    for edge in np.arange(len(names) + 1) - 0.5:
        axes.axhline(edge, color=theme.line, linewidth=1)
        axes.axvline(edge, color=theme.line, linewidth=1)
    axes.spines[:].set_visible(False)
    return figure


def draw_reliability(result: Mapping[str, Any], theme: Theme = LIGHT) -> Figure:
    """How often the model is right when it is so sure, and below, how often it is so sure.

    A dot on the dashed line is right as often as it says. The bar through a dot is the 95% interval of that bin's accuracy
    (Wilson 1927, doi:10.1080/01621459.1927.10502953): three predictions say little.
    """
    filled = [each for each in result["reliability"] if each["count"]]
    confidence, accuracy, count = (np.array([each[key] for each in filled]) for key in _BIN_KEYS)
    figure = _new_figure(5.4, 5.2, theme)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    upper.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    upper.vlines(confidence, *_wilson_95(accuracy, count), color=theme.accent, linewidth=2, alpha=0.45)
    upper.plot(confidence, accuracy, "o", color=theme.accent, markersize=6.5, markeredgecolor=theme.paper)
    upper.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    upper.xaxis.set_major_formatter(PercentFormatter(1))
    upper.yaxis.set_major_formatter(PercentFormatter(1))
    _dress(
        upper,
        theme,
        title=f"Calibration error {three_digits(result['expected_calibration_error'])}",
        y="how often right",
    )
    counts = [each["count"] for each in result["reliability"]]
    lower.bar(np.arange(len(counts)) / len(counts), counts, 0.92 / len(counts), align="edge", color=theme.neutral)
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    _dress(lower, theme, x="probability of the predicted class", y="examples")
    for axes in (upper, lower):
        axes.grid(axis="y", color=theme.line, linewidth=0.7)
    figure.align_ylabels()
    return figure


def draw_comparison(result: Mapping[str, Any], theme: Theme = LIGHT) -> Figure:
    """The model beside its baselines: accuracy and macro-F1, with 95% intervals."""
    rows = contestants(result)[::-1]  # drawn from below: the model on top
    figure = _new_figure(8.8, 1.0 + 0.5 * len(rows), theme)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_bars(left, rows, "accuracy", percent, theme)
    _draw_bars(right, rows, "macro_f1", three_digits, theme)
    left.xaxis.set_major_formatter(PercentFormatter(1))
    _dress(left, theme, title="Accuracy")
    _dress(right, theme, title="Macro-F1")
    left.set_yticks(range(len(rows)), [_shortened(name, 32) for name, _ in rows], color=theme.ink, fontsize=10)
    for axes in (left, right):
        axes.grid(axis="x", color=theme.line, linewidth=0.7)
        axes.spines["bottom"].set_visible(False)
    return figure


def figure_to_image(figure: Figure) -> npt.NDArray[np.uint8]:
    """[height, width, 3] uint8, as TensorBoard's ``add_image`` takes it with ``dataformats="HWC"``."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    image: npt.NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return image[..., :3].copy()


def figure_to_png(figure: Figure) -> bytes:
    """The picture as a PNG file's content; equal figures give equal bytes."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _draw_bars(
    axes: Axes, rows: Sequence[tuple[str, Mapping[str, Any]]], key: str, say: Callable[[float], str], theme: Theme
) -> None:
    for place, (_, scores) in enumerate(rows):
        value, interval = scores[key], scores.get(f"{key}_ci95") or (scores[key], scores[key])
        axes.barh(place, value, 0.58, color=theme.accent if place == len(rows) - 1 else theme.neutral)
        axes.errorbar(
            (interval[0] + interval[1]) / 2,
            place,
            xerr=(interval[1] - interval[0]) / 2,
            color=theme.ink,
            linewidth=1.5,
            capsize=3.5 if interval[0] < interval[1] else 0,
        )
        said = axes.text(max(value, interval[1]) + 0.025, place, say(value), va="center", fontsize=9.5, color=theme.ink)
        said.set_bbox({"facecolor": theme.paper, "linewidth": 0, "pad": 1})  # above the grid
    axes.set(xlim=(0, 1.17), xticks=np.linspace(0, 1, 6))


def _new_figure(width_inches: float, height_inches: float, theme: Theme) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)  # inches
    return Figure((width_inches, height_inches), DOTS_PER_INCH, facecolor=theme.paper, layout=layout)


def _dress(axes: Axes, theme: Theme, *, title: str = "", x: str = "", y: str = "") -> None:
    axes.set_facecolor(theme.paper)
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", color=theme.ink, fontsize=11.5, weight="bold", pad=10)
    axes.set_xlabel(x, color=theme.muted, fontsize=9.5, labelpad=6)
    axes.set_ylabel(y, color=theme.muted, fontsize=9.5, labelpad=6)
    axes.tick_params(length=0, colors=theme.muted, labelsize=9, pad=5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.line)


def _readable_on(background: tuple[float, float, float, float], theme: Theme) -> str:
    """Whichever of the theme's ink and paper has more contrast (WCAG 2, relative luminance) with ``background``."""

    def luminance(colour: str | tuple[float, float, float, float]) -> float:
        rgb = np.array(to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05

    behind = luminance(background)
    return max(theme.ink, theme.paper, key=lambda colour: abs(np.log(luminance(colour) / behind)))


def _shortened(name: str, longest: int = 22) -> str:
    """A name in one line that leaves room for the picture; ``$`` is no formula."""
    plain = " ".join(name.split())
    return (plain if len(plain) <= longest else plain[: longest - 1] + "…").replace("$", r"\$")


def _wilson_95(share: Floats, count: Floats) -> tuple[Floats, Floats]:
    """Ends of the 95% interval of each ``share`` of ``count``; both are [bins]."""
    z2 = 1.96**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = np.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) * 1.96 / (1 + z2 / count)
    return middle - half, middle + half
