"""Where the processes of a job find each other before there is any group of them."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from sigma_pipeline.infra.errors import BadNodes, Interrupted
from sigma_pipeline.jobs.node_names import blamed, node_name, nodes_by_rank, shown_ranks
from sigma_pipeline.jobs.train_request import RankPlace

MEETING_LIMIT_S = 600.0
"""For all processes to come up, at most."""
_DECISION_S = 10.0
_CONNECT_S = 5.0
"""For one attempt at reaching rank 0; between two of them a wish to stop is heard."""
_POLL_S = 0.05
_STOPPING, _STOP, _GO = "stopping", "stop", "go"


def meet(
    place: RankPlace, is_stopping: Callable[[], bool], limit_s: float = MEETING_LIMIT_S
) -> Any:
    """The store through which a process group can be made, once all processes are there.

    Making the group would wait for them too, but deaf: a signal to all processes may end one that
    is still importing, and the others would wait for it in vain. Rank 0 decides for all whether to
    go on, so that none goes on alone.

    Args:
        place: this process among the others.
        is_stopping: asked now and then.
        limit_s: for all to come.

    Raises:
        Interrupted: this or another process was to stop before all had come.
        BadNodes: some had not come in time; names them, and their nodes where SLURM tells.
    """
    deadline_s = time.monotonic() + limit_s
    store = _open_store(place, is_stopping, limit_s)
    try:
        return _wait(store, place, is_stopping, deadline_s=deadline_s, limit_s=limit_s)
    except dist.DistError as error:  # of a TCPStore whose process has gone
        raise _absent(["0"], place, "ended while the others were still starting") from error


def _wait(
    store: Any,
    place: RankPlace,
    is_stopping: Callable[[], bool],
    *,
    deadline_s: float,
    limit_s: float,
) -> Any:
    store.set(_here(place.rank), node_name())
    while not store.check([_GO]):
        if is_stopping() and not store.check([_STOPPING]):
            store.set(_STOPPING, "")
            # If rank 0 lives it decides within this time; if not, nobody will.
            deadline_s = time.monotonic() + _DECISION_S
        if place.rank == 0:
            _decide(store, place.world_size)
        if store.check([_STOP]) or (store.check([_STOPPING]) and time.monotonic() > deadline_s):
            raise _interrupted()
        if time.monotonic() > deadline_s:
            missing = _missing(store, place.world_size)
            raise _absent(missing, place, f"did not start within {limit_s:.0f} s")
        time.sleep(_POLL_S)
    return store


def _interrupted() -> Interrupted:
    return Interrupted("stopped before all processes of the job had started")


def _absent(missing: list[str], place: RankPlace, what: str) -> BadNodes:
    nodes = dict(enumerate(nodes_by_rank(place.world_size)))
    ranks = [int(rank) for rank in missing]
    named = shown_ranks(ranks, nodes) if nodes else f"rank {', '.join(missing)}"
    return BadNodes(
        f"{named} of {place.world_size} {what}; see their logs",
        blamed({nodes[rank] for rank in ranks if rank in nodes}, nodes.values()),
        reported_by=min(set(range(place.world_size)) - set(ranks), default=0),
    )


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


def _open_store(place: RankPlace, is_stopping: Callable[[], bool], limit_s: float) -> Any:
    """Where the processes leave notes for each other."""
    if place.rendezvous is None:
        return dist.HashStore()  # type: ignore[attr-defined]  # there, but not in __all__
    if not place.rendezvous.startswith("tcp://"):
        return dist.FileStore(place.rendezvous, place.world_size)  # type: ignore[attr-defined]
    deadline_s = time.monotonic() + limit_s
    while True:
        try:
            store = _tcp_store(place, min(limit_s, _CONNECT_S))
        except dist.DistError as error:
            if is_stopping():
                raise _interrupted() from error
            if time.monotonic() > deadline_s or place.rank == 0:
                what = f"could not be reached within {limit_s:.0f} s ({error})"
                raise _absent(["0"], place, what) from error
        else:
            store.set_timeout(timedelta(seconds=limit_s))  # of what torch waits for in it
            return store


def _tcp_store(place: RankPlace, timeout_s: float) -> Any:
    assert place.rendezvous is not None
    host, _, port = place.rendezvous.removeprefix("tcp://").rpartition(":")
    return dist.TCPStore(  # type: ignore[attr-defined]
        host,
        int(port),
        place.world_size,
        is_master=place.rank == 0,
        timeout=timedelta(seconds=timeout_s),
        wait_for_workers=False,
    )
