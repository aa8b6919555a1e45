"""SIGTERM in a job of SLURM: all is cleared away, then the job ends as SLURM wants it to."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sigma_pipeline.jobs.slurm import JobView, SlurmError, job_view

log = logging.getLogger(__name__)

_ASK_INTERVAL_S = 1.0


class _AskedToEnd(SystemExit):
    """Raised in the main thread by the signal; no handler of errors takes it for one."""


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """Leaves the block at SIGTERM, which submitit would ignore, and then the process.

    A job that SLURM takes off its nodes to start it again must not end by itself, or it counts as
    complete; so it then waits to be killed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    except _AskedToEnd:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM may repeat it
        while _starts_again():
            time.sleep(_ASK_INTERVAL_S)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(_number: int, _frame: FrameType | None) -> None:
    log.warning("SIGTERM: ending, all that is done stays")
    raise _AskedToEnd(128 + signal.SIGTERM)


def _starts_again() -> bool:
    """Whether SLURM is ending this job and did not say that it is cancelled."""
    try:
        view = job_view(os.environ["SLURM_JOB_ID"])
    except (KeyError, SlurmError):
        return False
    return view is not None and _is_to_start_again(view)


def _is_to_start_again(view: JobView) -> bool:
    if view.preempt_time_s is not None:
        return True
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    return not view.is_running and not view.is_cancelled(restart)
