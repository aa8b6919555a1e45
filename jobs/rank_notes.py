"""Notes that the ranks of a job leave each other, beside their collectives.

They lie in the store through which the ranks met, so they can still be read when a collective no
longer answers. Only rank 0 being gone takes them along: a store over TCP lives in its process.
"""

import json
import threading
import time
from collections.abc import Iterable
from typing import Any

_POLL_S = 0.05
_GRACE_S = 2.0
"""For a store that answers at all to do so."""


class StoreSilent(Exception):  # noqa: N818 - it does not answer, which is all that is known
    """The store did not answer in time: its process, rank 0, is frozen or gone."""


class RankNotes:
    """One small record per rank, on one subject."""

    def __init__(self, store: Any, subject: str) -> None:
        """Takes what the notes lie in, and what they are about.

        Args:
            store: of torch.distributed, any kind; a clone, for who else uses it waits with this.
            subject: tells these notes from others in the same store.
        """
        self._store = store
        self._subject = subject

    def put(self, rank: int, note: Any) -> None:
        """Leaves the note of a rank, anything that JSON knows, over an earlier one.

        Raises:
            StoreSilent: the connection is broken.
        """
        try:
            self._store.set(self._key(rank), json.dumps(note))
        except RuntimeError as error:  # torch's DistError, or what a FileStore raises
            raise StoreSilent(str(error)) from error

    def read(self, ranks: Iterable[int], wait_s: float = 0.0) -> dict[int, Any]:
        """The notes of ``ranks`` by rank, without those that have not come after ``wait_s``.

        Raises:
            StoreSilent: the store itself does not answer, nor will it ever after. Torch's own time
                limits do not cover a server that is frozen, so it is asked in a thread, which is
                then left behind.
        """
        found: dict[int, Any] = {}
        errors: list[RuntimeError] = []

        def look() -> None:
            try:
                self._collect(set(ranks), wait_s, found)
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=look, name=f"read-{self._subject}", daemon=True)
        thread.start()
        thread.join(wait_s + _GRACE_S)
        if thread.is_alive() or errors:
            raise StoreSilent(str(errors[0]) if errors else "no answer in time")
        return found

    def _collect(self, pending: set[int], wait_s: float, found: dict[int, Any]) -> None:
        deadline_s = time.monotonic() + wait_s
        while True:
            for rank in sorted(pending):
                if self._store.check([self._key(rank)]):
                    found[rank] = json.loads(self._store.get(self._key(rank)))
            pending -= found.keys()
            if not pending or time.monotonic() > deadline_s:
                return
            time.sleep(_POLL_S)

    def _key(self, rank: int) -> str:
        return f"{self._subject}/{rank}"
