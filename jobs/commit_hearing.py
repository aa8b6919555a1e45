"""Who is told of commits: called one after the other in a thread of its own, beside the saves."""

import logging
import queue
import threading
from collections.abc import Callable

from sigma_pipeline.infra.errors import PipelineError

log = logging.getLogger(__name__)


class CommitHearing:
    """Tells somebody who may be slow, and may fail, of each commit."""

    def __init__(self, on_commit: Callable[[int], None]) -> None:
        """``on_commit``: called with each step that is committed."""
        self._on_commit = on_commit
        self._steps: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        # Not of an executor, whose threads Python waits for at its end without a limit.
        self._thread = threading.Thread(target=self._work, name="on-commit", daemon=True)
        self._thread.start()

    def tell(self, step: int) -> None:
        """Tells of a commit, after those before it; returns at once."""
        self._steps.put(step)

    def close(self, wait_s: float) -> None:
        """Returns when all is told, or after ``wait_s``; what is not told then may stay untold."""
        self._steps.put(None)
        self._thread.join(wait_s)

    def _work(self) -> None:
        while (step := self._steps.get()) is not None:
            try:
                self._on_commit(step)
            except (OSError, PipelineError) as error:
                log.warning("After the commit of step %d: %s", step, error)
