"""Where the time of a run went, from its first submission on, over all attempts.

Each second belongs to one purpose, so that the ledger adds up to the time that has passed. While
an attempt runs its main thread says what it is doing. What lies between the newest commit and the
start of the next attempt nobody was left to write down; that attempt infers it from when the others
began and ended.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

PURPOSES: Mapping[str, str] = {
    "productive_s": "steps",
    "data_wait_s": "waiting for data",
    "commit_wait_s": "waiting for commits",
    "paused_s": "waiting for evaluation on the same GPU",
    "start_s": "first start",
    "restart_s": "stopping and starting again",
    "lost_s": "work lost after the last commit",
    "queue_s": "in the queue",
    "idle_s": "ended, and not submitted again",
    "other_s": "the rest: agreeing, logging",
}
"""Every purpose, in the order people read them."""
EVALUATION = "evaluation_s"
"""What evaluation took, added up over its tasks: beside training, and so no part of its time."""


@dataclass(frozen=True)
class Life:
    """When an attempt ran; milliseconds since 1970."""

    started_ms: int
    ended_ms: int
    """Its last sign of life where nobody saw it end."""
    is_orderly: bool
    """It stopped by agreement, with everything committed: its end was no loss."""
    is_queued: bool = False
    """A scheduler started it; what it waited for that is queueing, even if nobody submitted it."""


class TimeLedger:
    """Seconds of the run by purpose; for one thread. It begins with the start of an attempt."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        began_ms: int | None = None,
    ) -> None:
        self.began_ms = time.time_ns() // 1_000_000 if began_ms is None else began_ms
        """When this attempt began."""
        self.has_history = False
        """Whether it knows what was spent before this attempt."""
        self._clock = clock
        self._purpose = "start_s"
        self._since_s = clock()
        self._seconds: dict[str, float] = {}

    @property
    def seconds(self) -> dict[str, float]:
        """Up to now, by purpose."""
        self._turn_to(self._purpose)
        return dict(self._seconds)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Adds what was spent elsewhere."""
        for purpose, spent_s in seconds.items():
            self._seconds[purpose] = self._seconds.get(purpose, 0) + spent_s

    @contextmanager
    def spent_on(self, purpose: str) -> Iterator[None]:
        """Adds the time inside to ``purpose``, and to no other that is going on around it."""
        outer = self._purpose
        self._turn_to(purpose)
        try:
            yield
        finally:
            self._turn_to(outer)

    def begin(self, before: Mapping[str, float]) -> None:
        """The start is over, and ``before`` is what was spent until it began."""
        self._turn_to("other_s")
        if sum(before.get(purpose, 0) for purpose in _OF_ATTEMPTS) > 0:
            self.add({"restart_s": self._seconds.pop("start_s")})
        self.add(before)
        self.has_history = True

    def fall_back(self, committed: Mapping[str, float]) -> None:
        """Training goes back to a commit, whose ledger this was: work done after it is lost."""
        self._turn_to(self._purpose)
        for purpose in _WORK:
            lost_s = self._seconds.get(purpose, 0) - committed.get(purpose, 0)
            self.add({purpose: -lost_s, "lost_s": lost_s})

    def _turn_to(self, purpose: str) -> None:
        now_s = self._clock()
        self.add({self._purpose: now_s - self._since_s})
        self._purpose, self._since_s = purpose, now_s


_OF_ATTEMPTS = PURPOSES.keys() - {"queue_s", "idle_s"}
_WORK = ("productive_s", "data_wait_s", "commit_wait_s", "other_s")


def spent_before(
    carried: Mapping[str, float],
    lives: Sequence[Life],
    submitted_ms: Sequence[int],
    began_ms: int,
    *,
    is_queued: bool = False,
) -> dict[str, float]:
    """What was spent until an attempt began: ``carried``, and all that came after it.

    Args:
        carried: the ledger of the commit that is resumed; empty without one. It tells by its sum
            until when the time is accounted for.
        lives: of all earlier attempts, in their order.
        submitted_ms: when the run was submitted, each time.
        began_ms: when the attempt began.
        is_queued: whether a scheduler started it.
    """
    submitted_ms = [time_ms for time_ms in submitted_ms if time_ms <= began_ms]
    begins = [*submitted_ms, *(life.started_ms for life in lives), began_ms]
    cursor = min(begins) + round(1000 * sum(carried.values()))
    spent = {purpose: float(seconds) for purpose, seconds in carried.items()}

    def advance(until_ms: int, purpose: str) -> None:
        nonlocal cursor
        if until_ms > cursor:
            spent[purpose] = spent.get(purpose, 0) + (until_ms - cursor) / 1000
            cursor = until_ms

    for life in (*lives, Life(began_ms, began_ms, is_orderly=True, is_queued=is_queued)):
        asked_ms = [time_ms for time_ms in submitted_ms if cursor < time_ms <= life.started_ms]
        is_waiting = life.is_queued and not asked_ms  # queued again, or submitted long before
        if not is_waiting and cursor > min(begins):
            advance(min(asked_ms, default=life.started_ms), "idle_s")
        advance(life.started_ms, "queue_s")
        advance(min(life.ended_ms, began_ms), "restart_s" if life.is_orderly else "lost_s")
    return spent


def shares(seconds: Mapping[str, float]) -> dict[str, float]:
    """Of the whole time, by purpose; evaluation, which went on beside it, is left out."""
    own = {purpose: spent_s for purpose, spent_s in seconds.items() if purpose != EVALUATION}
    whole_s = sum(own.values())
    return {purpose: spent_s / whole_s if whole_s else 0.0 for purpose, spent_s in own.items()}


def ledger_metrics(seconds: Mapping[str, float]) -> dict[str, float]:
    """For the journal: ``time/productive_s``, ``time/productive_share`` and so on; all purposes."""
    whole = dict.fromkeys(PURPOSES, 0.0) | dict(seconds)
    metrics = {f"time/{purpose}": spent_s for purpose, spent_s in whole.items()}
    for purpose, share in shares(whole).items():
        metrics[f"time/{purpose.removesuffix('_s')}_share"] = share
    return metrics


def describe_ledger(seconds: Mapping[str, float]) -> list[str]:
    """Lines for people: the largest first, with time and share; the whole; evaluation apart."""
    share = shares(seconds)
    lines = [
        f"{duration(seconds[purpose]):>14} {100 * share[purpose]:5.1f} %  "
        f"{PURPOSES.get(purpose, purpose)}"
        for purpose in sorted(share, key=lambda purpose: -share[purpose])
        if seconds[purpose] >= 1 or share[purpose] >= 0.001
    ]
    whole_s = sum(seconds[purpose] for purpose in share)
    lines.append(f"{duration(whole_s):>14} 100.0 %  since the first submission")
    if EVALUATION in seconds:
        lines.append(f"{duration(seconds[EVALUATION]):>14}          evaluation, beside training")
    return lines


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, rest_min = divmod(minutes, 60)
    return f"{hours} h {rest_min:02d} min" if hours else f"{minutes} min {rest_s:02d} s"
