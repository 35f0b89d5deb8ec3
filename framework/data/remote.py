"""Shards behind a URL, read through a folder of this machine that stays within a bound.

    read(shard)     in the cache, and verifies       -> decoded from there, and the newest in it from now on
                    else fetched, up to twice        -> verified, kept if room can be made, decoded
    room            least recently read shards go first; never one that a process of this machine holds

What is fetched is verified in memory before a byte of it is written. Everything here is safe for several processes and
threads of one machine: a shard is fetched by one of them while the others wait, and the folder is changed by one at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import random
import threading
import time
from collections import ChainMap
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from framework.data.journal import JOURNAL_NAME
from framework.data.manifest import MANIFEST_NAME, TOKENIZER_FOLDER, ShardEntry, parse_manifest
from framework.data.shards import ShardContent, decode_shard, read_verified
from framework.data.tokenizer import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE
from framework.durable import size_of, storage_errors, write_durably
from framework.errors import ConfigError, ShardError, StorageError

# fmt: off
STORAGES = (
    "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hdfs", "webhdfs",
    "ftp", "sftp", "ssh", "smb", "webdav", "hf", "file", "memory",
)
# fmt: on
"""Places that hold files. Others of fsspec's protocols run code, open archives, or wrap one of these."""

MANIFEST_LIMIT_BYTES = 256 * 1024 * 1024
TOKENIZER_LIMIT_BYTES = 256 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
_LOCK_NAME = "cache.lock"
_POLL_SECONDS = 0.02

_log = logging.getLogger(__name__)
_jitter = random.SystemRandom()  # not the generators that training draws from


@dataclass(frozen=True)
class Retry:
    """How often to ask, how long to wait between (exponential, with jitter), and how long one answer may take.

    Jitter: Brooker 2015, "Exponential Backoff And Jitter": readers that failed together must not come back together.
    """

    attempts: int = 6
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 30.0
    attempt_seconds: float = 60.0
    slowest_bytes_per_second: float = 1e6
    """A large file may take longer than ``attempt_seconds``: as long as this rate makes of it."""

    def deadline_seconds(self, size_bytes: int) -> float:
        """Of one attempt."""
        return self.attempt_seconds + size_bytes / self.slowest_bytes_per_second

    def waits(self) -> Iterator[float]:
        """Seconds to wait after each failed attempt but the last."""
        for attempt in range(self.attempts - 1):
            yield _jitter.uniform(0.5, 1.0) * min(self.longest_wait_seconds, self.first_wait_seconds * 2**attempt)


class RemoteFolder:
    """The files of one folder behind an fsspec URL; ``key`` is where the config names it, for messages."""

    def __init__(self, url: str, retry: Retry | None = None, *, key: str = "data.remote") -> None:
        """Opens no connection yet.

        Raises:
            ConfigError: the URL names no storage, or what reads it is not installed.
        """
        _refuse_odd_url(url, key)
        self.key = key
        self._url = url.rstrip("/")
        self.retry = retry or Retry()
        self._is_http = url.split(":")[0] in ("http", "https")
        try:
            self._files, root = _open_storage(self._url)
        except (ImportError, ValueError, OSError) as error:
            raise ConfigError(
                f"{key} {self.name} cannot be opened: {error}",
                fix="install what it names into .venv (docs/data.md says how), or use another URL",
            ) from error
        self._root = root.rstrip("/")

    @property
    def name(self) -> str:
        """The URL for messages: without user and password."""
        scheme, _, rest = self._url.partition("://")
        return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}{''.join(rest.partition('/')[1:])}"

    def fetch(self, file: str, size_bytes: int, *, deadline_seconds: float) -> bytes:
        """The content of ``file``, or its first ``size_bytes`` + 1 bytes if it is longer.

        Raises:
            FileNotFoundError: the remote says that there is no such file.
            StorageError: no attempt was answered in time and whole, or we may not read it, which is not tried again.
        """
        waits = self.retry.waits()
        while True:
            try:
                return _in_time(lambda: self._read(file, size_bytes), deadline_seconds)
            except FileNotFoundError:
                raise
            except PermissionError as error:
                raise StorageError(
                    f"{self.name}/{file} may not be read: {self._reason(error)}",
                    fix=f"check {self.key} and the credentials in the environment, then run the same command again",
                ) from error
            except Exception as error:  # refused, reset, cut short, late, 500: as many classes as storages, one meaning
                wait = next(waits, None)
                if wait is None:
                    raise StorageError(
                        f"{self.name}/{file} cannot be fetched, {self.retry.attempts} times over: {self._reason(error)}",
                        fix=f"check {self.key}, the network and its credentials, then run the same command again: it goes on "
                        "where it stopped",
                    ) from error
            time.sleep(wait)

    def _reason(self, error: Exception) -> str:
        text = " ".join(str(error).split()).replace(self._url, self.name)[:200]
        return f"{type(error).__name__}: {text}" if text else type(error).__name__

    def _read(self, file: str, size_bytes: int) -> bytes:
        # A stream of one request: the size of what is asked for is known, and ranges are not every server's.
        options: dict[str, Any] = {"block_size": 0, "size": size_bytes} if self._is_http else {}
        content = bytearray()
        with self._files.open(f"{self._root}/{file}", "rb", **options) as stream:
            while len(content) <= size_bytes:
                chunk = stream.read(min(_CHUNK_BYTES, size_bytes + 1 - len(content)))
                if not chunk:
                    break
                content += chunk
        return bytes(content)


