"""Tables and plots of the results that are kept, and curves of them over revisions.

    python -m benchmarks report                          benchmarks/results/README.md, its plots, and the tables in README.md
    python -m benchmarks report --tensorboard runs/bench one curve a setting, one point a measured revision

Reads every ``benchmarks/results/*.jsonl``. Of lines with the same question and setting the table shows the newest; the curves
show all, in the order of the file. In README.md, the table of a question stands between ``<!-- benchmarks: QUESTION -->`` and
``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.records import RESULTS, is_answer, key_of, read_records
from framework.errors import UserError

ROOT = Path(__file__).parent.parent
_TITLE = "# Results\n"
_MARKED = re.compile(r"(<!-- benchmarks: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Record = Mapping[str, Any]
Column = tuple[str, Callable[[Record], str]]


def main() -> None:
    """Rebuilds all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default benchmarks/results)")
    parser.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="also write curves there")
    arguments = parser.parse_args()
    records = load(arguments.results)
    write_page(records, arguments.results)
    from benchmarks.plots import draw_all

    for path in draw_all(newest(records), arguments.results):
        print(path)
    if arguments.results == RESULTS:
        readme = ROOT / "README.md"
        readme.write_text(with_tables(readme.read_text(encoding="utf-8"), records), encoding="utf-8")
    if arguments.tensorboard:
        print(f"{write_curves(records, arguments.tensorboard)} curves in {arguments.tensorboard}")


def write_page(records: Sequence[Record], results: Path) -> None:
    """Writes ``README.md`` of the folder of results.

    Raises:
        UserError: a README of something else is there.
    """
    page = results / "README.md"
    if page.exists() and not page.read_text(encoding="utf-8").startswith(_TITLE):
        raise UserError(f"{page} is no page of results", fix="give the results a folder of their own")
    page.write_text(page_of(records), encoding="utf-8")


def load(results: Path) -> list[Record]:
    """All lines that have a setting and values, in the order of files and lines.

    Raises:
        UserError: no such folder, or a line in it that is no result.
    """
    if not results.is_dir():
        raise UserError(f"--results {results} is no folder", fix="name the folder that the *.jsonl are in")
    lines = [line for path in sorted(results.glob("*.jsonl")) for line in read_records(path)]
    return [line for line in lines if is_answer(line)]


def newest(records: Iterable[Record]) -> list[Record]:
    """The last line of each question and setting."""
    return list({key_of(record["question"], record["setting"]): record for record in records}.values())


def _cores_and_size(record: Record) -> str:
    setting = record["setting"]
    return f"{setting['cores']} {'core' if setting['cores'] == 1 else 'cores'}, {setting['megabytes']:g} MB"


def _cell(record: Record) -> str:
    setting = record["setting"]
    stage = f"ZeRO-{setting['zero_stage']}" if setting["engine"] == "deepspeed" else setting["engine"]
    words = [
        setting["preset"],
        f"{setting['ranks']} x {setting['micro_batch_size']} x {setting['context_length']}",
        stage,
    ]
    words += [
        setting["precision"],
        *(word for word in ("compile", "offload", "activation_checkpointing") if setting.get(word)),
    ]
    return ", ".join(words)


def _median(name: str, digits: int = 0, scale: float = 1.0) -> Callable[[Record], str]:
    def show(record: Record) -> str:
        value = record["values"].get(name)
        if value is None:
            return str(record["values"].get("outcome", "")).replace("_", " ")
        return f"{(value['median'] if isinstance(value, dict) else value) * scale:,.{digits}f}"

    return show


def _over_peer(record: Record) -> str:
    ratio = record["values"].get("zerostream_over_it")
    return f"{ratio['median']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else ""


def _of_setting(name: str) -> Callable[[Record], str]:
    return lambda record: str(record["setting"][name])


def _trained_by(record: Record) -> str:
    setting = record["setting"]
    return f"{setting['side']}, {setting['layers']} x {setting['width']}"


def _share(record: Record, phase: str) -> str:
    split = record["values"].get("split_seconds")
    if not split:
        return ""
    whole = sum(seconds for name, seconds in split.items() if name != "communication")
    return f"{split[phase] / whole:.0%}"


def _bytes_of_step(key: str) -> Callable[[Record], str]:
    return lambda record: f"{record['values'].get('bytes_of_a_step', {}).get(key, 0) / 1e6:,.1f}"


def _percent(name: str) -> Callable[[Record], str]:
    return lambda record: f"{record['values'][name]:+.1%}"


def _model_cell(record: Record) -> str:
    setting = record["setting"]
    words = [setting["model"], f"ZeRO-{setting['zero_stage']}", f"{setting['ranks']} ranks"]
    words.append(setting.get("precision") or f"micro-batch {setting['micro_batch_size']}")
    words += ["recomputing"] * bool(setting.get("activation_checkpointing"))
    offload = setting.get("offload", "none")
    return ", ".join(words if offload == "none" else [*words, f"offload {offload}"])


