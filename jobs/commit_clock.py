"""The clock of commits: when one is due, and how long training may go on without."""

import time
from collections.abc import Callable

from sigma_pipeline.jobs.config import TrainConfig

RETRY_AFTER_S = 60.0


class CommitClock:
    """Rank 0's; the other ranks are told what it says."""

    def __init__(self, train: TrainConfig, now: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = train.commit_every_min * 60 if train.commit_every_min else None
        self._grace_s = train.commit_grace_min * 60
        self._now = now
        self._begun_s = now()
        self._failing_since_s: float | None = None
        self._has_rung = False

    @property
    def retry_s(self) -> float:
        """From the beginning of a commit that failed to that of the next."""
        return min(RETRY_AFTER_S, self._interval_s or RETRY_AFTER_S)

    def begin(self) -> None:
        """A commit begins."""
        self._begun_s = self._now()
        self._has_rung = False

    def spent_s(self) -> float:
        """Seconds since the last commit began."""
        return self._now() - self._begun_s

    def succeed(self) -> None:
        """It was written."""
        self._failing_since_s = None

    def fail(self) -> float:
        """It was not; returns the seconds that training may still go on, 0 when they are over."""
        if self._failing_since_s is None:
            self._failing_since_s = self._begun_s
        return max(0.0, self._grace_s - (self._now() - self._failing_since_s))

    def rings(self) -> bool:
        """Whether the next commit is due by time; true once per commit."""
        wait_s = self._interval_s if self._failing_since_s is None else self.retry_s
        if self._has_rung or wait_s is None or self.spent_s() < wait_s:
            return False
        self._has_rung = True
        return True
