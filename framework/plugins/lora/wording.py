"""A result in words: what the terminal's table and the page say in common, so that both say the same.

A *result* is what ``result.json`` holds; ``report`` lists its keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_NAMES = {
    "macro_f1": "macro-F1",
    "look_up": "look-up",
    "tfidf_logistic_regression": "TF-IDF + logistic regression",
}

COMPARISON_HEADER = ("", "accuracy", "macro-F1", "error in years", "calibration error")
PER_CLASS_HEADER = ("class", "precision", "recall", "F1", "examples")

MODEL_NAME = "this model"
ENSEMBLE_NAME, ALONE_NAME = "the ensemble", "this model alone"


def describe_name(name: str) -> str:
    """How people write the name of a baseline, a count or a reason."""
    return _NAMES.get(name, name.replace("_", " "))


def contestants(result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The model and its baselines, by the names that people read, the model first; an ensemble before its model."""
    baselines = [(describe_name(name), each) for name, each in result["baselines"].items()]
    if "ensemble" in result:
        return [(ENSEMBLE_NAME, result), (ALONE_NAME, result["model_alone"]), *baselines]
    return [(MODEL_NAME, result), *baselines]


def comparison_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Under ``COMPARISON_HEADER``: how the model and each baseline score, with 95% intervals."""
    return [
        (
            name,
            _with_interval(each, "accuracy", percent),
            _with_interval(each, "macro_f1", three_digits),
            _with_interval(each, "mean_absolute_error_years", _two_digits),
            _or_dash(each.get("expected_calibration_error"), three_digits),
        )
        for name, each in contestants(result)
    ]


def per_class_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Under ``PER_CLASS_HEADER``: the model on each class."""
    return [
        (
            name,
            percent(each["precision"]),
            percent(each["recall"]),
            three_digits(each["f1"]),
            f"{each['support']:,}",
        )
        for name, each in result["per_class"].items()
    ]


def is_leaky(result: Mapping[str, Any]) -> bool:
    """Whether the model was tested on texts that it was also trained on."""
    return bool(result["leakage"]["test_texts_in_training_fraction"] > 0)


def leakage_sentences(result: Mapping[str, Any]) -> str:
    """The verdict on the split first."""
    leakage = result["leakage"]
    share = leakage["test_texts_in_training_fraction"]
    verdict = (
        f"LEAKY SPLIT: {_exact_percent(share)} of the test texts were also trained on, so the scores show how well texts are "
        "remembered, not how well new ones are judged."
        if is_leaky(result)
        else "No leak: none of the test texts was also trained on."
    )
    conflicts = leakage.get("conflicting_texts", 0)
    facts = [
        f"{leakage['duplicate_rows']:,} rows repeat the text of an earlier one." if "duplicate_rows" in leakage else "",
        f"{conflicts:,} texts stand there with different labels: nobody can be right about all of them."
        if conflicts
        else "",
    ]
    return " ".join(filter(None, [verdict, *facts]))


def headline(result: Mapping[str, Any]) -> str:
    """How good the model is, and how that compares with its best baseline."""
    of_ensemble = ensemble_sentence(result)
    said = (
        f"{of_ensemble}Accuracy {_with_interval(result, 'accuracy', percent)} on {result['examples']:,} test examples"
    )
    if not result["baselines"]:
        return f"{said}."
    name, best = max(result["baselines"].items(), key=lambda item: item[1]["accuracy"])
    said += f"; the best baseline, {describe_name(name)}, has {_with_interval(best, 'accuracy', percent)}."
    difference = result.get("differences", {}).get(name)
    who = ENSEMBLE_NAME if "ensemble" in result else "the model"
    return said if difference is None else f"{said} {_difference_sentence(difference, who)}"


def ensemble_sentence(result: Mapping[str, Any]) -> str:
    """What answered, where it was not the model alone, and a space behind it; else nothing."""
    ensemble = result.get("ensemble")
    if ensemble is None:
        return ""
    others = " and ".join(map(describe_name, ensemble["with"]))
    return (
        f"An ensemble: class probabilities are {ensemble['model_weight']:.0%} the model's, the rest those of {others} fitted to "
        f"the same training rows. The model alone has {_with_interval(result['model_alone'], 'accuracy', percent)}. "
    )


def parameters_sentence(result: Mapping[str, Any]) -> str | None:
    """None where the result does not count them."""
    trainable, total = result.get("trainable_parameters"), result.get("total_parameters")
    if trainable is None:
        return None
    if total is None:
        return f"{trainable:,} parameters were trained."
    return f"{trainable:,} of {total:,} parameters were trained ({trainable / total:.2%})."


def memory_sentence(result: Mapping[str, Any]) -> str | None:
    """None where the result does not count it, and where nothing was frozen."""
    held, full = result.get("trained_state_bytes"), result.get("full_fine_tuning_state_bytes")
    if held is None or full is None:
        return None
    return (
        f"Gradients and optimizer states took {_mebibytes(held)}; full fine-tuning would take {_mebibytes(full)}, "
        f"{full / held:,.1f} times as much."
    )


def folds_rows(result: Mapping[str, Any]) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """Header and rows of the folds' own scores; the columns are what all folds have."""
    folds = result.get("folds") or []
    keys = [key for key in (folds[0] if folds else {}) if all(_is_number(fold.get(key)) for fold in folds)]
    rows = [(str(number), *(_number(key, fold[key]) for key in keys)) for number, fold in enumerate(folds, start=1)]
    return ("fold", *map(describe_name, keys)), rows


def percent(share: float) -> str:
    """0.624 is ``62.4%``."""
    return f"{share:.1%}"


def three_digits(value: float) -> str:
    """0.5982 is ``0.598``."""
    return f"{value:.3f}"


def _difference_sentence(difference: Mapping[str, Any], who: str) -> str:
    points, interval = difference["accuracy_difference"], difference["accuracy_difference_ci95"]
    said = f"On the same examples {who} is {abs(points) * 100:.1f} points {'better' if points >= 0 else 'worse'}"
    if interval is None:
        return f"{said}."
    low, high = interval
    verdict = "more than chance explains" if low > 0 or high < 0 else "too little for this test set to tell from none"
    return f"{said} (95% interval {low * 100:+.1f} to {high * 100:+.1f}), {verdict}."


def _with_interval(scores: Mapping[str, Any], key: str, say: Callable[[float], str]) -> str:
    value, interval = scores.get(key), scores.get(f"{key}_ci95")
    if value is None or interval is None:
        return _or_dash(value, say)
    low, high = (say(end).removesuffix("%") for end in interval)
    return f"{say(value)} [{low}, {high}]"


def _or_dash(value: float | None, say: Callable[[float], str]) -> str:
    return "-" if value is None else say(value)


def _exact_percent(share: float) -> str:
    """Never 0.0% of something, and never 100.0% of less than all."""
    return f"{share:.1%}" if 0.001 <= share <= 0.999 or share in (0, 1) else f"{share:.4%}"


def _two_digits(value: float) -> str:
    return f"{value:.2f}"


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.2f} MiB"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(key: str, value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return percent(value) if key.endswith("accuracy") else three_digits(value)
