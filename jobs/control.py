"""Stopping together: a wish to stop on any rank becomes a decision of all ranks at the same step.

Wishes are signals (SIGTERM, SIGUSR2 from a scheduler, SIGINT, SIGHUP from a terminal) and the death
of the process that waits for the job. They are exchanged over the control group, one step late, so
that nobody ever waits for the exchange (design 5).
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist

from sigma_pipeline.jobs.train_request import ProcessIdentity

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
_WATCH_INTERVAL_S = 1.0


class StopWish:
    """Whether this rank wants to stop, and why. The first reason stays."""

    def __init__(self, watched: Sequence[ProcessIdentity | None] = ()) -> None:
        self._watched = [process for process in watched if process is not None]
        self._looked_at_s = float("-inf")
        self.reason: str | None = None

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


class Agreement:
    """The ranks' wishes, known to all ranks one call later."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._work: dist.Work | None = None

    def exchange(self, wish: bool) -> bool:
        """Sends this rank's wish; returns whether any rank had one at the call before.

        Every rank must call it equally often, and then gets the same answers.
        """
        agreed = self._finish()
        self._flag = torch.tensor([int(wish)], dtype=torch.int32)
        self._work = dist.all_reduce(
            self._flag, op=dist.ReduceOp.MAX, group=self._group, async_op=True
        )
        return agreed

    def close(self) -> bool:
        """Waits for the last exchange; returns its result."""
        return self._finish()

    def _finish(self) -> bool:
        if self._work is None:
            return False
        self._work.wait()
        self._work = None
        return bool(self._flag.item())


def parent_process() -> ProcessIdentity | None:
    """The process that started this one."""
    return ProcessIdentity.of(os.getppid())
