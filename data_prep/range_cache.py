"""A cache of byte ranges on a node's disk, shared by all its processes.

Each range is a file of its own below two-digit folders. A file is complete when it has its final
name, and carries its length and checksum, so that what a crash or a bad disk leaves is never
served. How much the files take together stands in one small file, whose lock also admits one
process at a time to make room; nobody waits for that: a range that cannot be kept now is kept
another time. Ranges are of objects that never change, so nothing ever gets stale.
"""

import fcntl
import hashlib
import logging
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)

_HEADER = struct.Struct("<4sQI")
_MAGIC = b"SRC1"
_KEPT_FRACTION = 0.9
_TOUCH_SECONDS = 60
_LOST_NS = 3600 * 10**9
_BEING_WRITTEN = 2**63 - 1
_USED_AND_SIZE = np.dtype([("used", np.int64), ("size", np.int64)])
_LOCK_ATTEMPTS = 10
_LOCK_SECONDS = 0.002


class RangeCache:
    """At most ``limit_bytes`` of ranges below ``folder``; those longest unused go first.

    Safe for threads, processes and kills at any moment. It only ever saves reading: where the disk
    is full or cannot be written it warns once and keeps nothing more.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._has_failed = False

    def get(self, name: str) -> bytes | None:
        """The range that was put under ``name``; None where it is not held, or damaged."""
        path = self._path(name)
        try:
            with path.open("rb", buffering=0) as file:
                header, data = file.read(_HEADER.size), file.readall()
                if header != _header(name, data):
                    path.unlink(missing_ok=True)
                    return None
                if time.time() - os.fstat(file.fileno()).st_mtime > _TOUCH_SECONDS:
                    os.utime(file.fileno())
                return data
        except FileNotFoundError:
            return None
        except OSError as error:
            self._give_up(error)
            return None

    def put(self, name: str, data: bytes) -> None:
        """Keeps ``data``, if it is small enough and no other process is making room just now."""
        size = _HEADER.size + len(data)
        if self._has_failed or size > self._limit_bytes * _KEPT_FRACTION:
            return
        try:
            temporary = self._reserve(name, size)
            if temporary:
                self._fill(temporary, self._path(name), _header(name, data), data)
        except OSError as error:
            self._give_up(error)

    def forget(self, name: str) -> None:
        """Drops the range, if it is held."""
        with suppress(OSError):  # what it took stays counted until room is made the next time
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name[2:]

    def _give_up(self, error: OSError) -> None:
        if not self._has_failed:
            log.warning("the cache of ranges in %s keeps nothing more: %s", self._folder, error)
        self._has_failed = True

    def _reserve(self, name: str, size: int) -> Path | None:
        """An empty file of the full size, counted, under a hidden name; None if there is no room.

        It is made while the lock is held, so that whoever makes room counts it too.
        """
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked_count() as count:
            if count is None or path.exists():
                return None
            used = _read_count(count)
            if used is None or used + size > self._limit_bytes:
                used = self._make_room(size)
            if used + size > self._limit_bytes:
                return None
            temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
            with temporary.open("xb") as file:
                file.truncate(size)
            os.pwrite(count, b"%020d" % (used + size), 0)
        return temporary

    @staticmethod
    def _fill(temporary: Path, path: Path, *content: bytes) -> None:
        try:
            with temporary.open("r+b") as file:  # keeps the size that is counted
                for piece in content:
                    file.write(piece)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    @contextmanager
    def _locked_count(self) -> Iterator[int | None]:
        """The locked file that holds the count; None while another process keeps it for long."""
        descriptor = os.open(self._folder / "used", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            yield descriptor if _try_lock(descriptor) else None
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child forked meanwhile would keep it locked
            os.close(descriptor)

    def _make_room(self, size: int) -> int:
        """Removes what was longest unused until ``size`` and a tenth of the limit fit.

        Returns:
            Bytes of what is left.
        """
        files = np.fromiter(((used, size) for _, used, size in self._files()), _USED_AND_SIZE)
        left = int(files["size"].sum())
        excess = left + size - int(self._limit_bytes * _KEPT_FRACTION)
        if excess <= 0:
            return left
        files.sort(order="used")
        last = int(np.searchsorted(files["size"].cumsum(), excess))
        last_removed = min(int(files["used"][min(last, len(files) - 1)]), _BEING_WRITTEN - 1)
        for path, used, file_size in self._files():
            if used <= last_removed:
                Path(path).unlink(missing_ok=True)
                left -= file_size
        return left

    def _files(self) -> Iterator[tuple[str, int, int]]:
        """Path, time of last use in ns and size of all files but the count."""
        lost = time.time_ns() - _LOST_NS
        for folder in (entry for entry in os.scandir(self._folder) if entry.is_dir()):
            for file in os.scandir(folder):
                with suppress(FileNotFoundError):  # renamed, or found damaged and removed
                    state = file.stat()
                    is_new = file.name.startswith(".") and state.st_mtime_ns > lost
                    used = _BEING_WRITTEN if is_new else state.st_mtime_ns
                    yield file.path, used, state.st_size


def entry_name(root_uri: str, key: str, start: int, length: int) -> str:
    """The name of a range in the cache: a hash of all that identifies it."""
    return hashlib.sha256(f"{root_uri}\n{key}\n{start}\n{length}".encode()).hexdigest()


def _header(name: str, data: bytes) -> bytes:
    """Length and checksum of a range.

    The name is summed too: a range under the name of another is as bad as a damaged one.
    """
    return _HEADER.pack(_MAGIC, len(data), zlib.crc32(data, zlib.crc32(name.encode())))


def _try_lock(descriptor: int) -> bool:
    for _ in range(_LOCK_ATTEMPTS):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_LOCK_SECONDS)
    return False


def _read_count(descriptor: int) -> int | None:
    """What the files take together; None in a new cache, or after a crash of the machine."""
    text = os.pread(descriptor, 32, 0)
    return int(text) if len(text) == 20 and text.isdigit() else None
