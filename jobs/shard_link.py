"""What ties worker processes to the one that began them.

Two pipes and no lock, so that nothing is left locked by a process that was killed. One pipe tells
workers that their parent lives: its other end closes when the parent ends, in whatever way, or
gives up, and they end at once. Through the other one they report videos that are done.
"""

import multiprocessing
import os
import resource
import signal
import struct
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from sigma_pipeline.jobs.shard_progress import Progress

_RECORD = struct.Struct("<q")
_RECORDS_PER_READ = 4096


@dataclass(frozen=True)
class WorkerEnds:
    """The ends of the pipes that workers get, and the folder for their unfinished files."""

    alive: Connection
    done: Connection
    scratch_dir: str


class Link:
    """This process's side; starts pools of workers that are tied to it."""

    def __init__(self, scratch_dir: Path) -> None:
        """``scratch_dir`` is an existing folder that nothing else uses."""
        alive_there, self._alive = multiprocessing.Pipe(duplex=False)
        self._done, done_there = multiprocessing.Pipe(duplex=False)
        self.ends = WorkerEnds(alive_there, done_there, str(scratch_dir))
        """What a worker is begun with."""
        os.set_blocking(self._done.fileno(), False)

    def __enter__(self) -> Self:
        """The link itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the pipes, which ends workers that are left."""
        for end in (self._alive, self._done, self.ends.alive, self.ends.done):
            end.close()

    @contextmanager
    def pool(self, workers: int) -> Iterator[ProcessPoolExecutor]:
        """Worker processes that end with the block; at once, and for good, after an error in it."""
        pool = ProcessPoolExecutor(
            workers,
            # A fork would copy the locks of this process's other threads as they happen to be.
            multiprocessing.get_context("spawn"),
            initializer=begin_worker,
            initargs=(self.ends,),
        )
        try:
            yield pool
        except BaseException:
            self.end_workers()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def end_workers(self) -> None:
        """Ends all workers at once, and for good."""
        self._alive.close()

    def read_reports(self, progress: Progress) -> None:
        """Takes note of the videos that workers have done since the last call, and logs."""
        with suppress(BlockingIOError):
            while data := os.read(self._done.fileno(), _RECORD.size * _RECORDS_PER_READ):
                for (num_bytes,) in _RECORD.iter_unpack(data):
                    progress.add(num_bytes)
        progress.log_if_due()


_ends: WorkerEnds | None = None  # of this process, where it is a worker


def report(num_bytes: int) -> None:
    """In a worker: one more video is done, of that size at the source."""
    assert _ends is not None
    os.write(_ends.done.fileno(), _RECORD.pack(num_bytes))  # so short that it is written at once


def begin_worker(ends: WorkerEnds) -> None:
    """Runs first in each worker."""
    global _ends
    _ends = ends
    tempfile.tempdir = ends.scratch_dir
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_parent, args=(ends.alive,), daemon=True).start()


def _end_with_parent(alive: Connection) -> None:
    alive.poll(None)  # nothing is ever sent: it returns when the other end is closed
    os._exit(1)