class RemoteShards:
    """The shards of a remote folder, behind ``folder``, the cache of this machine.

    Args:
        remote: where the shards are.
        folder: the cache; ``open_cache`` has prepared it.
        cache_bytes: how much of it shards may fill. What finds no room is read without being kept.
    """

    def __init__(self, remote: RemoteFolder, folder: Path, cache_bytes: int) -> None:
        self._remote = remote
        self._folder = folder
        self._cache_bytes = cache_bytes
        self._has_complained = False

    def where(self, entry: ShardEntry) -> str:
        """The shard's address, for messages."""
        return f"{self._remote.name}/{entry.name}"

    def read(self, entry: ShardEntry) -> ShardContent:
        """A shard's content, verified. A shard that does not verify is fetched once more before it counts as bad.

        Raises:
            ShardError: the remote has no such shard, or another than the manifest describes.
            StorageError: the remote does not answer.
        """
        content = self._cached(entry)
        if content is None:
            with _alone(self._folder / f"{entry.name}.lock", self._deadline_seconds(entry)):
                content = self._cached(entry)  # fetched by whoever held the lock
                if content is None:
                    content = self._fetch(entry)
                    self._keep(entry, content)
        return decode_shard(self.where(entry), content, entry)

    def hold(self, entry: ShardEntry) -> int | None:
        """Brings a shard into the cache if it is not there, and keeps it there until the descriptor that is returned is
        closed; None if there is no room.

        Raises:
            ShardError, StorageError: as ``read``.
        """
        path = self._folder / entry.name
        descriptor = _hold(path, entry)
        if descriptor is not None:
            return descriptor
        with _alone(self._folder / f"{entry.name}.lock", self._deadline_seconds(entry)):
            descriptor = _hold(path, entry)
            if descriptor is not None:
                return descriptor
            with self._cache_locked() as is_mine:
                if not is_mine or not self._make_room(entry):
                    return None
            self._keep(entry, self._fetch(entry))
        return _hold(path, entry)

    def _deadline_seconds(self, entry: ShardEntry) -> float:
        """Of one attempt, and of waiting for another process that fetches: one that was stopped must not stop all others."""
        return self._remote.retry.deadline_seconds(entry.size_bytes)

    def _cached(self, entry: ShardEntry) -> bytes | None:
        path = self._folder / entry.name
        if size_of(path) != entry.size_bytes:
            return None
        try:
            content = read_verified(path, entry)
        except ShardError:  # damaged here, or evicted in this moment
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)  # what is the least recently used is told by it
        return content

    def _fetch(self, entry: ShardEntry) -> bytes:
        for _ in range(2):
            try:
                content = self._remote.fetch(
                    entry.name, entry.size_bytes, deadline_seconds=self._deadline_seconds(entry)
                )
            except FileNotFoundError:
                raise ShardError(
                    f"shard {self.where(entry)} is missing, but stands in the manifest", fix=_PUT_IT_BACK
                ) from None
            if len(content) == entry.size_bytes and hashlib.sha256(content).hexdigest() == entry.sha256:
                return content
        raise ShardError(
            f"shard {self.where(entry)} is damaged: {len(content)} bytes were fetched twice, and they are not the manifest's",
            fix=_PUT_IT_BACK,
        )

    def _keep(self, entry: ShardEntry, content: bytes) -> None:
        """Puts verified bytes into the cache if there is room. A disk that refuses costs the cache, not the run."""
        try:
            with self._cache_locked() as is_mine:
                if is_mine and self._make_room(entry):
                    write_durably(self._folder / entry.name, content)
        except StorageError as error:
            if not self._has_complained:
                self._has_complained = True
                _log.warning("%s; going on without keeping what is fetched", error.cause)

    def _cache_locked(self) -> AbstractContextManager[bool]:
        return _alone(self._folder / _LOCK_NAME, self._remote.retry.attempt_seconds)

    def _make_room(self, entry: ShardEntry) -> bool:
        """Removes what was read longest ago until ``entry`` fits; False if it cannot. The cache is locked."""
        for unfinished in self._folder.glob("*.tar.tmp"):  # a kill left it: who writes holds the lock
            with storage_errors(unfinished):
                unfinished.unlink(missing_ok=True)
        shards = sorted(
            (stat.st_mtime_ns, stat.st_size, path)
            for path in self._folder.glob("*.tar")
            if (stat := _stat(path)) is not None and path.name != entry.name
        )
        free = self._cache_bytes - sum(size for _, size, _ in shards)
        for _, size, path in shards:
            if free >= entry.size_bytes:
                break
            if _remove_unless_held(path):
                free += size
        return free >= entry.size_bytes


