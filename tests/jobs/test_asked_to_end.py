"""SIGTERM in a job: what is left of it, and when its process ends."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from sigma_pipeline.jobs import asked_to_end
from sigma_pipeline.jobs.asked_to_end import ends_on_sigterm
from sigma_pipeline.jobs.slurm import JobView

RUNS = JobView(job_id="7", state="RUNNING")
IS_CANCELLED = JobView(job_id="7", state="COMPLETING")
IS_PREEMPTED = JobView(job_id="7", state="RUNNING", preempt_time_s=1.0)
IS_REQUEUED = JobView(job_id="7", state="COMPLETING", restarts=1)


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[JobView]]:
    """What SLURM says of the job, one after the other."""
    said: list[JobView] = []
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    monkeypatch.setattr(asked_to_end, "job_view", lambda _: said.pop(0))
    monkeypatch.setattr(asked_to_end, "_ASK_INTERVAL_S", 0.0)
    yield said
    assert not said


def be_ended(clear: Callable[[], None]) -> None:
    with ends_on_sigterm(), ExitStack() as stack:
        stack.callback(clear)
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()


@pytest.mark.parametrize("last", [RUNS, IS_CANCELLED])
def test_sigterm_ends_the_process_once_all_is_cleared_away(
    views: list[JobView], last: JobView
) -> None:
    views.append(last)
    before = signal.getsignal(signal.SIGTERM)
    cleared: list[bool] = []

    with pytest.raises(SystemExit, match="143"):
        be_ended(lambda: cleared.append(True))

    assert cleared
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_sigterm_while_waiting_to_be_killed_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = [IS_PREEMPTED, IS_CANCELLED]

    def view_and_sigterm(job_id: str) -> JobView:
        os.kill(os.getpid(), signal.SIGTERM)
        return said.pop(0)

    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(asked_to_end, "job_view", view_and_sigterm)
    monkeypatch.setattr(asked_to_end, "_ASK_INTERVAL_S", 0.0)

    with pytest.raises(SystemExit) as end:
        be_ended(lambda: None)

    assert end.value.code == 143
    assert not said


@pytest.mark.parametrize("view", [IS_PREEMPTED, IS_REQUEUED])
def test_a_job_that_slurm_starts_again_waits_to_be_killed(
    views: list[JobView], view: JobView
) -> None:
    views += [view, view, IS_CANCELLED]

    with pytest.raises(SystemExit):
        be_ended(lambda: None)
