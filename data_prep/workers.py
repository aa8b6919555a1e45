"""Decoding processes that outlive signals, but not the process they decode for.

SLURM sends its signals to every process of a job step, decoding processes included. The training
process answers by saving and still needs its decoders for that, so these must not end with the
signal. And when it dies without a word (SIGKILL, out of memory) they must not live on.
"""

import atexit
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from multiprocessing import resource_tracker
from typing import Protocol, TypeVar

import torch
from torch.utils.data import DataLoader

from sigma_pipeline.infra.errors import StageError

Item_co = TypeVar("Item_co", covariant=True)
Item = TypeVar("Item")
Place = TypeVar("Place")
Place_contra = TypeVar("Place_contra", contravariant=True)

_SIGNALS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2})
_PARENT_CHECK_S = 1.0


class Source(Protocol[Place_contra, Item_co]):
    """A picklable thing that makes the item of a place, or returns why it cannot."""

    def __getitem__(self, place: Place_contra, /) -> Item_co | StageError:
        """An error is returned: raised, it would reach the reader wrapped in a traceback."""


def read_ahead(
    source: Source[Place, Item], places: Iterable[Place], *, workers: int, prefetch: int
) -> Iterator[Item]:
    """The items of ``places`` in order, made by ``workers`` processes, or here when that is 0.

    The processes are started once, for all places, and end when the iterator is closed.

    Args:
        source: pickled to each process.
        places: may be endless.
        workers: processes; they are spawned, since a copy of a process that has threads or a
            CUDA context may hang.
        prefetch: items that each process makes ahead of the one in use.

    Raises:
        StageError: the error of an item, when its turn has come; or a process was killed.
    """
    loader: DataLoader[Item | StageError] = DataLoader(
        source,  # type: ignore[arg-type]  # a protocol instead of the class Dataset
        batch_size=None,
        sampler=places,
        num_workers=workers,
        collate_fn=_as_it_is,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=prefetch if workers else None,
        worker_init_fn=partial(_guard, os.getpid()),
        generator=torch.Generator(),  # else a draw is taken from the process's global generator
        pin_memory=torch.cuda.is_available(),
    )
    with _signals_blocked() if workers else nullcontext():
        iterator = iter(loader)
    try:
        while (item := _next(iterator)) is not None:
            if isinstance(item, StageError):
                raise item
            yield item
    finally:
        del iterator  # ends the processes, which a traceback would keep alive


def _next(iterator: Iterator[Item]) -> Item | None:
    try:
        return next(iterator, None)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise  # a fault in making the item, not the end of the process
        raise StageError(
            f"a decoding process ended: {error} If memory ran out, lower train.loader.workers, "
            "train.loader.prefetch_batches or train.loader.decoded_cache_gib"
        ) from error


def _as_it_is(item: Item) -> Item:
    return item


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Blocks the signals; processes started meanwhile inherit that for good."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        # Python's resource tracker lifts the block of two of them when it starts, so it comes
        # first; it inherits the block of the others, which would end it.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _guard(parent: int, worker: int) -> None:
    """Runs first in each process."""
    # At the end of a process libraries tear their threads down, now and then with an abort.
    atexit.register(os._exit, 0)
    threading.Thread(target=_end_with, args=(parent,), name=f"guard-{worker}", daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when ``parent`` is gone or ends it; any other signal is thrown away."""
    while os.getppid() == parent:
        received = signal.sigtimedwait(_SIGNALS, _PARENT_CHECK_S)
        if received and (received.si_signo, received.si_pid) == (signal.SIGTERM, parent):
            break
    os._exit(0)
