"""The folder of a Ray node: private, short, and taken away even after its process was killed.

Its process holds a lock on it. Whoever comes next on the machine removes those that nobody holds.
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "sigma-ray-"
_LONGEST_PARENT = 20  # characters; Ray's socket names add 86, and 107 are allowed in all


class RayFolder:
    """A folder for Ray's sockets and logs on this node's own disk, until ``remove``."""

    def __init__(self) -> None:
        parent = Path(_short_temp_dir())
        _sweep(parent)
        self._path, self._lock = _locked(parent)

    @property
    def path(self) -> Path:
        """What Ray may have, which opens to everyone the folder that it is told."""
        return self._path / "r"

    def empty(self) -> None:
        """Takes away all that is in it."""
        shutil.rmtree(self._path, ignore_errors=True)

    def remove(self) -> None:
        """Takes it away for good."""
        self.empty()
        os.close(self._lock)


def _locked(parent: Path) -> tuple[Path, int]:
    """A new folder and its lock; a new one again if somebody swept it away before it was locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists():
                    return path, lock
            os.close(lock)


def _sweep(parent: Path) -> None:
    """Removes this user's folders whose processes are gone."""
    for path in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another one was faster, or it is another user's
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _short_temp_dir() -> str:
    """The folder for temporary files, or one with a shorter name if Ray's sockets need that."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= _LONGEST_PARENT else "/tmp"  # noqa: S108 - mkdtemp is safe
