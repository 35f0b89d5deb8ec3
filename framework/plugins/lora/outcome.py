"""What a fine-tuned run leaves behind for others: its adapter in peft's own format, or its whole model.

    RUN_DIR/adapter/   adapter_config.json, adapter_model.safetensors     method lora
    RUN_DIR/model/     config.json, model.safetensors, tokenizer          method full
    .../tfidf.json, .../tfidf.safetensors   what the model answers together with, where it is an ensemble
    .../zerostream.json   which base it belongs to, its classes, and the hashes of all that is beside it and of itself

It is made from the newest checkpoint that verifies, which holds every trained number whole, whatever ranks and stage wrote it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.checkpoint.manifest import hash_file
from framework.durable import storage_errors, write_durably
from framework.errors import RunDirError, UserError
from framework.plugins.lora.base import Base, read_object
from framework.plugins.lora.classification import CLASSES_FILE
from framework.plugins.lora.completion import STORED_FILE
from framework.plugins.lora.options import Pooling
from framework.plugins.lora.tfidf import NUMBERS_FILE, TERMS_FILE
from framework.run_dir import RunDir

CARD_FILE = "zerostream.json"
_FIX = "name a folder that fine-tuning wrote"
FOLDERS = {"lora": "adapter", "full": "model"}


@dataclass(frozen=True)
class Card:
    """What ``zerostream.json`` says of the weights beside it."""

    folder: Path
    task: str
    method: str
    base: str
    base_fingerprint: str
    context_length: int
    truncates: bool
    """Whether a longer text loses its end; otherwise it is refused."""
    classes: tuple[str, ...]
    class_ages: tuple[float, ...] | None
    quantization: str
    """Of the base, while the adapter was trained on it."""
    pooling: Pooling
    ensemble_with: tuple[str, ...]
    ensemble_weight: float
    """The model's own, where it answers together with others."""

    def refuse_other_base(self, base: Base) -> None:
        """Raises:
        UserError: the adapter was made on other weights than those of ``base``.
        """
        if self.method == "lora" and base.fingerprint != self.base_fingerprint:
            raise UserError(
                f"adapter {self.folder} was made on other weights than those of base {base.name} "
                f"({self.base_fingerprint[:12]}, not {base.fingerprint[:12]})",
                fix=f"give it the base that it was made on ({self.base})",
            )


def write_outcome(run_dir: RunDir) -> Path:
    """Writes the folder from the run's newest checkpoint, whole or not at all; one that is there already is replaced.

    Raises:
        RunDirError, CheckpointError: as ``load_trained``; the run has not finished.
        StorageError: the file system refuses.
    """
    from framework.train.trained import load_trained

    stored = _read_stored(run_dir)
    trained = load_trained(run_dir.path)
    folder = run_dir.path / FOLDERS[stored["method"]]
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    with storage_errors(folder):
        transformer: Any = trained.model.transformer.cpu()
        # No adapter sits on an embedding; peft would look for the base's config to find out.
        without_embeddings = {"save_embedding_layers": False} if stored["method"] == "lora" else {}
        transformer.save_pretrained(temporary, **without_embeddings)
        if stored["method"] == "full":
            trained.tokenizer.save_for_transformers(temporary)
        (temporary / "README.md").unlink(missing_ok=True)  # peft's empty form
        for name in (TERMS_FILE, NUMBERS_FILE) if stored.get("ensemble_with") else ():
            shutil.copyfile(run_dir.path / name, temporary / name)
        files = {file.name: hash_file(file) for file in sorted(temporary.iterdir())}
        card = {**stored, "step": trained.step, "files": files}
        card["sha256"] = _digest_of(card)
        write_durably(temporary / CARD_FILE, (json.dumps(card, indent=1) + "\n").encode())
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    return folder


def outcome_of(run_dir: RunDir) -> Path:
    """The folder of a run's newest checkpoint, made if it is not there."""
    stored = _read_stored(run_dir)
    folder = run_dir.path / FOLDERS[stored["method"]]
    if not (folder / CARD_FILE).is_file():
        return write_outcome(run_dir)
    steps = run_dir.checkpoint_steps()  # none are left of a run that was tidied up
    is_newest = not steps or read_object(folder / CARD_FILE, fix=_FIX).get("step") == steps[-1]
    return folder if is_newest else write_outcome(run_dir)


def read_card(folder: Path) -> Card:
    """What the folder says of its weights, after every file has been compared with its hash.

    Whoever changes a file can change the digests as well: they find accidents and mixed-up files, and prove nothing.

    Raises:
        UserError: it is no such folder, or a file of it is missing or has been changed.
    """
    values = read_object(folder / CARD_FILE, fix=_FIX)
    try:
        card = Card(
            folder=folder,
            task=values["task"],
            method=values["method"],
            base=values["base"],
            base_fingerprint=values["base_fingerprint"],
            context_length=values["context_length"],
            truncates=values["on_long_text"] == "truncate",
            classes=tuple(values.get("classes", ())),
            class_ages=None if values.get("class_ages") is None else tuple(values["class_ages"]),
            quantization=values.get("quantization", "none"),
            pooling=values.get("pooling", "last"),
            ensemble_with=tuple(values.get("ensemble_with", ())),
            ensemble_weight=values.get("ensemble_weight", 1.0),
        )
        files, digest = dict(values["files"]), values["sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / CARD_FILE} lacks {error}", fix="start `zerostream finetune` again: it writes the folder anew"
        ) from None
    changed = [] if digest == _digest_of(values) else [CARD_FILE]
    changed += [name for name in files if not (folder / name).is_file() or hash_file(folder / name) != files[name]]
    if changed:
        raise UserError(
            f"{folder / changed[0]} is not what was saved (its hash differs)",
            fix="copy the folder again from where it was made",
        )
    return card


def _digest_of(card: Mapping[str, Any]) -> str:
    values = {key: value for key, value in card.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _read_stored(run_dir: RunDir) -> dict[str, Any]:
    for name in (CLASSES_FILE, STORED_FILE):
        if (run_dir.path / name).is_file():
            stored = read_object(run_dir.path / name, fix=_FIX)
            if stored.get("method") in FOLDERS:
                return stored
            raise RunDirError(
                f"{run_dir.path / name} has method {stored.get('method')!r}, and not one of {', '.join(FOLDERS)}",
                fix="start `zerostream finetune` again: it writes the file anew",
            )
    raise RunDirError(
        f"{run_dir.path} is no fine-tuned run ({CLASSES_FILE} is missing)",
        fix="name the run_dir of `zerostream finetune`",
    )
