"""What a power cut would leave: which files were synced, and what a file system may forget of those that were not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def record_durability(log: Path) -> None:
    """From here on this process writes a line for every sync and every rename, after it has happened."""

    def note(**values: str) -> None:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(descriptor, (json.dumps(values) + "\n").encode())
        os.close(descriptor)

    def synced(sync: Callable[[Any], None]) -> Callable[[Any], None]:
        def wrapped(file: Any) -> None:
            sync(file)
            number = file if isinstance(file, int) else file.fileno()
            note(did="sync", path=os.readlink(f"/proc/self/fd/{number}"))

        return wrapped

    def renamed(rename: Callable[..., None]) -> Callable[..., None]:
        def wrapped(source: Any, target: Any, **options: Any) -> None:
            rename(source, target, **options)
            note(did="rename", path=os.path.abspath(source), target=os.path.abspath(target))

        return wrapped

    os.fsync, os.fdatasync = synced(os.fsync), synced(os.fdatasync)
    os.rename, os.replace = renamed(os.rename), renamed(os.replace)


def cut_power(log: Path, folder: Path) -> None:
    """Leaves below ``folder`` what POSIX promises after a power cut, and no more.

    A file that was never synced is empty; a rename whose folder was not synced afterwards has not happened.
    """
    synced: set[str] = set()
    pending: list[tuple[str, str]] = []
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["did"] == "sync":
            synced.add(entry["path"])
            pending = [(old, new) for old, new in pending if str(Path(new).parent) != entry["path"]]
        else:
            old, new = entry["path"], entry["target"]
            synced = {
                new + path.removeprefix(old) if path == old or path.startswith(old + "/") else path for path in synced
            }
            pending.append((old, new))
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and str(path) not in synced:
            os.truncate(path, 0)
    for old, new in reversed(pending):
        if Path(new).exists() and not Path(old).exists():
            os.rename(new, old)
