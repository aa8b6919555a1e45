"""Why one rank wants to stop: signals, the death of who waits for it, SLURM's time limit.

Imports nothing heavy: the handlers must be in place before a rank begins to import what takes
seconds, or a signal in that time would end it.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Self

from sigma_pipeline.jobs.slurm import JobView, SlurmError, job_view, slurm_is_here
from sigma_pipeline.jobs.train_request import ProcessIdentity

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
_WATCH_INTERVAL_S = 1.0
_ASK_INTERVAL_S = 60.0
_ENDING_ASK_INTERVAL_S = 5.0
_MARGIN_S = 10.0
_TELL_S = 3.0
"""For telling why the process ends at the limit."""
_MOST_LEAD_FRACTION = 0.25
_KEPT_FRACTION, _LEAST_KEPT_S, _MOST_KEPT_S = 0.02, 5.0, 45.0
"""Of the time limit, for what comes after: ranks that hang are killed after SLURM's KillWait, 30 s
by default, and only then the job is queued again."""


class StopWish:
    """Whether this rank wants to stop, and why. The first reason stays."""

    def __init__(self, watched: Sequence[ProcessIdentity | None] = ()) -> None:
        self._watched = [process for process in watched if process is not None]
        self._looked_at_s = float("-inf")
        self.reason: str | None = None

    @classmethod
    def of_job(cls, launcher: ProcessIdentity | None) -> Self:
        """Of a job that stops when ``launcher``, or the process that started this one, is gone.

        Without a launcher nobody on this machine waits for the job.
        """
        return cls((launcher, ProcessIdentity.of(os.getppid())) if launcher else ())

    def wish(self, reason: str) -> None:
        """Asks for a stop at the end of the current step."""
        self.reason = self.reason or reason

    def is_wished(self) -> bool:
        """Whether to stop; looks after the watched processes at most once a second."""
        now_s = time.monotonic()
        if self._watched and now_s - self._looked_at_s >= _WATCH_INTERVAL_S:
            self._looked_at_s = now_s
            for process in self._watched:
                if not process.is_alive():
                    self.wish(f"process {process.pid}, which waited for this job, is gone")
        return self.reason is not None


def shared_reason(reasons: Iterable[str | None]) -> str:
    """Why all ranks stop: the reasons of those that have one."""
    return "; ".join(sorted(set(filter(None, reasons))))


@contextmanager
def stop_on_signals(wish: StopWish) -> Iterator[None]:
    """Turns signals into wishes for as long as it is entered.

    A second signal changes nothing. The handlers of submitit, which would ignore SIGTERM and end
    rank 0 alone on SIGUSR2, are put back afterwards. Outside the main thread, where Python allows
    no handlers, nothing is done.
    """

    def note(number: int, _frame: FrameType | None) -> None:
        wish.wish(f"signal {signal.Signals(number).name}")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    # The launcher blocks the terminal's signals while it starts the job; see launch.py.
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in before.items():
            signal.signal(number, handler)


class TimeLimit:
    """What SLURM is about to do with this job: when it will end it, and whether it ends it now.

    A thread asks, so that a controller that does not answer delays no step: every minute, for an
    administrator may move the limit, and more often when a stop is wished. If the limit comes
    before the job has saved, the process ends a little earlier: SLURM ends the batch script, too,
    when all ranks are killed, and nobody could queue the job again.
    """

    def __init__(
        self,
        job_id: str | None,
        wish: StopWish,
        *,
        restart: int,
        on_cancel: Callable[[], object],
        on_taken: Callable[[], object],
        on_limit: Callable[[], object],
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """Begins to ask.

        Args:
            job_id: None outside SLURM, and on other ranks than the one that asks: no limit.
            wish: of this rank.
            restart: how often SLURM had started the job before.
            on_cancel: called when somebody has ended the job for good; there is little time left.
            on_taken: called when SLURM takes its nodes away and queues it again; the same.
            on_limit: called before the process is ended, and given 3 s, in a thread of its own.
            end: how it is ended, with its exit status.
        """
        self._wish = wish
        self._restart = restart
        self._on_cancel = on_cancel
        self._on_taken = on_taken
        self._is_told = False
        self._on_limit = on_limit
        self._end = end
        self._seen: JobView | None = None
        self._deadline_s = float("inf")
        self._longest_lead_s = float("inf")
        self._is_closed = threading.Event()
        if job_id is not None and not slurm_is_here():
            log.warning(
                "SLURM'S COMMANDS ARE NOT VISIBLE HERE, as in a container: how long job %s may run "
                "is known from SIGUSR2 alone, shortly before its time limit, and a preemption that "
                "leaves no time to save counts as a failure. Mount the commands, their "
                "configuration and munge's socket into the container (docs/cluster.md)",
                job_id,
            )
        elif job_id is not None:
            follow = partial(self._follow, job_id)
            threading.Thread(target=follow, name="time-limit", daemon=True).start()

    def is_near(self, lead_s: float) -> bool:
        """Whether all must have been saved within ``lead_s`` seconds.

        However long that is, no more than a quarter of the job's time is given to it.
        """
        return self._deadline_s - time.time() <= min(lead_s, self._longest_lead_s)

    def close(self) -> None:
        """Stops asking, and ends nothing any more."""
        self._is_closed.set()

    def _follow(self, job_id: str) -> None:
        asked_s, was_wished = float("-inf"), False
        while not self._is_closed.is_set():
            is_wished = self._wish.reason is not None
            interval_s = _ENDING_ASK_INTERVAL_S if is_wished else _ASK_INTERVAL_S
            if is_wished != was_wished or time.monotonic() - asked_s >= interval_s:
                self._ask(job_id)
                asked_s, was_wished = time.monotonic(), is_wished
            if time.time() >= self._deadline_s and not self._is_closed.is_set():
                # A store that does not answer must not keep it past the limit.
                telling = threading.Thread(target=self._on_limit, name="at-limit", daemon=True)
                telling.start()
                telling.join(_TELL_S)
                self._end(1)
                return
            self._is_closed.wait(_WATCH_INTERVAL_S)

    def _ask(self, job_id: str) -> None:
        try:
            view = job_view(job_id)
        except SlurmError as error:
            log.warning("When this job must end is not known anew: %s", error)
            return
        if view is None:
            return
        if view.is_running:
            self._note(view)
        if not self._is_told:
            self._tell(view)

    def _tell(self, view: JobView) -> None:
        """Calls, once, what has to be done while there is time for it."""
        is_taken = view.restarts > self._restart or view.preempt_time_s is not None
        if is_taken or view.is_cancelled(self._restart):
            self._is_told = True
            (self._on_taken if is_taken else self._on_cancel)()

    def _note(self, view: JobView) -> None:
        is_new = self._seen is None or self._seen.end_time_s != view.end_time_s
        self._seen = view
        if view.preempt_time_s is not None:
            return  # the end is that of the grace, all of which is for saving: SLURM requeues
        if not is_new or view.start_time_s is None or view.end_time_s is None:
            return
        allowed_s = view.end_time_s - view.start_time_s
        kept_s = min(max(_KEPT_FRACTION * allowed_s, _LEAST_KEPT_S), _MOST_KEPT_S)
        self._longest_lead_s = _MOST_LEAD_FRACTION * allowed_s
        self._deadline_s = view.end_time_s - kept_s
        end = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(view.end_time_s))
        log.info("SLURM's time limit ends this job at %s", end)


def stop_lead_s(longest_save_s: float, slowest_step_s: float) -> float:
    """How long before the time limit to begin to stop.

    The stop is agreed on during one step and begins after it. A commit may have begun just before,
    and is waited for; then the last one is saved.
    """
    return 2.5 * longest_save_s + 2 * slowest_step_s + _MARGIN_S
