"""A canary: every attack tries to make a file of that name, in the working directory. Alive means that nothing has run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMAND = "touch ran"


class Payload:
    """Unpickled, it runs ``COMMAND``."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (COMMAND,)


@pytest.fixture
def payload() -> Payload:
    return Payload()


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Works in an empty folder; when the test is over, no attack may have made ``ran`` in it."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = folder / "ran"
    yield path
    assert not path.exists(), "code has run"
