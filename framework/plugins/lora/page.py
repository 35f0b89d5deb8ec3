"""A result as one HTML page that needs nothing beside it: pictures are inside, for a light and for a dark screen."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from framework.plugins.lora.plots import DARK, LIGHT
from framework.plugins.lora.wording import (
    COMPARISON_HEADER,
    PER_CLASS_HEADER,
    comparison_rows,
    describe_name,
    folds_rows,
    headline,
    is_leaky,
    leakage_sentences,
    memory_sentence,
    parameters_sentence,
    per_class_rows,
)

_HOW_TO_READ = """Brackets are 95% intervals from a bootstrap: how far a score would move on other test examples of the same
kind, with the model as it is. Macro-F1 is the mean over the classes, each counted alike. The error in years is between the
predicted and the true minimum age. The calibration error is the mean gap between how sure the model is and how often it is
right. The look-up knows the training texts by heart and nothing else."""

_STYLE = f"""
:root {{ color-scheme: light dark; --paper: {LIGHT.paper}; --ink: {LIGHT.ink}; --muted: {LIGHT.muted}; --line: {LIGHT.line};
  --accent: {LIGHT.accent}; --alarm: #b42318; --alarm-paper: #fef1f0; }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: {DARK.paper}; --ink: {DARK.ink}; --muted: {DARK.muted};
  --line: {DARK.line}; --accent: {DARK.accent}; --alarm: #ff9a8f; --alarm-paper: #33191a; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }}
h1 {{ margin: 0 0 .4rem; font-size: 1.75rem; line-height: 1.2; letter-spacing: -.01em; overflow-wrap: anywhere; }}
h2 {{ margin: 2.6rem 0 .7rem; font-size: 1.15rem; }}
p {{ margin: .5rem 0; max-width: 44rem; }}
.lead {{ font-size: 1.08rem; }}
.muted, figcaption {{ color: var(--muted); font-size: .9rem; }}
.leak {{ margin: 0 0 1.6rem; padding: .9rem 1.1rem; max-width: none; border: 1px solid var(--alarm); border-left-width: 6px;
  border-radius: 6px; background: var(--alarm-paper); color: var(--alarm); font-weight: 600; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .94rem; }}
th, td {{ padding: .42rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; white-space: normal; overflow-wrap: anywhere; }}
table.facts {{ width: auto; }}
thead th {{ color: var(--muted); font-weight: 500; font-size: .85rem; }}
tbody tr.model td {{ color: var(--accent); font-weight: 650; }}
figure {{ margin: 1.2rem 0 0; }}
img {{ display: block; max-width: 100%; height: auto; }}
.pair {{ display: flex; flex-wrap: wrap; gap: 0 1.5rem; align-items: flex-start; }}
figcaption {{ margin-top: .4rem; }}
.pair figcaption {{ max-width: 27rem; }}
"""


@dataclass(frozen=True)
class Picture:
    """One PNG file's content for a light screen, and one for a dark."""

    light: bytes
    dark: bytes


def render_page(
    title: str, result: Mapping[str, Any], *, comparison: Picture, confusion: Picture, reliability: Picture
) -> str:
    """The whole page; all text of the result is escaped."""
    folds_header, folds = folds_rows(result)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{_banner(result)}
<h1>{escape(title)}</h1>
<p class="lead">{escape(headline(result))}</p>
<h2>Beside the baselines</h2>
{_table(COMPARISON_HEADER, comparison_rows(result), first_class="model")}
{_figure(comparison, "Accuracy and macro-F1 of the model and its baselines, with 95% intervals.")}
<h2>Class by class</h2>
{_table(PER_CLASS_HEADER, per_class_rows(result))}
<div class="pair">
{_figure(confusion, "Examples by true class (row) and predicted class; the shade is the share of the row.")}
{_figure(reliability, "On the dashed line, the model is right as often as it says; bars are 95% intervals.")}
</div>
<h2>The data and its split</h2>
<p>{escape(leakage_sentences(result))}</p>
{_facts_table(result)}
{f"<h2>Fold by fold</h2>{_table(folds_header, folds)}" if folds else ""}
<h2>How to read this</h2>
<p class="muted">{escape(_HOW_TO_READ)}</p>
</body>
</html>
"""


def _banner(result: Mapping[str, Any]) -> str:
    return f'<p class="leak" role="alert">{escape(leakage_sentences(result))}</p>' if is_leaky(result) else ""


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every count there is, whatever a later version adds to it."""
    counts = {key: result[key] for key in ("train_examples", "test_examples") if key in result}
    counts |= {f"dropped: {reason}": rows for reason, rows in result.get("dropped", {}).items()}
    counts |= {
        key: value for key, value in result["leakage"].items() if type(value) is int
    }  # neither shares nor is_leaky
    facts = [(describe_name(key), f"{value:,}") for key, value in counts.items()]
    parameters = parameters_sentence(result)
    memory = memory_sentence(result)
    return [*facts, *((name, said) for name, said in (("training", parameters), ("memory", memory)) if said)]


def _facts_table(result: Mapping[str, Any]) -> str:
    return f'<table class="facts"><tbody>{"".join(_row("td", fact) for fact in _facts(result))}</tbody></table>'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, first_class: str = "") -> str:
    body = "".join(_row("td", row, first_class if place == 0 else "") for place, row in enumerate(rows))
    return f'<div class="wide"><table><thead>{_row("th", header)}</thead><tbody>{body}</tbody></table></div>'


def _row(tag: str, cells: Sequence[str], css_class: str = "") -> str:
    inside = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
    return f'<tr class="{css_class}">{inside}</tr>' if css_class else f"<tr>{inside}</tr>"


def _figure(picture: Picture, caption: str) -> str:
    light, dark = (f"data:image/png;base64,{base64.b64encode(png).decode()}" for png in (picture.light, picture.dark))
    width = int.from_bytes(picture.light[16:20]) // 2  # of PNG's header; two dots a pixel are sharp on dense screens
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" width="{width}" alt="{escape(caption)}"></picture>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