_PUT_IT_BACK = "put the shard that was prepared back there, or set data.on_bad_shard=skip to leave its sequences out"


def open_cache(remote: RemoteFolder, folder: Path) -> None:
    """Fetches the remote's manifest and tokenizer into ``folder``, or sees that what was fetched before is still theirs.

    Raises:
        ShardError: the remote holds no shards, or others than the cache; or the folder was prepared here.
        StorageError: the remote does not answer, or the folder cannot be written.
    """
    if (folder / JOURNAL_NAME).exists():
        raise ShardError(
            f"shards_dir {folder} was prepared here, and is no cache of {remote.name}",
            fix=f"choose another shards_dir for the cache, or leave {remote.key} out",
        )
    content = _fetch_small(remote, MANIFEST_NAME, MANIFEST_LIMIT_BYTES)
    parse_manifest(content, f"{remote.name}/{MANIFEST_NAME}")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / _LOCK_NAME, remote.retry.attempt_seconds) as is_mine:
        if not is_mine:
            raise StorageError(
                f"another process has kept {folder / _LOCK_NAME} too long",
                fix="end what still runs with this shards_dir, or choose another",
            )
        manifest = folder / MANIFEST_NAME
        if not manifest.exists():
            _fetch_tokenizer(remote, folder / TOKENIZER_FOLDER)
            write_durably(manifest, content)  # last: its presence means that the tokenizer is there
        elif manifest.read_bytes() != content:
            raise ShardError(
                f"the manifest of {remote.name} is not the one that shards_dir {folder} is a cache of",
                fix=f"point {remote.key} to the shards that this run began with, or, for a new run, remove {folder}",
            )


def _fetch_small(remote: RemoteFolder, file: str, limit_bytes: int) -> bytes:
    try:
        content = remote.fetch(file, limit_bytes, deadline_seconds=remote.retry.attempt_seconds)
    except FileNotFoundError:
        raise ShardError(
            f"{remote.key} {remote.name} holds no {file}",
            fix=f"copy the whole folder there that `zerostream prepare` wrote, or correct {remote.key}",
        ) from None
    if len(content) > limit_bytes:
        raise ShardError(f"{remote.name}/{file} is larger than {limit_bytes} bytes", fix=f"correct {remote.key}")
    return content


