"""The hot columns of an index as a file on the node's disk, mapped by all its processes.

Arrow's file format: opening it reads a few kilobytes, and the pages that are looked at are shared
through the page cache.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from sigma_pipeline.data_prep.hot_columns import HotColumns

FORMAT = 1
"""Raised when the columns of the file are others."""


class MappedColumns(HotColumns):
    """Hot columns in a file; picklable, another process maps the same file."""

    def __init__(self, path: Path, prefix: str) -> None:
        """Maps the file at ``path``; ``prefix`` is the store folder of the tars."""
        self._place = path, prefix
        super().__init__(pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0), prefix)

    def __reduce__(self) -> tuple[type["MappedColumns"], tuple[Path, str]]:
        """Where the file lies, not what it holds."""
        return type(self), self._place


def write_hot(path: Path, batch: pa.RecordBatch) -> None:
    """Puts the columns at ``path``, whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def made_once(path: Path, make: Callable[[], None]) -> None:
    """Calls ``make`` unless ``path`` is there; other processes of the node wait meanwhile."""
    if path.exists():
        return
    with _locked(path.with_suffix(".lock")):
        if not path.exists():
            make()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel if this process dies
        yield
