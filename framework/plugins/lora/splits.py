"""Training and test rows, and how much of the test stands in the training.

    data, folds = load_folds(options)
    print(leakage(data, *folds).describe())

A split by rows lets copies of one text stand on both sides, so that a model scores by remembering. Splits are therefore by
group, unless the options ask for rows, and the report says for every split what it lets through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from framework.errors import ConfigError
from framework.plugins.lora.options import LabelledDataOptions
from framework.plugins.lora.table import LabelledData, load_labelled, load_test_set, normalise_text

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fold:
    """Row numbers, ascending; no row stands in both."""

    train: Rows
    test: Rows


@dataclass(frozen=True)
class LeakageReport:
    """What a split lets through; texts are compared without regard to case and white space."""

    rows: int
    distinct_texts: int
    duplicate_rows: int
    """Rows whose text stands in an earlier row."""
    conflicting_texts: int
    """Texts that stand there with more than one label: nobody can be right about all their rows."""
    test_rows: int
    """Over all folds."""
    test_texts_in_training_fraction: float
    """Share of the test rows whose text stands among the training rows of their own fold."""

    @property
    def is_leaky(self) -> bool:
        """Whether any test text was also trained on."""
        return self.test_texts_in_training_fraction > 0

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON, with ``is_leaky``."""
        return {**asdict(self), "is_leaky": self.is_leaky}

    def describe(self) -> str:
        """The report in sentences, the verdict first."""
        share = self.test_texts_in_training_fraction
        percent = f"{share:.1%}" if 0.001 <= share <= 0.999 or share in (0.0, 1.0) else f"{share:.4%}"
        verdict = (
            f"LEAKY SPLIT: {percent} of the {self.test_rows:,} test rows have a text that was also trained on, so the scores "
            "measure how well texts are remembered, not how well new texts are judged."
            if self.is_leaky
            else f"No leak: none of the {self.test_rows:,} test rows has a text that was also trained on."
        )
        copies = f"{self.rows:,} rows hold {self.distinct_texts:,} distinct texts ({self.duplicate_rows:,} are copies)."
        conflicts = f"{self.conflicting_texts:,} texts stand there with different labels."
        return " ".join([verdict, copies, conflicts if self.conflicting_texts else "No text has two labels."])


def load_folds(options: LabelledDataOptions) -> tuple[LabelledData, tuple[Fold, ...]]:
    """The rows and how they are split. With a fixed test set, its rows follow the training rows, in one fold.

    Raises:
        SourceError: as ``load_labelled``.
        ConfigError: as ``make_folds``, and when a class of the options has no training row.
    """
    data = load_labelled(options)
    if not options.has_test_set:
        return data, make_folds(data, options)
    test = load_test_set(options, data.classes)
    both = replace(
        data,
        texts=data.texts + test.texts,
        labels=np.concatenate([data.labels, test.labels]),
        groups=data.groups + test.groups,
        ages=None if data.ages is None or test.ages is None else np.concatenate([data.ages, test.ages]),
        dropped=dict(Counter(data.dropped) + Counter(test.dropped)),
    )
    fold = Fold(np.arange(len(data)), np.arange(len(data), len(both)))
    _refuse_untrained_class(both, (fold,), fix="name it in neither classes nor age_groups")
    return both, (fold,)


def make_folds(data: LabelledData, options: LabelledDataOptions) -> tuple[Fold, ...]:
    """Splits the rows: stratified by class, by group or by row, shuffled by ``split_seed``; equal for equal arguments.

    With ``train_rows``, one fold: the first rows of pandas' ``DataFrame.sample(frac=1, random_state=split_seed)``, which is
    ``numpy.random.RandomState(split_seed).permutation(n)`` (a stream that NumPy has frozen, NEP 19), train. n counts
    the rows that were not dropped.

    Raises:
        ConfigError: a class has fewer groups (or rows) than there are folds, groups are too uneven to give every fold test
            rows and training rows of every class, or ``train_rows`` leaves nothing to test or a class untrained.
    """
    if options.train_rows is not None:
        return (_first_rows(data, options.train_rows, options.split_seed),)
    assert options.folds is not None, "a fixed test set is split by load_folds"
    _refuse_rare_class(data, options)
    return _cross_validation(data, options, options.folds)


