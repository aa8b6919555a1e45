"""Commits while training goes on: the main thread takes a snapshot, another one writes it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.attempts import Overtaken
from sigma_pipeline.jobs.canary import Canary, CanaryModel
from sigma_pipeline.jobs.commit_clock import CommitClock
from sigma_pipeline.jobs.commit_hearing import CommitHearing
from sigma_pipeline.jobs.commit_save import (
    SLOWEST_RANK,
    CommitFacts,
    CommitOutcome,
    CommitSave,
    Position,
)
from sigma_pipeline.jobs.commit_snapshot import Snapshot
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.objective import Objective

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine

log = logging.getLogger(__name__)

_LAST_WAIT_S = 60.0
"""For a commit that is under way when an error ends training: it may still become one."""
_SIGN_INTERVAL_S = 1.0
_RECENT_SAVES = 3


class CommitWriter:
    """The commits of one attempt. Every rank has one and begins them at the same steps.

    At most one is under way. Whether it was written is known to all ranks when ``settle`` returns;
    between two commits each rank may know it at another step, so nobody acts on that alone:
    ``rings``, ``is_over`` and ``is_under_way`` are what a rank tells the others.
    """

    def __init__(
        self,
        facts: CommitFacts,
        context: RankContext,
        engine: "DeepSpeedEngine",
        storage: Storage,
        *,
        objective: Objective,
        canary: Canary,
        resumed: Commit | None,
        flush_journal: Callable[[], None],
        on_wait: Callable[[], object] = lambda: None,
        on_commit: Callable[[int], None] | None = None,
    ) -> None:
        """Begins no commit.

        Args:
            facts: what all commits have in common.
            context: of this rank.
            engine: whose state is committed.
            storage: where to.
            objective: of the run.
            canary: of the run.
            resumed: the commit that training goes on from.
            flush_journal: no commit without what led to it.
            on_wait: called again and again while a commit is waited for that still goes on: that
                may take longer than a watchdog lets a rank be at one thing.
            on_commit: called by rank 0, in a thread of its own, with each step that is committed.
        """
        self.newest_step = resumed.step if resumed else -1
        """Of the newest commit that is there; -1 before the first."""
        self.newest_prefix = resumed.prefix if resumed else None
        """Key of its folder."""
        self._saves_s: deque[float] = deque(maxlen=_RECENT_SAVES)
        self._resumed_save_s = resumed.save_s if resumed else 0.0
        self._context = context
        self._is_first = context.is_first
        self._root_uri = storage.root_uri
        self._grace_min = facts.request.train.commit_grace_min
        self._clock = CommitClock(facts.request.train)
        self._snapshot = Snapshot(engine, has_weights=context.is_first)
        self._save = CommitSave(
            facts,
            context,
            storage,
            self._clock,
            canary=_canary_model(objective, engine, canary) if context.is_first else None,
            flush_journal=flush_journal,
        )
        self._on_wait = on_wait
        self._hearing = CommitHearing(on_commit) if on_commit and context.is_first else None
        self._under_way: Future[CommitOutcome] | None = None
        self._thread: threading.Thread | None = None
        self._problem = ""
        self._end: StageError | None = None

    @property
    def longest_save_s(self) -> float:
        """From the beginning of a commit to its end, the most of the last few.

        Before the first of this attempt, what the one that is resumed says.
        """
        return max(self._saves_s, default=self._resumed_save_s)

    def begin(self, position: Position, seconds: Mapping[str, float]) -> None:
        """Begins a commit of the engine's state, after the one under way. A collective.

        Args:
            position: where training stands.
            seconds: the time ledger so far.

        Raises:
            StageError: see ``settle``.
        """
        self.settle()
        self._clock.begin()
        self._snapshot.begin()
        self._under_way = Future()
        self._thread = threading.Thread(
            target=self._work,
            args=(self._under_way, position, dict(seconds)),
            name="commit",
            daemon=True,  # one that hangs must not keep the process
        )
        self._thread.start()

    def before_update(self) -> None:
        """Waits until weights and optimizer state may change: the snapshot has been copied."""
        self._snapshot.wait()

    def rings(self) -> bool:
        """Whether rank 0's clock asks for a commit; to be told to all, and true once for each."""
        self._look()
        return self._is_first and self._under_way is None and self._clock.rings()

    def is_over(self) -> bool:
        """Whether this rank knows that there will be no more commits; then all have to settle."""
        return self._end is not None or (self.is_under_way() and self._is_late())

    def is_under_way(self) -> bool:
        """Whether this rank does not know the outcome of the commit begun last."""
        self._look()
        return self._under_way is not None

    def ends_within(self, wait_s: float) -> bool:
        """Whether the commit under way is over for all ranks, in so many seconds. A collective."""
        if self._under_way is not None:
            wait([self._under_way], wait_s)
        return not any(self._context.all_gather(self.is_under_way()))

    def settle(self) -> None:
        """Waits for the commit under way. A collective, with the same end on every rank.

        Raises:
            Overtaken: a newer attempt has started.
            StageError: none could be written for longer than ``train.commit_grace_min``, or one
                takes for ever.
        """
        if self._under_way is not None:
            self._wait_for(self._under_way)
            self._note(self._under_way.result())
        if self._thread is not None:
            self._thread.join()
        if self._end is not None:
            raise self._end

    def finish(
        self,
        position: Position,
        seconds: Mapping[str, float],
        *,
        may_retry: bool,
    ) -> None:
        """Returns when the engine's state is committed. A collective.

        Args:
            position: where training stands.
            seconds: the time ledger so far.
            may_retry: whether to try until the grace is over; else once, for a job that is to stop.

        Raises:
            StageError: see ``settle``; or it was tried once, in vain.
        """
        self.settle()
        while self.newest_step != position.step:
            self._on_wait()
            self.begin(position, seconds)
            self.settle()
            if self.newest_step == position.step:
                return
            if not may_retry:
                raise StageError(
                    f"step {position.step} could not be committed: {self._problem}; {self._where()}"
                )
            time.sleep(self._clock.retry_s)

    def close(self, hearing_wait_s: float = 0.0) -> None:
        """Ends the threads; a commit that is still under way has a minute to become one.

        Args:
            hearing_wait_s: longest wait for who is told of commits.
        """
        if self._thread is not None:
            if self._under_way is not None:
                log.info("Waiting for the commit that is under way")
            self._thread.join(_LAST_WAIT_S)
            if self._thread.is_alive():
                log.warning("The commit that was under way is given up")
                return
        self._save.close()
        if self._hearing is not None:
            self._hearing.close(hearing_wait_s)

    def _work(
        self, future: "Future[CommitOutcome]", position: Position, seconds: Mapping[str, float]
    ) -> None:
        """The other thread."""
        try:
            self._snapshot.copy()
            recent_s = max(self._saves_s, default=0.0)  # one that was slow is not told on for ever
            outcome = self._save.save(self._snapshot, position, seconds, recent_s)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            future.set_exception(error)
            return
        if self._hearing is not None and outcome.prefix is not None:
            self._hearing.tell(outcome.step)
        future.set_result(outcome)

    def _wait_for(self, under_way: "Future[CommitOutcome]") -> None:
        """Waits while a commit goes on, and says so to whoever watches."""
        while not wait([under_way], _SIGN_INTERVAL_S).done:
            if self._is_late():
                raise StageError(
                    f"a commit has not ended after {SLOWEST_RANK.total_seconds() / 60:g} minutes; "
                    f"{self._where()}"
                )
            self._on_wait()

    def _is_late(self) -> bool:
        return self._clock.spent_s() > SLOWEST_RANK.total_seconds()

    def _look(self) -> None:
        if self._under_way is not None and self._under_way.done():
            self._note(self._under_way.result())

    def _note(self, outcome: CommitOutcome) -> None:
        self._under_way = None
        self._problem = outcome.problem
        if outcome.prefix is not None:
            self.newest_step, self.newest_prefix = outcome.step, outcome.prefix
            self._saves_s.append(outcome.save_s)
        elif outcome.is_overtaken:
            self._end = Overtaken(outcome.problem)
        elif outcome.grace_left_s <= 0:
            self._end = StageError(
                f"no commit could be written for {self._grace_min:g} minutes "
                f"(train.commit_grace_min): {outcome.problem}; {self._where()}"
            )
        elif self._is_first:
            log.warning(
                "STEP %d WAS NOT COMMITTED: %s. Training goes on for %.0f s and tries again; make "
                "room, or see to the store",
                outcome.step,
                outcome.problem,
                outcome.grace_left_s,
            )

    def _where(self) -> str:
        """What a person has, and can do."""
        last = (
            f"the last good commit is {self.newest_prefix}"
            if self.newest_prefix
            else ("there is no commit yet")
        )
        return (
            f"{last}. Make room on the disks of {self._root_uri} and of scratch_dir, or see to the "
            "store, then run the same command again: it goes on from there"
        )


def _canary_model(objective: Objective, engine: "DeepSpeedEngine", canary: Canary) -> CanaryModel:
    is_on_cpu = engine.device.type == "cpu"
    return CanaryModel(objective, canary, engine.module if is_on_cpu else None)
