"""What several unit tests need: shards of chosen tokens, the real command line in this process, and folder listings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from framework.data.manifest import SPLITS, ShardManifest
from framework.data.shards import ShardWriter, shard_name

# The machine may be busy with measurements: a slow example is no failure. The continuous integration tries the same examples
# each time, so that a change is judged by itself; whoever runs the tests at a desk looks for new ones.
settings.register_profile("unhurried", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("unhurried")

END_OF_TEXT_ID = 0

Documents = Sequence[Sequence[int]]
WriteShards = Callable[..., ShardManifest]
Listing = Callable[[Path], dict[str, bytes | None]]


@dataclass(frozen=True)
class CommandResult:
    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        return self.err.strip().splitlines()[-1]


RunCli = Callable[..., CommandResult]


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunCli:
    """Runs ``zerostream`` with these arguments in this process."""

    def run(*arguments: object) -> CommandResult:
        from launch import cli

        monkeypatch.setattr(sys, "argv", ["zerostream", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        code = ended.value.code
        return CommandResult(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def listing() -> Listing:
    """Everything below a folder: files with their bytes, folders with None."""

    def list_folder(folder: Path) -> dict[str, bytes | None]:
        return {
            str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(folder.rglob("*"))
        }

    return list_folder


@pytest.fixture(scope="session")
def write_shards() -> WriteShards:
    """Writes one shard per list of documents and the manifest; end-of-text (id 0) is added to each document."""

    def write(
        folder: Path, train: Sequence[Documents], validation: Sequence[Documents] = (), dtype: str = "uint16"
    ) -> ShardManifest:
        folder.mkdir(parents=True, exist_ok=True)
        entries = []
        for split, shards in zip(SPLITS, (train, validation), strict=True):
            for index, documents in enumerate(shards):
                writer = ShardWriter(folder, shard_name(split, index), split, dtype)
                for document in documents:
                    writer.add(np.array([*document, END_OF_TEXT_ID], dtype=dtype), text_bytes=3 * len(document))
                entries.append(writer.close())
        manifest = ShardManifest(
            tokenizer_fingerprint="0" * 64,
            source_fingerprint="1" * 64,
            settings_fingerprint="2" * 64,
            vocab_size=60_000,
            token_dtype=dtype,  # type: ignore[arg-type]
            end_of_text_id=END_OF_TEXT_ID,
            shards=tuple(entries),
        )
        manifest.save(folder)
        return manifest

    return write
