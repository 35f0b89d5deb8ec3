"""Classes of new texts, from a fine-tuned run, all folds of one together, or an adapter on its base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from framework.data.tokenizer import Tokenizer, load_tokenizer
from framework.errors import UserError
from framework.plugins.lora.base import open_base
from framework.plugins.lora.outcome import Card, outcome_of, read_card
from framework.run_dir import RunDir

if TYPE_CHECKING:
    from framework.plugins.lora.classifier import SequenceClassifier
    from framework.plugins.lora.tfidf import TfidfClassifier

FOLD_FOLDER = "fold-{}"
_FOLD_PREFIX = FOLD_FOLDER.format("")
_TEXTS_AT_ONCE = 16


@dataclass(frozen=True)
class Member:
    """One model, and what it answers together with."""

    model: SequenceClassifier
    companion: TfidfClassifier | None = None
    weight: float = 1.0
    """The model's own, beside a companion."""


@dataclass(frozen=True)
class Classifier:
    """One or several models of the same classes, each perhaps with a companion; their probabilities are averaged."""

    classes: tuple[str, ...]
    class_ages: tuple[float, ...] | None
    context_length: int
    truncates: bool
    """Whether a longer text loses its end, as in training; otherwise it is refused."""
    tokenizer: Tokenizer
    members: tuple[Member, ...]

    @property
    def is_ensemble(self) -> bool:
        """Whether a model answers together with something else than its like."""
        return any(member.companion is not None for member in self.members)

    def probabilities(self, texts: Sequence[str], *, alone: bool = False) -> npt.NDArray[np.float64]:
        """[texts, classes]; of no text, no row.

        Args:
            texts: to classify.
            alone: without the companions.

        Raises:
            UserError: a text is empty, or longer than the models read where they were trained to refuse that.
        """
        rows = [self._encode(text, number) for number, text in enumerate(texts, start=1)]
        total = np.zeros((len(texts), len(self.classes)))
        for member in self.members if rows else ():
            own = np.concatenate(list(_probabilities(member.model, rows, self.tokenizer.end_of_text_id)))
            if member.companion is None or alone:
                total += own
            else:
                total += member.weight * own + (1 - member.weight) * member.companion.probabilities(texts)
        shares: npt.NDArray[np.float64] = total / total.sum(axis=1, keepdims=True)
        return shares

    def are_long(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the models read."""
        return [1 + len(tokens) > self.context_length for tokens in self.tokenizer.encode_documents(texts)]

    def _encode(self, text: str, number: int) -> list[int]:
        if not text.strip():
            raise UserError(f"text {number} is empty", fix="give it words, or leave it out")
        tokens = [self.tokenizer.end_of_text_id, *self.tokenizer.encode(text)]
        if len(tokens) > self.context_length and not self.truncates:
            raise UserError(
                f"text {number} has {len(tokens)} tokens, and the model reads {self.context_length}", fix="shorten it"
            )
        return tokens[: self.context_length]


def load_classifier(target: Path, adapters: Sequence[Path] = ()) -> Classifier:
    """The classifier of a run, of all folds below ``target``, or of ``adapters`` on the base ``target``.

    Raises:
        UserError: there is none, an adapter does not belong to the base, or weights have been changed.
    """
    folders = list(adapters) or [outcome_of(RunDir(folder)) for folder in runs_below(target)]
    cards = [read_card(folder) for folder in folders]
    for card in cards:
        if card.task != "classification":
            raise UserError(f"{card.folder} is no classifier", fix="use `zerostream generate` for it")
        if card.classes != cards[0].classes:
            raise UserError(f"{card.folder} and {cards[0].folder} have different classes", fix="ask them one by one")
    loaded = [_load(card, target if adapters else None) for card in cards]
    tokenizers = {tokenizer.fingerprint: tokenizer for _, tokenizer in loaded}
    if len(tokenizers) > 1:
        raise UserError("the adapters have bases with different tokenizers", fix="ask them one by one")
    first = cards[0]
    return Classifier(
        first.classes,
        first.class_ages,
        min(card.context_length for card in cards),
        all(card.truncates for card in cards),
        next(iter(tokenizers.values())),
        tuple(
            Member(model, _companion(card), card.ensemble_weight)
            for card, (model, _) in zip(cards, loaded, strict=True)
        ),
    )


def runs_below(target: Path) -> list[Path]:
    """``target`` itself if it is a run, else the runs of its folds in order.

    A fold ends in its number: ``fold-old``, set aside beside them, is none.

    Raises:
        UserError: it is neither.
    """
    if RunDir(target).config.is_file():
        return [target]
    folds = sorted(
        (
            path
            for path in target.glob(FOLD_FOLDER.format("*"))
            if path.name.removeprefix(_FOLD_PREFIX).isdecimal() and RunDir(path).config.is_file()
        ),
        key=lambda path: int(path.name.removeprefix(_FOLD_PREFIX)),
    )
    if not folds:
        raise UserError(
            f"{target} is no fine-tuned run, and has no folds below it",
            fix="name the run_dir of `zerostream finetune`, or a base with --adapter",
        )
    return folds


def _companion(card: Card) -> TfidfClassifier | None:
    if not card.ensemble_with:
        return None
    from framework.plugins.lora.tfidf import load_tfidf

    return load_tfidf(card.folder)


def _load(card: Card, base_folder: Path | None) -> tuple[SequenceClassifier, Tokenizer]:
    import torch

    from framework.plugins.lora.classifier import SequenceClassifier

    transformer: Any
    if card.method == "full":
        from transformers import AutoModelForSequenceClassification

        tokenizer = load_tokenizer(card.folder)
        transformer = AutoModelForSequenceClassification.from_pretrained(
            card.folder, use_safetensors=True, trust_remote_code=False, dtype="float32"
        )
    else:
        from framework.plugins.lora.adapters import load_adapter
        from framework.plugins.lora.classifier import build_classifier

        base = open_base(str(base_folder)) if base_folder is not None else open_base(card.base)
        card.refuse_other_base(base)
        tokenizer = base.tokenizer
        model = build_classifier(base.load(), len(card.classes), tokenizer.end_of_text_id)
        if card.quantization != "none":
            from framework.plugins.lora.quantization import refuse_missing_bitsandbytes, round_to_nf4

            refuse_missing_bitsandbytes()
            round_to_nf4(model)
        transformer = load_adapter(model, card.folder)
    classifier = SequenceClassifier(
        transformer, tokenizer.end_of_text_id, torch.eye(len(card.classes)), pooling=card.pooling
    )
    return classifier.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


def _probabilities(
    model: SequenceClassifier, rows: Sequence[list[int]], pad_id: int
) -> Iterator[npt.NDArray[np.float64]]:
    import torch

    device = next(model.parameters()).device
    for first in range(0, len(rows), _TEXTS_AT_ONCE):
        some = rows[first : first + _TEXTS_AT_ONCE]
        input_ids = torch.full((len(some), max(map(len, some))), pad_id, dtype=torch.int64)
        for row, tokens in enumerate(some):
            input_ids[row, : len(tokens)] = torch.tensor(tokens)
        with torch.no_grad():
            yield model.log_probs(input_ids.to(device)).double().exp().cpu().numpy()
