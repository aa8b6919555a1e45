"""A folder for unfinished files that is gone afterwards, even if this process is killed."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = "lock"


@contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """A new folder in ``parent``, removed with the block.

    Folders that killed processes left in ``parent`` are removed first: a lock on a file inside
    says whether the owner lives. ``parent`` is on a disk of this machine.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / _LOCK).open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)  # nobody removes a folder between its making and its lock
        _remove_abandoned(parent)
        folder = tempfile.TemporaryDirectory(dir=parent)
        lock = Path(folder.name, _LOCK).open("w")  # noqa: SIM115 - held as long as the folder
        fcntl.flock(lock, fcntl.LOCK_EX)
    with folder, lock:
        yield Path(folder.name)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.iterdir():
        if not (folder / _LOCK).is_file():
            continue
        with (folder / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(folder, ignore_errors=True)
