"""Where everything a run produces lies: one interface over a local folder and over S3.

A key is a relative path with ``/`` between its parts. Whole objects appear at once or not at all.
``write_if_absent`` is what decides races: of any number of writers exactly one gets True, and the
others adopt what it wrote.
"""

import builtins
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from sigma_pipeline.infra.errors import ConfigError, StageError

_BAD_IN_KEY = re.compile(r"[\x00-\x1f\x7f\\]")


class Storage(Protocol):
    """Objects by key. Picklable; usable from threads and from forked or spawned processes.

    A store that cannot be reached is tried for some minutes, then that is a ``StageError``.
    """

    @property
    def root_uri(self) -> str:
        """``/abs/path`` or ``s3://bucket/prefix``; all keys are below it."""

    def uri(self, key: str) -> str:
        """The full address of ``key``, for messages and for other tools."""

    def exists(self, key: str) -> bool:
        """Whether a complete object is there."""

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The object, or ``length`` bytes of it from ``start``; fewer where it ends before.

        Raises:
            FileNotFoundError: there is no such object; names its URI.
        """

    def write(self, key: str, data: bytes) -> None:
        """Puts the whole object at once, over what was there."""

    def write_if_absent(self, key: str, data: bytes) -> bool:
        """Puts the object unless one is there: True if it is ours, False if another was first."""

    def upload(self, path: Path, key: str) -> None:
        """Puts a local file, which may be large, at once over what was there."""

    def download(self, key: str, path: Path) -> None:
        """Brings an object to ``path``, which never shows a part of it.

        Raises:
            FileNotFoundError: there is no such object; names its URI.
        """

    def list(self, prefix: str) -> builtins.list[str]:
        """All keys in the folder ``prefix`` and in its sub-folders, sorted; ``""`` for all."""

    def delete(self, key: str) -> None:
        """Removes the object if it is there."""


def check_key(key: str) -> str:
    """``key`` itself, if it stays below the root on every kind of store.

    Raises:
        ValueError: a part is empty or starts with a dot (such names are kept for temporary files),
            or a character is not portable.
    """
    if any(not part or part[0] == "." for part in key.split("/")) or _BAD_IN_KEY.search(key):
        raise ValueError(f"not a storage key: {key!r}")
    return key


def is_hidden(key: str) -> bool:
    """Whether ``key`` is one of the store's own files, such as a half-written one."""
    return any(part.startswith(".") for part in key.split("/"))


@dataclass(frozen=True)
class LocalStorage:
    """A folder. Files are written under a hidden name beside the final one, then renamed.

    A process that is killed while writing leaves a hidden file behind, and nothing else.
    """

    root_uri: str

    def uri(self, key: str) -> str:
        """See ``Storage``."""
        return str(self._path(key))

    def exists(self, key: str) -> bool:
        """See ``Storage``."""
        return self._path(key).is_file()

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See ``Storage``."""
        with self._path(key).open("rb", buffering=0) as file:
            if length is None:
                file.seek(start)
                return file.readall()
            return _read_exactly(file.fileno(), start, length)

    def write(self, key: str, data: bytes) -> None:
        """See ``Storage``."""
        self._replace(self._path(key), lambda file: file.write(data))

    def write_if_absent(self, key: str, data: bytes) -> bool:
        """See ``Storage``.

        Raises:
            StageError: the file system has no hard links, which decide the race.
        """
        path = self._path(key)
        if path.exists():
            return False
        temporary = _write_beside(path, lambda file: file.write(data))
        try:
            return _link_if_absent(temporary, path)
        finally:
            temporary.unlink()

    def upload(self, path: Path, key: str) -> None:
        """See ``Storage``."""
        with path.open("rb") as source:
            self._replace(self._path(key), lambda file: shutil.copyfileobj(source, file, 1 << 20))

    def download(self, key: str, path: Path) -> None:
        """See ``Storage``."""
        with self._path(key).open("rb") as source:
            self._replace(path, lambda file: shutil.copyfileobj(source, file, 1 << 20))

    def list(self, prefix: str) -> builtins.list[str]:
        """See ``Storage``."""
        folder = self._path(prefix) if prefix else Path(self.root_uri)
        keys = (
            Path(parent, name).relative_to(self.root_uri).as_posix()
            for parent, _, names in os.walk(folder)
            for name in names
        )
        return sorted(key for key in keys if not is_hidden(key))

    def delete(self, key: str) -> None:
        """See ``Storage``."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return Path(self.root_uri, check_key(key))

    @staticmethod
    def _replace(path: Path, fill: Callable[[BinaryIO], object]) -> None:
        temporary = _write_beside(path, fill)
        try:
            temporary.replace(path)
        except OSError:
            temporary.unlink()
            raise
        _sync_folder(path.parent)


def open_storage(root_uri: str, *, patience_s: float | None = None) -> Storage:
    """The store at a local folder, made absolute, or at ``s3://bucket/prefix``.

    Args:
        root_uri: where it is.
        patience_s: how long this process tries one that does not answer; some minutes when absent.

    Raises:
        ConfigError: another kind of address.
    """
    if is_local(root_uri):
        return LocalStorage(os.path.abspath(Path(root_uri).expanduser()))
    if root_uri.startswith("s3://"):
        # boto3 takes half a second to import, and most runs on one machine never need it.
        from sigma_pipeline.infra import s3_client
        from sigma_pipeline.infra.s3 import open_s3

        if patience_s is not None:
            s3_client.give_up_after(patience_s)
        return open_s3(root_uri)
    raise ConfigError(f"root_uri {root_uri!r}: expected a local folder or s3://bucket/prefix")


def is_local(root_uri: str) -> bool:
    """Whether ``root_uri`` is a folder of this machine rather than a URL."""
    return "://" not in root_uri


def read_json(storage: Storage, key: str) -> Any:
    """The value that ``write_json`` put.

    Raises:
        FileNotFoundError: there is no such object; names its URI.
        StageError: the object is not JSON.
    """
    try:
        return json.loads(storage.read(key))
    except ValueError as error:
        raise StageError(f"{storage.uri(key)} is damaged: not JSON ({error})") from error


def write_json(storage: Storage, key: str, value: Any) -> None:
    """Puts ``value`` as JSON; NaN and infinities survive ``read_json``."""
    storage.write(key, _encode_json(value))


def write_json_if_absent(storage: Storage, key: str, value: Any) -> bool:
    """Puts ``value`` as JSON unless the object is there: True if it is ours."""
    return storage.write_if_absent(key, _encode_json(value))


def _encode_json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()


def _read_exactly(descriptor: int, start: int, length: int) -> bytes:
    """``length`` bytes from ``start``, or up to the end; one call gives at most 2 GiB."""
    pieces = []
    while length > 0 and (piece := os.pread(descriptor, length, start)):
        pieces.append(piece)
        start += len(piece)
        length -= len(piece)
    return b"".join(pieces)


def _write_beside(path: Path, fill: Callable[[BinaryIO], object]) -> Path:
    """A finished, synced file under a hidden name in the folder of ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    with ExitStack() as undo, temporary.open("xb") as file:
        undo.callback(temporary.unlink)
        fill(file)
        file.flush()
        os.fsync(file.fileno())
        undo.pop_all()
    return temporary


def _link_if_absent(temporary: Path, path: Path) -> bool:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        # NFS may repeat a request whose answer was lost and then report our own link as another's.
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        raise StageError(
            f"{path.parent} is on a file system without hard links ({error.strerror}), so two "
            "writers could overwrite each other; choose another root_uri"
        ) from error
    _sync_folder(path.parent)
    return True


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a power cut, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
