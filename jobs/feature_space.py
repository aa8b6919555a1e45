"""How much of the store the features of a run may take, and which of them go first."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.feature_files import INDEX_FILE, FeaturePlan
from sigma_pipeline.jobs.feature_request import FeatureRequest, features_folder
from sigma_pipeline.jobs.feature_store import FeatureFolder

log = logging.getLogger(__name__)

_ABANDONED_AFTER = timedelta(days=1)
"""What was begun so long ago, but not finished, and is needed by nobody, is left from an attempt
that was killed. Until then another job may be at it."""
_GIB = 1 << 30


@dataclass(frozen=True)
class StoredSet:
    """Features of one split by one encoder, complete or being made."""

    folder: str
    num_bytes: int
    """When complete."""
    attempt: str
    """The last that began it; these sort by time. Empty: none did, and it is of no use."""
    is_complete: bool


def reserve(
    storage: Storage,
    request: FeatureRequest,
    *,
    needed: Collection[str] = (),
    given_up: Collection[str] = (),
) -> FeatureFolder:
    """Makes room for features, and holds it.

    Sets that nobody needs go first, of these the oldest. Where that is not enough, needed ones go,
    too: they are extracted again when their turn comes. What others are making stays, so that the
    bound is exceeded while several jobs have begun what does not fit together.

    Args:
        storage: of the run.
        request: what is to be extracted.
        needed: folders of the sets that cells wait for.
        given_up: as of ``clear``.

    Returns:
        Where to put them.
    """
    folder = FeatureFolder(storage, request.folder)
    folder.plan(request.num_bytes)
    clear(
        storage,
        request.run_name,
        request.limit_gib,
        needed=needed,
        spared={request.folder},
        given_up=given_up,
    )
    return folder


def clear(
    storage: Storage,
    run_name: str,
    limit_gib: float,
    *,
    needed: Collection[str] = (),
    spared: Collection[str] = (),
    given_up: Collection[str] = (),
) -> None:
    """Removes what killed attempts left, and as many sets as are too many.

    Args:
        storage: of the run.
        run_name: of the run.
        limit_gib: of all features together.
        needed: folders of sets that go last.
        spared: folders of sets that stay.
        given_up: folders of sets that the caller makes no more; they go even if begun just now.
    """
    sets = sorted(
        stored_sets(storage, run_name),
        key=lambda one: (one.folder in needed, not one.is_complete, one.attempt),
    )
    excess = sum(one.num_bytes for one in sets) - limit_gib * _GIB
    abandoned = f"{datetime.now(UTC) - _ABANDONED_AFTER:%Y%m%dT%H%M%S%f}"
    for one in sets:
        is_old = one.attempt < abandoned
        is_being_made = not (one.is_complete or is_old or one.folder in given_up)
        is_left = is_old and not (one.is_complete or one.folder in needed)
        if one.folder in spared or is_being_made or not (is_left or excess > 0):
            continue
        excess -= one.num_bytes
        FeatureFolder(storage, one.folder).delete()
        log.info("Removed features %s (%.3f GiB)", one.folder, one.num_bytes / _GIB)


def stored_sets(storage: Storage, run_name: str) -> list[StoredSet]:
    """All sets of a run that are in the store, or begun; one listing tells."""
    top = features_folder(run_name)
    names = [key.removeprefix(f"{top}/").partition("/") for key in storage.list(top)]
    found = []
    for name, group in groupby(names, key=lambda parts: parts[0]):
        files = {file for _, _, file in group}
        if (plan := FeaturePlan.newest(files)) is None:
            # Left by two attempts, one of which removed the set: it counts for nothing.
            found.append(StoredSet(f"{top}/{name}", 0, "", is_complete=False))
        else:
            is_complete = INDEX_FILE in files
            found.append(StoredSet(f"{top}/{name}", plan.num_bytes, plan.attempt, is_complete))
    return found


class FeatureSpace:
    """Who still reads which features, so that those go first which nobody needs any more.

    For the one process that hands out the tasks of an evaluation; it speaks of these by name. What
    an extraction makes has the name of its task.
    """

    def __init__(self, storage: Storage, run_name: str, limit_gib: float) -> None:
        self._storage = storage
        self._run_name = run_name
        self._limit_gib = limit_gib
        self._requests: dict[str, FeatureRequest] = {}
        self._reads: dict[str, set[str]] = {}
        """By task, what it reads."""
        self._readers: dict[str, set[str]] = {}
        """The other way round, as far as any is left."""
        self._held: set[str] = set()
        """What is there, or being made, and read."""
        self._held_bytes = 0
        self._ended: set[str] = set()
        """Folders that an extraction has ended in."""

    def add_reader(self, cell: str, requests: Iterable[FeatureRequest]) -> None:
        """Notes that the task ``cell``, which waits, reads these."""
        for request in requests:
            key = request.key
            is_new = key not in self._readers
            self._requests[key] = request
            self._reads.setdefault(cell, set()).add(key)
            self._readers.setdefault(key, set()).add(cell)
            if is_new and self._storage.exists(key):
                self._hold(key)

    def has_room(self, task: str) -> bool:
        """Whether what ``task`` extracts, if it does, fits beside all that is there and needed."""
        if task not in self._requests or task in self._held:
            return True
        num_bytes = self._held_bytes + self._requests[task].num_bytes
        return num_bytes <= self._limit_gib * _GIB

    def begin(self, task: str) -> None:
        """Makes room, if ``task`` is to extract features now."""
        if (request := self._requests.get(task)) is None:
            return
        self._ended.discard(request.folder)
        reserve(self._storage, request, needed=self._needed(), given_up=self._ended)
        self._hold(task)

    def end(self, task: str) -> None:
        """Notes that ``task`` has ended; what no other reads may then go."""
        if task in self._requests:
            self._ended.add(self._requests[task].folder)
        unread = [key for key in self._reads.pop(task, ()) if self._is_last_reader(task, key)]
        for key in unread:
            self._release(key)
        if unread:
            clear(
                self._storage,
                self._run_name,
                self._limit_gib,
                needed=self._needed(),
                given_up=self._ended,
            )

    def _is_last_reader(self, task: str, key: str) -> bool:
        self._readers[key].remove(task)
        return not self._readers[key]

    def _hold(self, key: str) -> None:
        if key in self._readers and key not in self._held:
            self._held.add(key)
            self._held_bytes += self._requests[key].num_bytes

    def _release(self, key: str) -> None:
        del self._readers[key]
        if key in self._held:
            self._held.remove(key)
            self._held_bytes -= self._requests[key].num_bytes

    def _needed(self) -> set[str]:
        """Folders of the features that a task waits for or reads."""
        return {self._requests[key].folder for key in self._readers}
