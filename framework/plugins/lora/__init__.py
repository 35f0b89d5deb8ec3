"""Fine-tuning of a pretrained model on labelled text, with LoRA or in full, and the honest evaluation of the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.plugins.interface import Plugin
from framework.plugins.lora.commands import finetune, predict

if TYPE_CHECKING:
    from framework.config import Config
    from framework.plugins.lora.options import LoraOptions


def _options_model() -> type[LoraOptions]:
    from framework.plugins.lora.options import LoraOptions

    return LoraOptions


def make_recipe(config: Config, options: LoraOptions) -> Any:
    """The recipe of ``plugins.lora.task``."""
    if options.task == "classification":
        from framework.plugins.lora.classification import Classification

        return Classification(config, options)
    from framework.plugins.lora.completion import Completion

    return Completion(config, options)


def evaluate_labelled(run_dir: Path, file: Path) -> tuple[Mapping[str, Any], str]:
    """Scores a fine-tuned classifier on a later file with the columns that it was trained on."""
    from framework.plugins.lora.results import score_file

    return score_file(run_dir, file)


plugin = Plugin(
    name="lora",
    options=_options_model,
    commands={"finetune": finetune, "predict": predict},
    recipe=make_recipe,
    evaluate_labelled=evaluate_labelled,
)
"""Found by the entry point `lora`."""
