"""The commands that the plugin adds. What is heavy is imported when they run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from framework.errors import EXIT_FINISHED, ConfigError, PluginError, UserError

if TYPE_CHECKING:
    from framework.config import Config
    from framework.plugins.lora.options import LoraOptions

_MODEL_KEYS = ("architecture", "layers", "width", "heads")


def finetune(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file with a section plugins.lora.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY.PATH=VALUE", help="Overrides, such as train.max_steps=50.", show_default=False),
    ] = None,
    nproc: Annotated[int, typer.Option(min=1, help="Ranks to start on this machine.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output; logs go to standard error.")
    ] = False,
) -> None:
    """Fine-tune a base on labelled texts or prompts, with LoRA or in full, and score the result beside baselines.

    A cross-validation trains every fold, each a run of its own below run_dir. Started again, it goes on where it stopped.
    Exit codes are those of `zerostream train`.
    """
    from framework.config import load_config
    from framework.plugins.registry import active_plugins

    mine = list(overrides or [])
    loaded = load_config(config, mine)
    options = next((active.options for active in active_plugins(loaded) if active.plugin.name == "lora"), None)
    if options is None:
        raise PluginError(
            f"{config} has no section plugins.lora, so there is nothing to fine-tune",
            fix="copy configs/age_honest.yaml, or use `zerostream train` to pretrain",
        )
    if "fold" in options.model_fields_set:
        raise ConfigError(
            f"plugins.lora.fold is {options.fold}, but `zerostream finetune` trains every fold",
            fix="leave it out, or train that fold alone with `zerostream train`",
        )
    mine += _sizes_of_base(loaded, options, mine)
    if options.task == "causal_lm":
        _train(config, mine, nproc, as_json=as_json)
        from framework.plugins.lora.outcome import write_outcome
        from framework.run_dir import RunDir

        folder = write_outcome(RunDir(loaded.run_dir))
        result = json.loads(RunDir(loaded.run_dir).result.read_text(encoding="utf-8"))
        _say(json.dumps(result) if as_json else f"  saved        {folder}")
        return
    _cross_validate(config, loaded, options, mine, nproc, as_json=as_json)


def _cross_validate(
    path: Path, config: Config, options: LoraOptions, overrides: list[str], nproc: int, *, as_json: bool
) -> None:
    from framework.durable import write_durably
    from framework.plugins.lora.outcome import write_outcome
    from framework.plugins.lora.prediction import FOLD_FOLDER
    from framework.plugins.lora.report import format_table, write_report
    from framework.plugins.lora.results import summarise
    from framework.plugins.lora.splits import leakage, load_folds
    from framework.run_dir import RunDir

    data, folds = load_folds(options.data)
    report = leakage(data, *folds)
    _note(f"{len(data):,} rows in {len(data.classes)} classes ({', '.join(data.classes)}), {len(folds)} folds")
    if data.dropped:
        _note("dropped: " + ", ".join(f"{count} rows ({reason})" for reason, count in data.dropped.items()))
    _note(report.describe())
    runs = [config.run_dir / FOLD_FOLDER.format(number + 1) for number in range(len(folds))]
    _check_all(config, options, overrides, path, runs, nproc)
    for number, run in enumerate(runs):
        if len(runs) > 1:
            _note(f"\nfold {number + 1} of {len(runs)}")
        _train(path, [*overrides, f"plugins.lora.fold={number}", f"run_dir={run}"], nproc, as_json=as_json)
        write_outcome(RunDir(run))
    result = summarise(data, folds, runs, options, seed=config.seed)
    write_durably(RunDir(config.run_dir).result, (json.dumps(result, indent=1) + "\n").encode())
    pages = write_report(config.run_dir, config.run_dir.name, result)
    if as_json:
        _say(json.dumps(result))
        return
    _say("\n" + format_table(result))
    _say(f'\n  report       {pages[0]}\n  use          zerostream predict {config.run_dir} --text "Once upon a time"')


def _check_all(
    config: Config, options: LoraOptions, overrides: list[str], path: Path, runs: Sequence[Path], nproc: int
) -> None:
    """What any fold would be refused for is told before the first of them has trained."""
    from framework.config import load_config
    from framework.train.preflight import check

    for number, run in enumerate(runs):
        check(load_config(path, [*overrides, f"plugins.lora.fold={number}", f"run_dir={run}"]), nproc)


def predict(
    run_dir: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR",
            help="Of `zerostream finetune`; with --adapter, the base: a run or a Hugging Face folder.",
            show_default=False,
        ),
    ],
    text: Annotated[
        list[str] | None, typer.Option("--text", "-t", help="A text; may be given again.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="One text a line, or a .jsonl, .csv or .parquet file with --field.", show_default=False),
    ] = None,
    field: Annotated[str, typer.Option(help="Column of the text in such a file.")] = "text",
    adapter: Annotated[
        list[Path] | None,
        typer.Option(help="An adapter's folder; several are averaged.", show_default=False),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output; logs go to standard error.")
    ] = False,
) -> None:
    """Name the class of texts, with the probability of each class; the folds of a cross-validation answer together."""
    from framework.plugins.lora.prediction import load_classifier

    texts = [*(text or []), *(_read_texts(file, field) if file is not None else [])]
    if not texts:
        raise UserError("there is no text to read", fix="give --text or --file")
    classifier = load_classifier(run_dir, adapter or [])
    rows, are_long = classifier.probabilities(texts), classifier.are_long(texts)
    if any(are_long):
        _note(
            f"{sum(are_long)} of {len(texts)} texts lost their end: the model reads {classifier.context_length} tokens"
        )
    answers = [
        {
            "text": each,
            "class": classifier.classes[int(row.argmax())],
            "probabilities": dict(zip(classifier.classes, row.tolist(), strict=True)),
            "truncated": is_long,
        }
        for each, row, is_long in zip(texts, rows, are_long, strict=True)
    ]
    if as_json:
        _say(json.dumps({"run_dir": str(run_dir), "predictions": answers}, ensure_ascii=False))
        return
    for answer in answers:
        probabilities: dict[str, float] = answer["probabilities"]  # type: ignore[assignment]
        shares = "  ".join(f"{name} {share:.0%}" for name, share in probabilities.items())
        _say(f"{answer['class']:<8} ({shares})  {str(answer['text'])[:60]}")


def _read_texts(file: Path, field: str) -> list[str]:
    from framework.plugins.lora.options import LabelledDataOptions
    from framework.plugins.lora.rows import read_file_rows

    if not file.is_file():
        raise UserError(f"{file} {'is a folder' if file.is_dir() else 'does not exist'}", fix="name a file with texts")
    if file.suffix.lower() in (".csv", ".jsonl", ".ndjson", ".parquet"):
        options = LabelledDataOptions(
            source="jsonl", path=str(file), text_fields=(field,), label_field=f"{field} label"
        )
        table = read_file_rows(file, options)
        if field not in table.columns:
            raise UserError(f"{file} has no column {field!r}", fix=f"name one with --field: {', '.join(table.columns)}")
        return [_text_in(row.get(field), where, field) for where, row in table.rows]
    try:
        return [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 (byte {error.start})", fix="save it as UTF-8") from None


def _text_in(value: object, where: str, field: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: {field} holds no text", fix="fill or remove that row, or name another --field")
    return value


def _sizes_of_base(config: Config, options: LoraOptions, overrides: Sequence[str]) -> list[str]:
    """Overrides of ``model`` that the base answers, so that the resolved config says what is trained."""
    from framework.plugins.lora.base import open_base

    if config.model.preset is not None:
        raise ConfigError(
            f"model.preset {config.model.preset} is given, but base {options.base} has sizes of its own",
            fix="remove model.preset; model.context_length and model.dropout may stay",
        )
    sizes = open_base(options.base).sizes
    keys: tuple[str, ...] = _MODEL_KEYS
    if "context_length" not in config.model.model_fields_set:
        keys = (*keys, "context_length")
    return [f"model.{key}={sizes[key]}" for key in keys]


def _train(config: Path, overrides: Sequence[str], nproc: int, *, as_json: bool) -> None:
    """``zerostream train`` with these overrides, in a process of its own; ends this command when it does not finish.

    Signals that reach this process alone are handed on, so that the run saves.
    """
    command = [sys.executable, "-m", "launch.cli", "train", str(config), *overrides, "--nproc", str(nproc)]
    process = subprocess.Popen(command, stdout=sys.stderr if as_json else None)

    def hand_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code != EXIT_FINISHED:
        raise typer.Exit(code if code > 0 else 1)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _say(text: Any) -> None:
    print(text, flush=True)
