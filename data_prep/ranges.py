"""Byte ranges of stored objects, read ahead in threads and kept on the node's disk.

What a loader does with a slow store: it says which ranges it will want, and takes them, in any
order, when it gets there. Ranges are of objects that never change, such as shards.
"""

import itertools
import os
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, NamedTuple

from sigma_pipeline.data_prep.range_cache import RangeCache, entry_name
from sigma_pipeline.infra.storage import Storage, is_local

Range = tuple[str, int, int]
"""Key, first byte, number of bytes."""

_AHEAD_BYTES = 256 << 20
_REACH = 256
_GIB = 1 << 30


class RangeReader:
    """Reads ranges through a cache on disk, and those that were announced ahead of time.

    Picklable, and usable after a fork; each process has threads of its own, made when they are
    needed first and gone with the reader. They never keep a process from ending. Without a cache
    on disk a local folder is read as it is: the system reads ahead and caches by itself.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        cache_dir: Path | None = None,
        cache_gib: float = 0.0,
        threads: int = 4,
        ahead_bytes: int = _AHEAD_BYTES,
    ) -> None:
        """Nothing is touched yet.

        Args:
            storage: holds the objects.
            cache_dir: a folder on the node's own disk, which all its processes share.
            cache_gib: what the cache may take of that disk; 0 for no cache.
            threads: reads under way at once in each process.
            ahead_bytes: memory of each process for what is being read ahead and not taken yet.
        """
        has_cache = cache_dir is not None and cache_gib > 0
        cache = RangeCache(cache_dir, int(cache_gib * _GIB)) if has_cache and cache_dir else None
        self._source = _Source(storage, cache)
        self._threads = threads
        self._ahead_bytes = ahead_bytes
        self._is_direct = cache is None and is_local(storage.root_uri)
        self._ahead: _ReadAhead | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but the threads and what they hold."""
        return {**self.__dict__, "_ahead": None}

    def read(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes of the object from ``start``.

        Raises:
            FileNotFoundError: there is no such object; names its URI.
            EOFError: the object ends before; names its URI.
            StageError: the store cannot be reached.
        """
        wanted = (key, start, length)
        data = None if self._is_direct else self._own_ahead().take(wanted)
        return self._source.read(wanted) if data is None else data

    def prefetch(self, ranges: Sequence[Range]) -> None:
        """Begins to read ``ranges``, in this order, each for one ``read`` of exactly that range.

        What does not fit in memory is begun as others are taken; what stays behind by some hundred
        ranges is given up. What goes wrong is raised by the ``read``.
        """
        if not self._is_direct:
            self._own_ahead().announce(ranges)

    def forget(self, key: str, start: int, length: int) -> None:
        """Drops the range from the cache on disk: it turned out damaged and may be repaired."""
        if self._source.cache:
            name = entry_name(self._source.storage.root_uri, key, start, length)
            self._source.cache.forget(name)

    def _own_ahead(self) -> "_ReadAhead":
        """Threads do not survive a fork, so the child makes its own."""
        if self._ahead is None or self._ahead.process_id != os.getpid():
            self._ahead = _ReadAhead(self._source, self._threads, self._ahead_bytes)
        return self._ahead


@dataclass(frozen=True)
class _Source:
    """A store behind a cache, if there is one."""

    storage: Storage
    cache: RangeCache | None

    def read(self, wanted: Range) -> bytes:
        if self.cache is None:
            return self._fetch(wanted)
        name = entry_name(self.storage.root_uri, *wanted)
        data = self.cache.get(name)
        if data is None:
            data = self._fetch(wanted)
            self.cache.put(name, data)
        return data

    def _fetch(self, wanted: Range) -> bytes:
        key, start, length = wanted
        data = self.storage.read(key, start, length)
        if len(data) != length:
            raise EOFError(
                f"{self.storage.uri(key)} ends at byte {start + len(data)}, before {start + length}"
            )
        return data


class _Begun(NamedTuple):
    number: int
    """In the order of announcement."""
    data: Future[bytes]


class _ReadAhead:
    """Announced ranges of one process: waiting, or begun and not taken yet."""

    def __init__(self, source: _Source, threads: int, limit_bytes: int) -> None:
        self.process_id = os.getpid()
        self._limit_bytes = limit_bytes
        self._lock = Lock()
        self._numbers = itertools.count()
        self._waiting: dict[Range, int] = {}
        self._begun: dict[Range, _Begun] = {}
        self._begun_bytes = 0
        self._tasks: _Tasks = SimpleQueue()
        for _ in range(threads):
            # Daemons: a process that ends does not wait for a store that hangs.
            Thread(target=_work, args=(source, self._tasks), daemon=True).start()
        weakref.finalize(self, _end, self._tasks, threads)

    def announce(self, ranges: Sequence[Range]) -> None:
        with self._lock:
            for wanted in ranges:
                if wanted not in self._begun:
                    self._waiting[wanted] = next(self._numbers)
            self._begin()

    def take(self, wanted: Range) -> bytes | None:
        """The range, waited for if it is just being read; None if no thread has got to it."""
        with self._lock:
            if wanted in self._waiting:  # memory is full, perhaps of what nobody takes any more
                taken = None
                self._drop(next(iter(self._begun))).data.cancel()
                self._drop_before(self._waiting.pop(wanted) - _REACH)
            elif taken := self._begun.get(wanted):
                self._drop(wanted)
                self._drop_before(taken.number - _REACH)
            self._begin()
        return taken.data.result() if taken and not taken.data.cancel() else None

    def _begin(self) -> None:
        while self._waiting:
            wanted = next(iter(self._waiting))
            if self._begun and self._begun_bytes + wanted[2] > self._limit_bytes:
                return
            begun = self._begun[wanted] = _Begun(self._waiting.pop(wanted), Future())
            self._begun_bytes += wanted[2]
            self._tasks.put((wanted, begun.data))

    def _drop(self, wanted: Range) -> _Begun:
        self._begun_bytes -= wanted[2]
        return self._begun.pop(wanted)

    def _drop_before(self, number: int) -> None:
        while self._begun:
            oldest, begun = next(iter(self._begun.items()))
            if begun.number >= number:
                return
            self._drop(oldest).data.cancel()


_Tasks = SimpleQueue[tuple[Range, Future[bytes]] | None]


def _work(source: _Source, tasks: _Tasks) -> None:
    while task := tasks.get():
        wanted, future = task
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(source.read(wanted))
        except Exception as error:  # noqa: BLE001 - raised where the range is taken
            future.set_exception(error)
        del task, future  # a thread that waits for the next one holds no data


def _end(tasks: _Tasks, threads: int) -> None:
    """Lets the threads go; what they have not begun is wanted by nobody any more."""
    with suppress(Empty):
        while True:
            tasks.get_nowait()
    for _ in range(threads):
        tasks.put(None)
