"""Scores a trained model on tasks of EleutherAI's lm-evaluation-harness, through its own library.

The only importer of ``lm_eval``, which comes with the extra ``eval``. What is scored is the export: a Hugging Face folder in a
temporary place, in float32, as anybody would load it.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.errors import UserError
from framework.train.trained import Trained, export

BOOTSTRAP_ITERATIONS = 1000
"""For standard errors without a formula, such as perplexity's; the library's own 100,000 take minutes."""


@dataclass(frozen=True)
class LoadedTasks:
    """lm-eval's own objects: tasks and groups with their data, and the manager that knows how they hang together."""

    manager: Any
    objects: tuple[Any, ...]


def load_tasks(names: Sequence[str], task_folder: Path | None = None) -> LoadedTasks:
    """The tasks and groups of these names, with their data.

    Args:
        names: of tasks, groups or tags.
        task_folder: its YAML files are tasks as well; a name is looked for there first. A task may name Python code:
            use folders that you trust.

    Raises:
        UserError: lm-eval is not installed, there is no such task, it or its data cannot be loaded, or it is none for a
            language model that runs nothing.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError("--tasks needs lm-eval, which is not installed", fix="run `pip install 'lm-eval>=0.4.12,<0.5'`")
    if task_folder is not None and not task_folder.is_dir():
        raise UserError(f"--task-folder {task_folder} is no folder", fix="name the folder of the tasks' YAML files")
    manager = _task_manager(names, task_folder)
    objects: list[Any] = []
    leaves: Counter[str] = Counter()
    for name in names:
        try:
            found = manager.load(name)
        except Exception as error:  # a task is somebody's YAML, code and data: the network, missing files, types
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise UserError(
                f"task {name} cannot be loaded: {reason}", fix="check its data, the network and its YAML file"
            ) from error
        _refuse_unfit(name, found["tasks"])
        groups = found.get("groups", {})
        objects += [groups[name]] if name in groups else found["tasks"].values()
        leaves.update(found["tasks"].keys())
    twice = [leaf for leaf, count in leaves.items() if count > 1]
    if twice:
        raise UserError(f"task {twice[0]} is asked for twice", fix="name it, or the group that holds it, once")
    return LoadedTasks(manager, tuple(objects))


def run_tasks(trained: Trained, tasks: LoadedTasks) -> dict[str, dict[str, Any]]:
    """The metrics of each task and group that ``load_tasks`` has loaded, with ``samples``, ``shots`` and ``version``.

    A metric is named as lm-eval names it; ``acc_stderr`` is the standard error of ``acc``, and a filter other than ``none``
    follows a comma. None stands where a number is not there or not finite.

    Contexts are given as they are, without the end-of-text that training has in front of documents: that is how published
    figures of lm-eval are made. The export takes the rows off the model's embedding that only rounded it up.

    Raises:
        UserError: the model is no transformers model.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    # What the library prints is no part of our report.
    with tempfile.TemporaryDirectory(prefix="zerostream-") as folder, contextlib.redirect_stdout(sys.stderr):
        exported = Path(folder) / "model"
        export(trained, exported)
        model = HFLM(
            pretrained=str(exported),
            backend="causal",
            device=str(next(trained.model.parameters()).device),
            dtype="float32",
            batch_size=trained.config.engine.micro_batch_size,
        )
        results = simple_evaluate(
            model=model,
            tasks=list(tasks.objects),
            task_manager=tasks.manager,  # or it would read the library's 14,000 tasks again
            bootstrap_iters=BOOTSTRAP_ITERATIONS,
            log_samples=False,
        )
    return {name: _summarise(name, results) for name in results["results"]}


def _task_manager(names: Sequence[str], task_folder: Path | None) -> Any:
    """The folder's tasks alone if that is all that is wanted: to read the library's own 14,000 takes many seconds."""
    from lm_eval.tasks import TaskManager

    if task_folder is not None:
        own = TaskManager(include_path=str(task_folder), include_defaults=False)
        if set(names) <= set(own.all_tasks):
            return own
    manager = TaskManager(include_path=str(task_folder) if task_folder is not None else None)
    for name in names:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks, n=1)
            raise UserError(
                f"task {name} is none of lm-eval's"
                + (f" nor of {task_folder}'s, where YAML that is no task is passed over" if task_folder else ""),
                fix=f"did you mean {near[0]}?" if near else "`lm_eval ls tasks` lists its own",
            )
    return manager


def _refuse_unfit(name: str, tasks: Mapping[str, Any]) -> None:
    for task in tasks.values():
        if getattr(task, "UNSAFE_CODE", False):
            raise UserError(f"task {name} runs code that the model writes", fix="run it with lm_eval, in a sandbox")
        if getattr(task, "MULTIMODAL", False):
            raise UserError(f"task {name} is not of text alone", fix="choose a task of text")


def _summarise(name: str, results: Mapping[str, Any]) -> dict[str, Any]:
    metrics = {
        key.removesuffix(",none"): value if isinstance(value, int | float) and math.isfinite(value) else None
        for key, value in results["results"][name].items()
        if "," in key  # `metric,filter`; the other keys are the task's name and the like
    }
    return {
        **metrics,
        "samples": results.get("n-samples", {}).get(name, {}).get("effective"),
        "shots": results.get("n-shot", {}).get(name),
        "version": results.get("versions", {}).get(name),
    }