def leakage(data: LabelledData, *folds: Fold) -> LeakageReport:
    """What these folds let through, taken together; rows that stand in no fold do not count."""
    texts = [normalise_text(text) for text in data.texts]
    used = np.unique(np.concatenate([part for fold in folds for part in (fold.train, fold.test)]))
    labels_of: dict[str, set[int]] = {}
    for row in used:
        labels_of.setdefault(texts[row], set()).add(int(data.labels[row]))
    leaked = 0
    for fold in folds:
        trained = {texts[row] for row in fold.train}
        leaked += sum(texts[row] in trained for row in fold.test)
    test_rows = sum(len(fold.test) for fold in folds)
    return LeakageReport(
        rows=len(used),
        distinct_texts=len(labels_of),
        duplicate_rows=len(used) - len(labels_of),
        conflicting_texts=sum(len(labels) > 1 for labels in labels_of.values()),
        test_rows=test_rows,
        test_texts_in_training_fraction=leaked / test_rows,
    )


def _first_rows(data: LabelledData, train_rows: int, seed: int) -> Fold:
    if train_rows >= len(data):
        raise ConfigError(
            f"train_rows {train_rows} leaves none of the {len(data)} rows to test", fix="lower train_rows"
        )
    shuffled = np.random.RandomState(seed).permutation(len(data)).astype(np.int64)
    fold = Fold(np.sort(shuffled[:train_rows]), np.sort(shuffled[train_rows:]))
    _refuse_untrained_class(data, (fold,), fix="raise train_rows, or join or drop that class")
    return fold


def _refuse_rare_class(data: LabelledData, options: LabelledDataOptions) -> None:
    assert options.folds is not None
    by_rows = options.split == "rows"
    for number, name in enumerate(data.classes):
        rows = np.flatnonzero(data.labels == number)
        units = len(rows) if by_rows else len({data.groups[row] for row in rows})
        if units < options.folds:
            what = "rows" if by_rows else f"groups ({options.group_field or 'distinct texts'})"
            raise ConfigError(
                f"class {name!r} has too few {what} for {options.folds} folds: {units}",
                fix=_merge_or_lower(options, units),
            )


def _merge_or_lower(options: LabelledDataOptions, units: int) -> str:
    merged = "list classes without it, with on_bad_row: drop"
    if options.label_kind == "age":
        merged = "join it to a neighbour in age_groups"
    return f"set folds: {units}, or {merged}" if units >= 2 else merged


def _cross_validation(data: LabelledData, options: LabelledDataOptions, folds: int) -> tuple[Fold, ...]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    # Numbers, because an array of the texts themselves would give every one the length of the longest.
    number_of = {group: number for number, group in enumerate(sorted(set(data.groups)))}
    groups = np.array([number_of[group] for group in data.groups])
    by_rows = options.split == "rows"
    splitter: Any = StratifiedKFold if by_rows else StratifiedGroupKFold
    splits = splitter(folds, shuffle=True, random_state=options.split_seed).split(
        np.zeros(len(data)), data.labels, None if by_rows else groups
    )
    made = tuple(Fold(train.astype(np.int64), test.astype(np.int64)) for train, test in splits)
    assert all(len(fold.test) for fold in made)
    # With groups of several classes, all rows of one class can come to be tested in the same fold.
    largest, rows = Counter(data.groups).most_common(1)[0]
    fix = f"lower folds, or name another group_field (the largest group, {largest[:40]!r}, has {rows} of {len(data)} rows)"
    _refuse_untrained_class(data, made, fix=fix)
    return made


def _refuse_untrained_class(data: LabelledData, folds: Sequence[Fold], *, fix: str) -> None:
    for number, fold in enumerate(folds, start=1):
        trained = np.bincount(data.labels[fold.train], minlength=len(data.classes))
        if not trained.all():
            name = data.classes[int(np.argmin(trained))]
            raise ConfigError(f"class {name!r} has no training row (fold {number} of {len(folds)})", fix=fix)