def _fetch_tokenizer(remote: RemoteFolder, folder: Path) -> None:
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
    tokenizer = _fetch_small(remote, f"{TOKENIZER_FOLDER}/{TOKENIZER_FILE}", TOKENIZER_LIMIT_BYTES)
    with suppress(FileNotFoundError):  # it only names end-of-text where that is not the usual one
        config = remote.fetch(
            f"{TOKENIZER_FOLDER}/{TOKENIZER_CONFIG_FILE}",
            TOKENIZER_LIMIT_BYTES,
            deadline_seconds=remote.retry.attempt_seconds,
        )
        write_durably(folder / TOKENIZER_CONFIG_FILE, config)
    write_durably(folder / TOKENIZER_FILE, tokenizer)


def _refuse_odd_url(url: str, key: str) -> None:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in STORAGES or "::" in url:
        shown = scheme if separator else url.partition(":")[0]
        raise ConfigError(
            f"{key} begins with {shown!r}, which is no storage",
            fix=f"write a URL that begins with one of {', '.join(STORAGES)} and ://",
        )
    if urlsplit(url).query or urlsplit(url).fragment:
        raise ConfigError(
            f"{key} has a query or fragment, and file names cannot follow these",
            fix="name the folder alone; give credentials through the environment",
        )


def _open_storage(url: str) -> tuple[Any, str]:
    """fsspec's file system for ``url``, and the path in it. What the user's own configuration of fsspec says holds."""
    import fsspec.config
    import fsspec.core

    scheme = url.partition("://")[0]
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        options["client_kwargs"] = {"trust_env": True}  # proxies and ~/.netrc, as other programs read them
    if scheme in ("s3", "s3a"):
        # botocore would ask five times, and s3fs five times that, for each attempt of ``Retry``.
        configured = (fsspec.config.conf.get(name, {}).get("config_kwargs", {}) for name in ("s3", "s3a"))
        options["config_kwargs"] = {"retries": {"total_max_attempts": 1}} | dict(ChainMap(*configured))
    files, path = fsspec.core.url_to_fs(url, **options)
    if scheme in ("s3", "s3a"):
        files.retries = 1
    return files, str(path)


def _in_time(read: Callable[[], bytes], seconds: float) -> bytes:
    """What ``read`` returns. Storages have time limits of their own or none at all, so it runs in a thread, which is left
    behind when it is late; it holds nothing but its own memory."""
    outcome: Future[bytes] = Future()

    def run() -> None:
        try:
            outcome.set_result(read())
        except BaseException as error:  # raised where the result is awaited
            outcome.set_exception(error)

    threading.Thread(target=run, name="shard-fetch", daemon=True).start()
    try:
        return outcome.result(timeout=seconds)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer within {seconds:.0f} s") from error


# --- Files of the cache ---


@contextmanager
def _alone(lock: Path, seconds: float) -> Iterator[bool]:
    """Whether nobody else on this machine holds ``lock`` while the body runs; waits up to ``seconds`` for that.

    Raises:
        StorageError: the file system refuses, or offers no locks.
    """
    with storage_errors(lock):
        descriptor = _lock_in_time(lock, time.monotonic() + seconds)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            with suppress(OSError):
                lock.unlink(missing_ok=True)  # before it is released, as in framework.durable
            os.close(descriptor)


def _lock_in_time(lock: Path, deadline: float) -> int | None:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(lock, descriptor):
                return descriptor
            os.close(descriptor)
            continue
        except BlockingIOError:
            os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_SECONDS)


def _hold(path: Path, entry: ShardEntry) -> int | None:
    """Opens a cached shard so that nobody removes it; None if it is not there whole."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if _is_still(path, descriptor) and os.fstat(descriptor).st_size == entry.size_bytes:
            return descriptor
    os.close(descriptor)
    return None


def _remove_unless_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