_SPEED: Column = ("tokens/s", _median("tokens_per_second"))
_PEER: tuple[Column, ...] = (_SPEED, ("ours over it", _over_peer))
TABLES: dict[str, tuple[Column, ...]] = {
    "throughput": (
        ("cell", _cell),
        _SPEED,
        ("utilisation", _median("model_flops_utilisation", 1, 100)),
        ("forward", lambda record: _share(record, "forward")),
        ("backward", lambda record: _share(record, "backward")),
        ("optimizer", lambda record: _share(record, "optimizer")),
        ("communication", lambda record: _share(record, "communication")),
        ("peak MiB of a rank", _median("measured_peak_bytes", 0, 2**-20)),
    ),
    "memory": (
        ("cell", _model_cell),
        ("predicted MiB", _median("predicted_peak_bytes", 0, 2**-20)),
        ("measured MiB", _median("measured_peak_bytes", 0, 2**-20)),
        ("error", _percent("error")),
        ("peak at", lambda record: str(record["values"]["moment"])),
    ),
    "planned_speed": (
        ("run", _model_cell),
        _SPEED,
        ("predicted", _median("predicted_tokens_per_second")),
        ("error", _percent("error")),
        ("", lambda record: "calibrates" if record["values"]["calibrates"] else ""),
    ),
    "scaling": (
        ("kind", _of_setting("kind")),
        ("cell", _cell),
        _SPEED,
        ("efficiency", _median("efficiency", 2)),
        ("MB of a step, all ranks", _bytes_of_step("loopback")),
        ("theory", _bytes_of_step("theory")),
    ),
    "loader": (("reader", _of_setting("reader")), *_PEER, ("first batch, s", _median("first_batch_seconds", 3))),
    "prepare": (
        ("run", _cores_and_size),
        ("text", _of_setting("text")),
        ("tokenizer", _of_setting("tokenizer")),
        ("MB/s", _median("megabytes_per_second", 2)),
        ("documents/s", _median("documents_per_second")),
    ),
    "peers_training": (
        ("tool, layers x width", _trained_by),
        *_PEER,
        ("peak MiB", _median("measured_peak_bytes", 0, 2**-20)),
    ),
    "peers_loaders": (("tool", _of_setting("reader")), *_PEER),
    "peers_tokenizers": (("tool", _of_setting("side")), ("MB/s", _median("megabytes_per_second", 2)), *_PEER),
}


def _is_shown(record: Record) -> bool:
    """Not what only stands below a prediction, such as the memory of libraries alone."""
    return record["question"] not in PREDICTED or "error" in record["values"]


def table_of(question: str, records: Sequence[Record]) -> str:
    """A Markdown table, with the machine and the date below it; a word in its place where nothing was measured.

    Raises:
        UserError: a line lacks what the table shows.
    """
    try:
        return _table_of(question, records)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"a line of {question} is not as that question writes it: {type(error).__name__} {error}",
            fix="remove the line, or measure it again",
        ) from None


def _table_of(question: str, records: Sequence[Record]) -> str:
    mine = [record for record in newest(records) if record["question"] == question and _is_shown(record)]
    if not mine:
        return "Not measured yet.\n"
    columns = TABLES[question]
    rows = [[show(record) for _, show in columns] for record in mine]
    lines = ["| " + " | ".join(name for name, _ in columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    environment = mine[-1]["environment"]
    machine = (
        environment["device"]
        if environment["device"] != "cpu"
        else f"{environment['cores']} cores of {environment['processor']}"
    )
    revision = str(environment["git_revision"])[:9]
    lines += [
        "",
        f"{machine}, torch {environment['packages']['torch']}, {environment['started_at'][:10]}, revision {revision}.",
    ]
    return "\n".join(lines) + "\n"


def page_of(records: Sequence[Record]) -> str:
    """``benchmarks/results/README.md``."""
    parts = [_TITLE, "Made by `python -m benchmarks report`; the lines are in the `*.jsonl` beside this page.\n"]
    for question in TABLES:
        if any(record["question"] == question for record in records):
            parts += [f"## {question}\n", table_of(question, records)]
            if question in PLOTS:
                parts.append(f"![{question}]({question}.png)\n")
    return "\n".join(parts)


PREDICTED: dict[str, tuple[str, str, float, str]] = {
    "memory": ("predicted_peak_bytes", "measured_peak_bytes", 2**-20, "MiB of the fullest rank"),
    "planned_speed": ("predicted_tokens_per_second", "tokens_per_second", 1, "tokens/s"),
}
"""Questions that a prediction is put to: the names of what was predicted and of what was measured, the scale, and its unit."""
PLOTS = ("throughput", *PREDICTED, "loader", "prepare", "peers_training", "peers_loaders", "peers_tokenizers")
"""Questions with a plot of their own."""


def with_tables(text: str, records: Sequence[Record]) -> str:
    """The README with its marked tables made anew."""
    return _MARKED.sub(lambda found: f"{found[1]}{table_of(found[2], records)}{found[3]}", text)


def write_curves(records: Iterable[Record], folder: Path) -> int:
    """One curve for each value of each setting; the n-th measurement is step n. Returns how many there are."""
    from framework.metrics.tensorboard import TensorBoard

    if folder.exists() and not folder.is_dir():
        raise UserError(f"--tensorboard {folder} is no folder", fix="name a folder; it is made where it is missing")
    folder.mkdir(parents=True, exist_ok=True)
    board, steps = TensorBoard(folder, resume_step=-1), dict[str, int]()
    for record in records:
        setting = ",".join(
            f"{key}={value}" for key, value in record["setting"].items() if not isinstance(value, list | dict)
        )
        for name, value in record["values"].items():
            number = value.get("median") if isinstance(value, dict) else value
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            tag = f"{record['question']}/{name}/{setting}"
            steps[tag] = steps.get(tag, -1) + 1
            board.scalars(steps[tag], {tag: float(number)})
    board.close()
    return len(steps)


if __name__ == "__main__":
    main()
