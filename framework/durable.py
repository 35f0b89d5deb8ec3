"""Writing so that a file exists whole or not at all, and naming what the file system refused.

A file is written beside its final name, synced, renamed, and its folder is synced: after a crash either the old or
the new content is there. Every refusal (no space, read-only, no permission, input/output error) is a
``StorageError``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from framework.errors import StorageError, UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FOLDER = {errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP}
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an ``OSError`` of writing ``path`` into a ``StorageError``; keep what else may fail out of its body."""
    try:
        yield
    except OSError as error:
        raise _refusal(path, error) from error


def write_durably(path: Path, content: bytes) -> None:
    """Writes ``path`` whole or not at all.

    Raises:
        StorageError: the file system refuses; the temporary file is gone and an older ``path`` is untouched.
    """
    temporary = temporary_of(path)
    try:
        with storage_errors(path):
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def temporary_of(path: Path) -> Path:
    """Where ``path`` is written before it is renamed."""
    return path.with_name(f"{path.name}.tmp")


def sync_folder(folder: Path) -> None:
    """Makes renames and removals in ``folder`` last beyond a crash.

    Raises:
        OSError: an input/output error.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int | None:
    """Size of a file in bytes; None if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def free_bytes(path: Path) -> int:
    """Free space of the file system on which ``path`` is, or will be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


@contextmanager
def only_one_writer(lock: Path, *, refusal: UserError) -> Iterator[None]:
    """Holds ``lock`` for as long as the body runs; the file is removed afterwards, and a kill frees it as well.

    Raises:
        UserError: ``refusal``, when another process holds it.
        StorageError: the file system refuses, or offers no locks.
    """
    descriptor = _acquire(lock, refusal)
    try:
        yield
    finally:
        # Removed before it is released: who waits for no lock can then never hold a file that is already gone.
        with suppress(OSError):
            lock.unlink(missing_ok=True)
        os.close(descriptor)


def is_locked(lock: Path) -> bool:
    """Whether another process holds ``lock`` now; asking disturbs nobody."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: those who only ask do not see each other
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    finally:
        os.close(descriptor)
    return False


def _acquire(lock: Path, refusal: UserError) -> int:
    while True:
        with storage_errors(lock):
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(lock, descriptor):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            raise (refusal if error.errno == errno.EWOULDBLOCK else _lock_refusal(lock, error)) from None
        os.close(descriptor)  # the holder removed it between open and flock: try the new one


def _is_still(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock_refusal(lock: Path, error: OSError) -> StorageError:
    if error.errno in _NO_LOCKS:
        return StorageError(
            f"the file system of {lock.parent} offers no file locks ({error.strerror})",
            fix="choose a folder on another file system, such as a local disk",
        )
    return _refusal(lock, error)


def _refusal(path: Path, error: OSError) -> StorageError:
    reason = error.strerror or type(error).__name__
    if error.errno in _FULL:
        with suppress(OSError):
            reason = f"{reason} ({free_bytes(path.parent) / 1e6:.1f} MB free there)"
        fix = "free space or lift the quota, then run the same command again: it goes on where it stopped"
    elif error.errno in _FORBIDDEN:
        fix = f"choose a folder you may write to, or allow writing into {path.parent}; finished parts are kept"
    elif error.errno in _NO_FOLDER:
        fix = f"choose a path whose parent {path.parent} is a folder or can be made one"
    else:
        fix = "check the disk, then run the same command again: it goes on where it stopped"
    return StorageError(f"{path} cannot be written: {reason}", fix=fix)
