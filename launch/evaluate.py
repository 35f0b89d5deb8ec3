"""``zerostream evaluate``: what its options ask for, refused or done, as one report of sections.

loss, perplexity, ...   the validation shards: where nothing else is asked for, or --shards names them
texts                   --text: one entry each
stories                 --stories: measures of sampled stories, beside those of real ones
tasks                   --tasks: lm-eval's metrics by task
accuracy, macro_f1 ...  --labelled, alone: a classifier's scores on labelled rows, by the plugin that trained it
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.errors import ShardError, StorageError, UserError
from framework.run_dir import RunDir
from launch.report import print_report, print_table

if TYPE_CHECKING:
    from framework.train.story_evaluation import StoryRequest
    from framework.train.trained import Trained

# Which options mean nothing without which one.
_BELONG_TO = {
    "texts": ("separator",),
    "stories": ("prompts", "temperature", "top_p", "max_tokens", "seed"),
    "tasks": ("task_folder",),
}
_FLAGS = {"texts": "--text", "prompts": "--prompt"}
_SECTIONS = ("texts", "stories", "tasks")
_ABOUT_STORIES = ("prompts", "temperature", "top_p", "max_tokens", "seed", "reference")
_ABOUT_TASKS = ("samples", "shots", "version")


@dataclass(frozen=True)
class EvaluateOptions:
    """The options as they were given; None where they were not."""

    run_dir: Path
    step: int | None
    shards: Path | None
    texts: tuple[str, ...]
    separator: str | None
    stories: int | None
    prompts: tuple[str, ...] | None
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    seed: int | None
    tasks: str | None
    task_folder: Path | None
    labelled: Path | None = None


def run_evaluate(options: EvaluateOptions, *, as_json: bool) -> None:
    """Evaluates a run and prints the report. Options, tasks and texts are looked at before anything is computed.

    Raises:
        UserError: options do not fit together, or as the parts of ``framework.train`` raise it.
    """
    _refuse_misplaced(options)
    if options.labelled is not None:
        _evaluate_labelled(options, as_json=as_json)
        return
    names = _task_names(options)
    request = _story_request(options)
    tasks = None
    if names:
        from framework.train.benchmark_tasks import load_tasks, run_tasks

        tasks = load_tasks(names, options.task_folder)
    from framework.train.trained import evaluate_text, evaluate_trained, load_trained, read_text

    trained = load_trained(options.run_dir, options.step)
    separator = {} if options.separator is None else {"separator": options.separator}
    texts = [read_text(trained, text, **separator) for text in options.texts]
    report: dict[str, Any] = {"run_dir": str(options.run_dir), "step": trained.step}
    if options.shards is not None or not (texts or request or tasks):
        report |= evaluate_trained(trained, options.shards)
    if texts:
        report["texts"] = [evaluate_text(trained, text) for text in texts]
    if request is not None:
        report["stories"] = _evaluate_stories(trained, request, options.shards)
    if tasks is not None:
        report["tasks"] = run_tasks(trained, tasks)  # last: the export changes the model
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        _print(report)


def _evaluate_labelled(options: EvaluateOptions, *, as_json: bool) -> None:
    for name in ("step", "shards", *_SECTIONS):
        if getattr(options, name):
            raise UserError(f"--labelled is given beside {_flag(name)}", fix="ask for one after the other")
    assert options.labelled is not None
    result, text = _scoring_plugin(options.run_dir)(options.run_dir, options.labelled)
    print(json.dumps({"run_dir": str(options.run_dir), **result}, ensure_ascii=False) if as_json else text)


def _scoring_plugin(run_dir: Path) -> Callable[[Path, Path], tuple[Mapping[str, Any], str]]:
    """Of the plugin that trained the run, or the runs below its folder, as the folds of a cross-validation are."""
    from framework.plugins.registry import active_plugins
    from framework.train.preflight import read_run_config

    below = sorted(path.parent for path in run_dir.glob(f"*/{RunDir(run_dir).config.name}"))
    first = run_dir if RunDir(run_dir).config.is_file() or not below else below[0]
    for active in active_plugins(read_run_config(first)):
        if active.plugin.evaluate_labelled is not None:
            return active.plugin.evaluate_labelled
    raise UserError(
        f"--labelled: {first} was trained without a plugin that scores labelled rows",
        fix="name a run of `zerostream finetune`, or leave --labelled out",
    )


# --- What is asked for ---


def _refuse_misplaced(options: EvaluateOptions) -> None:
    for owner, names in _BELONG_TO.items():
        if getattr(options, owner):
            continue
        for name in names:
            if getattr(options, name) is not None:
                raise UserError(
                    f"{_flag(name)} is given without {_flag(owner)}", fix=f"add {_flag(owner)}, or leave it out"
                )


def _flag(name: str) -> str:
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def _task_names(options: EvaluateOptions) -> list[str]:
    names = [name.strip() for name in (options.tasks or "").split(",") if name.strip()]
    if options.tasks is not None and not names:
        raise UserError(f"--tasks {options.tasks!r} names no task", fix="name one, such as lambada_openai")
    return names


def _story_request(options: EvaluateOptions) -> StoryRequest | None:
    if options.stories is None:
        return None
    from framework.train.story_evaluation import StoryRequest

    given = {name: getattr(options, name) for name in _BELONG_TO["stories"] if getattr(options, name) is not None}
    request = StoryRequest(options.stories, **given)
    request.sampling(room=1)  # refuses values without meaning
    return request


def _evaluate_stories(trained: Trained, request: StoryRequest, shards: Path | None) -> dict[str, Any]:
    """Real stories are a help to read the figures, and no condition: a run may lie where its shards are not."""
    from framework.train.story_evaluation import evaluate_stories
    from framework.train.trained import open_corpus

    try:
        corpus = open_corpus(trained, shards)
    except (ShardError, StorageError) as error:
        if shards is not None:
            raise
        print(f"zerostream: no real stories to compare with: {error.cause}", file=sys.stderr)
        corpus = None
    return evaluate_stories(trained, request, corpus)


# --- What people see ---


def _print(report: dict[str, Any]) -> None:
    print_report({key: value for key, value in report.items() if key not in _SECTIONS}, as_json=False)
    if "texts" in report:
        print()
        _print_texts(report["texts"])
    if "stories" in report:
        print()
        _print_stories(report["stories"])
    if "tasks" in report:
        print()
        _print_tasks(report["tasks"])


def _print_texts(texts: list[dict[str, Any]]) -> None:
    print_table([list(texts[0]), *(list(text.values()) for text in texts)])


def _print_stories(stories: dict[str, Any]) -> None:
    reference = stories["reference"] or {}
    measures = [name for name in stories if name not in _ABOUT_STORIES]
    print_table([["measure", "model", "real"], *([name, stories[name], reference.get(name)] for name in measures)])


def _print_tasks(tasks: dict[str, dict[str, Any]]) -> None:
    rows: list[list[Any]] = [["task", "metric", "value", "stderr", "samples", "shots"]]
    for name, values in tasks.items():
        for metric in (key for key in values if key not in _ABOUT_TASKS and "_stderr" not in key):
            measure, comma, rule = metric.partition(",")
            error = values.get(f"{measure}_stderr{comma}{rule}")
            rows.append([name, metric, values[metric], error, values["samples"], values["shots"]])
    print_table(rows)
