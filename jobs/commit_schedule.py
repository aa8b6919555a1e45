"""When commits begin: by steps and by the clock, one after the other, after good steps only."""

import logging
from collections.abc import Sequence

from sigma_pipeline.jobs.train_commit import CommitWriter

log = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""For the commit under way when the next one is due, so that on a quick store commits lie at the
steps they were asked for. On a slow one it is waited for once and not again."""


class CommitSchedule:
    """Decides after which steps a commit begins; every rank has one, and all decide alike.

    A commit that is due stays so until it has begun: bad steps, or a slow store, only put it off.
    """

    def __init__(self, commits: CommitWriter, every_steps: int) -> None:
        self._commits = commits
        self._every_steps = every_steps
        self._rings = False
        self._is_busy = False
        self._is_due = False
        self._is_put_off = False
        self._begun_at = -1

    def flags(self) -> list[int]:
        """What this rank tells the others, for an ``Agreement``."""
        commits = self._commits
        return [commits.rings(), commits.is_over(), commits.is_under_way()]

    def hear(self, flags: Sequence[int]) -> None:
        """Takes what all ranks have told, the highest of each.

        Raises:
            StageError: there will be no more commits; see ``CommitWriter.settle``.
        """
        rings, is_over, is_busy = map(bool, flags)
        self._rings, self._is_busy = rings, is_busy
        if is_over:
            self._commits.settle()

    def begins_after(self, step: int, *, is_good: bool) -> bool:
        """Whether a commit is to begin after ``step``, now. A collective.

        Args:
            step: steps taken.
            is_good: whether this one was applied; weights may be what makes steps bad.
        """
        # What was heard in this step was told before the one before: not of a commit begun since.
        is_told = self._begun_at < step - 1
        self._is_due = self._is_due or (self._rings and is_told) or step % self._every_steps == 0
        if not (self._is_due and is_good and self._is_free(step, is_told=is_told)):
            return False
        self._is_due = self._is_put_off = False
        self._begun_at = step
        return True

    def _is_free(self, step: int, *, is_told: bool) -> bool:
        """Whether the commit under way is over, on all ranks."""
        if is_told and not self._is_busy:
            return True
        if self._is_put_off:
            return False
        if self._commits.ends_within(PATIENCE_S):
            return True
        self._is_put_off = True
        log.info(
            "The commit after step %d is put off: that of step %d is still being written",
            step,
            self._begun_at,
        )
        return False
