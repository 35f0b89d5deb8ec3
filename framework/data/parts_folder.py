"""What parts leave for each other and for the merge, in ``parts/`` of the shards folder.

    plan.json               how many parts, of which settings, with which tokenizer; written once, by the first
    tokenizer/
    part-00001.log          what a part has tokenized (``framework.data.part_log``)
    part-00001.lock         held while the part is at work
    part-00001.done.json    written when it is finished: its presence means that the log is whole

The folder goes when the manifest is written.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from framework.data.cut import Cut, PartNumber
from framework.data.journal import Settings, refuse_other_settings
from framework.data.manifest import TOKENIZER_FOLDER
from framework.data.tokenizer import Tokenizer, load_tokenizer
from framework.durable import is_locked, storage_errors, write_durably
from framework.errors import ShardError, TokenizerError

PARTS_FOLDER = "parts"
_PLAN_NAME = "plan.json"


@dataclass(frozen=True)
class PieceRead:
    """Of a piece that a part has read to its end: so many batches, and the fingerprint of all its documents."""

    piece: int
    batches: int
    fingerprint: str


@dataclass(frozen=True)
class PartDone:
    """A finished part. ``tokens`` counts each document's end-of-text; ``text_bytes`` is UTF-8 text without it."""

    documents: int
    tokens: int
    text_bytes: int
    log_bytes: int
    pieces: tuple[PieceRead, ...]


@dataclass(frozen=True)
class PartsPlan:
    """What all parts of one ``prepare`` have agreed on. ``owners`` is that of ``framework.data.cut.Cut``."""

    parts: int
    settings: Settings
    tokenizer_fingerprint: str
    batch_bytes: int
    owners: list[int | None]

    @property
    def cut(self) -> Cut:
        """Which part does what."""
        return Cut(tuple(self.owners), self.parts)

    def refuse_other(self, shards_dir: Path, settings: Settings, parts: int | None) -> None:
        """Refuses a part of something else; ``parts`` is None for who asks for the merge alone.

        Raises:
            ShardError: names what differs, with both values.
        """
        refuse_other_settings(settings, shards_dir, self.settings)
        if parts is not None and parts != self.parts:
            raise ShardError(
                f"data.shards_dir {shards_dir} is being prepared in {self.parts} parts, not in {parts}",
                fix=f"write --part K/{self.parts}, or remove {shards_dir / PARTS_FOLDER} to begin again in {parts}",
            )


class PartsFolder:
    """Names, reads and writes the files of ``parts/``."""

    def __init__(self, shards_dir: Path) -> None:
        self.shards_dir = shards_dir
        self.path = shards_dir / PARTS_FOLDER
        self.plan_path = self.path / _PLAN_NAME

    def log(self, number: int) -> Path:
        """What part ``number``, counted from 1, has tokenized."""
        return self.path / f"part-{number:05d}.log"

    def lock(self, number: int) -> Path:
        """Held by the process that works on the part."""
        return self.path / f"part-{number:05d}.lock"

    def _done(self, number: int) -> Path:
        return self.path / f"part-{number:05d}.done.json"

    def make(self) -> None:
        """Makes the folder, if it is not there.

        Raises:
            StorageError: the file system refuses.
        """
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def load_plan(self) -> PartsPlan | None:
        """The plan; None if no part has begun.

        Raises:
            ShardError: it cannot be read.
        """
        values = self._read(self.plan_path)
        try:
            return None if values is None else PartsPlan(**values)
        except TypeError as error:
            raise self._damaged(self.plan_path, error) from None

    def save_plan(self, plan: PartsPlan, tokenizer: Tokenizer) -> None:
        """Writes the tokenizer, then the plan: who finds a plan finds the tokenizer.

        Raises:
            StorageError: the file system refuses.
        """
        tokenizer.save(self.path / TOKENIZER_FOLDER)
        write_durably(self.plan_path, json.dumps(asdict(plan), indent=1).encode())

    def load_tokenizer(self, plan: PartsPlan) -> Tokenizer:
        """The tokenizer of all parts.

        Raises:
            ShardError: it is missing, or another.
        """
        folder = self.path / TOKENIZER_FOLDER
        try:
            tokenizer = load_tokenizer(folder)
        except TokenizerError as error:
            raise self._damaged(folder, error.cause) from error
        if tokenizer.fingerprint != plan.tokenizer_fingerprint:
            raise self._damaged(folder, f"it is not the tokenizer of {self.plan_path}")
        return tokenizer

    def load_done(self, number: int) -> PartDone | None:
        """What a finished part says of itself; None if it is not finished.

        Raises:
            ShardError: it cannot be read.
        """
        path = self._done(number)
        values = self._read(path)
        try:
            if values is None:
                return None
            pieces = tuple(PieceRead(*piece) for piece in values.pop("pieces"))
            return PartDone(**values, pieces=pieces)
        except (TypeError, KeyError, AttributeError) as error:
            raise self._damaged(path, error) from None

    def save_done(self, number: int, done: PartDone) -> None:
        """Declares a part finished, whose log is synced.

        Raises:
            StorageError: the file system refuses.
        """
        pieces = [[piece.piece, piece.batches, piece.fingerprint] for piece in done.pieces]
        values = {**asdict(done), "pieces": pieces}
        write_durably(self._done(number), json.dumps(values).encode())

    def unfinished(self, plan: PartsPlan) -> list[int]:
        """Numbers of the parts that are not finished."""
        return [number for number in range(1, plan.parts + 1) if not self._done(number).exists()]

    def refuse_unfinished(self, plan: PartsPlan) -> None:
        """Refuses a merge that is too early.

        Raises:
            ShardError: parts are not finished; names what goes on with them.
        """
        missing = self.unfinished(plan)
        if not missing:
            return
        at_work = [number for number in missing if is_locked(self.lock(number))]
        waiting = [number for number in missing if number not in at_work]
        now = f" (at work now: {_listed(at_work)})" if at_work else ""
        go_on = f"run it with {' and '.join(f'--part {PartNumber(number, plan.parts)}' for number in waiting[:4])}"
        raise ShardError(
            f"data.shards_dir {self.shards_dir} is being prepared in {plan.parts} parts, of which {_listed(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not finished{now}",
            fix=f"{go_on if waiting else 'wait for them'}, or remove {self.path} to prepare it in one",
        )

    def remove(self) -> None:
        """Removes the folder; what cannot be removed is left: once there is a manifest, nobody needs it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def damaged(self, number: int, what: str) -> ShardError:
        """The refusal of a finished part whose log is not what it should be."""
        return ShardError(
            f"{self.log(number)} is damaged: {what}",
            fix=f"remove {self._done(number)} and run that part again: it goes on from what is whole",
        )

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            values = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise self._damaged(path, error) from None
        if not isinstance(values, dict):
            raise self._damaged(path, "it holds no object")
        return values

    def _damaged(self, path: Path, what: object) -> ShardError:
        return ShardError(f"{path} cannot be read: {what}", fix=f"remove {self.path} and begin the parts again")


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:12])
    return shown + (f" and {len(numbers) - 12} more" if len(numbers) > 12 else "")
