"""Where the processes of a job find each other before there is any group of them."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from sigma_pipeline.infra.errors import Interrupted, StageError
from sigma_pipeline.jobs.train_request import RankPlace

MEETING_TIMEOUT = timedelta(minutes=10)
"""For all processes to come up."""
_DECISION_S = 10.0
_POLL_S = 0.05
_STOPPING, _STOP, _GO = "stopping", "stop", "go"


def meet(place: RankPlace, is_stopping: Callable[[], bool]) -> Any:
    """The store through which a process group can be made, once all processes are there.

    Making the group would wait for them too, but deaf: a signal to all processes may end one that
    is still importing, and the others would wait for it in vain. Rank 0 decides for all whether to
    go on, so that none goes on alone.

    Args:
        place: this process among the others.
        is_stopping: asked now and then.

    Raises:
        Interrupted: this or another process was to stop before all had come.
        StageError: some had not come after ``MEETING_TIMEOUT``; names them.
    """
    store = _open_store(place)
    store.set(_here(place.rank), "")
    deadline_s = time.monotonic() + MEETING_TIMEOUT.total_seconds()
    while not store.check([_GO]):
        if is_stopping() and not store.check([_STOPPING]):
            store.set(_STOPPING, "")
            # If rank 0 lives it decides within this time; if not, nobody will.
            deadline_s = time.monotonic() + _DECISION_S
        if place.rank == 0:
            _decide(store, place.world_size)
        if store.check([_STOP]) or (store.check([_STOPPING]) and time.monotonic() > deadline_s):
            raise Interrupted("stopped before all processes of the job had started")
        if time.monotonic() > deadline_s:
            missing = ", ".join(_missing(store, place.world_size))
            raise StageError(
                f"rank {missing} of {place.world_size} did not start within "
                f"{MEETING_TIMEOUT.total_seconds() / 60:.0f} min; see their logs"
            )
        time.sleep(_POLL_S)
    return store


def _decide(store: Any, world_size: int) -> None:
    if store.check([_STOPPING]):
        store.set(_STOP, "")
    elif not _missing(store, world_size):
        store.set(_GO, "")


def _missing(store: Any, world_size: int) -> list[str]:
    """Ranks that have not come yet."""
    return [str(rank) for rank in range(world_size) if not store.check([_here(rank)])]


def _here(rank: int) -> str:
    return f"here/{rank}"


def _open_store(place: RankPlace) -> Any:
    """Where the processes leave notes for each other."""
    if place.rendezvous is None:
        return dist.HashStore()  # type: ignore[attr-defined]  # there, but not in __all__
    if not place.rendezvous.startswith("tcp://"):
        return dist.FileStore(place.rendezvous, place.world_size)  # type: ignore[attr-defined]
    host, _, port = place.rendezvous.removeprefix("tcp://").rpartition(":")
    return dist.TCPStore(  # type: ignore[attr-defined]
        host,
        int(port),
        place.world_size,
        is_master=place.rank == 0,
        timeout=MEETING_TIMEOUT,
        wait_for_workers=False,
    )
