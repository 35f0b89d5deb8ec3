"""Disks that refuse: really full, really read-only, really limited."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from framework import failpoints

LimitFiles = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def limit_files() -> LimitFiles:
    """In its body no file of this process may grow beyond so many bytes; a write across the limit is cut short."""

    @contextmanager
    def limit(size_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB; skips where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root; the file size limit is tested instead")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def full_standard_error(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """In its body standard error is a file on a disk without space. Not before: pytest sets its own for each test."""

    @contextmanager
    def replace() -> Iterator[None]:
        file = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", buffering=1)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", file)
            with pytest.raises(OSError, match="No space left"):
                print("nothing can be said", file=sys.stderr, flush=True)
            yield
        with suppress(OSError):  # of what waits in its buffer
            file.close()

    return replace


@pytest.fixture
def arm() -> Iterator[Callable[[str], None]]:
    """Arms failpoints for one test."""
    yield failpoints.arm
    failpoints.arm("")
