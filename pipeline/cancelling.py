"""Ending the jobs of a run: training saves first, where it is given the time."""

import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.attempts import mark_cancelled
from sigma_pipeline.jobs.commits import newest_commit
from sigma_pipeline.jobs.slurm import SlurmError, cancel, signal_job, slurm_is_here
from sigma_pipeline.jobs.submission import JobStage
from sigma_pipeline.pipeline.run_jobs import RunJob, look_at, read_jobs

_ORDER: tuple[JobStage, ...] = ("train", "evaluate", "shard")
"""Training first: each of its commits may submit an evaluation."""
_POLL_INTERVAL_S = 2.0
_REMINDER_INTERVAL_S = 15.0
_ENDING_S = 120.0
"""More than SLURM's KillWait and the end of a batch script take."""


@dataclass(frozen=True)
class Clock:
    """Time, as tests may replace it."""

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def cancel_run(
    storage: Storage,
    run_name: str,
    stages: Collection[str],
    *,
    grace_s: float,
    show: Callable[[str], None],
    clock: Clock | None = None,
) -> int:
    """Ends what SLURM has of a run; returns how many jobs that were.

    Args:
        storage: where the run lies.
        run_name: the run.
        stages: whose jobs.
        grace_s: how long a training that runs may take to save and end; 0: it is not asked to.
        show: takes lines for the person who waits.
        clock: of tests.

    Raises:
        StageError: SLURM cannot be asked, or a job does not end.
    """
    if not slurm_is_here():
        raise StageError(
            "this machine has not SLURM's commands, so no job can be cancelled from here; call it "
            "on a login node. A run that a command trains here ends with Ctrl-C in its terminal"
        )
    ending = _Ending(storage, run_name, show, clock or Clock())
    count = 0
    for stage in _ORDER:
        if stage in stages:
            count += ending.end_stage(stage, grace_s if stage == "train" else 0.0)
    return count


def describe_stop(storage: Storage, run_name: str) -> str:
    """Where a run that was ended stands, and how it goes on."""
    commit = newest_commit(storage, run_name)
    stopped, goes_on = "before its first commit", "begins again"
    if commit is not None:
        stopped, goes_on = f"at step {commit.step}", "goes on from there"
    return (
        f"Run {run_name} stopped {stopped}. It {goes_on} with sigma-pipeline run and the --stage, "
        "--config and --set of before."
    )


class _Ending:
    """Ends the jobs of one run, stage after stage."""

    def __init__(
        self, storage: Storage, run_name: str, show: Callable[[str], None], clock: Clock
    ) -> None:
        self._storage = storage
        self._run_name = run_name
        self._show = show
        self._clock = clock
        self._said: set[str] = set()
        self._given_at_s: dict[tuple[str, ...], float] = {}

    def end_stage(self, stage: JobStage, grace_s: float) -> int:
        """Ends the jobs of a stage that SLURM has now; returns how many there were.

        Raises:
            StageError: one of them does not end.
        """
        jobs = read_jobs(self._storage, self._run_name, ask_slurm=True)
        queued = [job for job in jobs if job.stage == stage and job.queued_views]
        if stage == "train":
            for job in queued:
                mark_cancelled(self._storage, self._run_name, job.job_id, socket.gethostname())
        deadline_s = self._clock.now_s() + grace_s
        hopeless_s = deadline_s + _ENDING_S
        left = queued
        while left := [job for job in map(self._look_again, left) if job.queued_views]:
            if self._clock.now_s() > hopeless_s:
                raise StageError(
                    f"SLURM has not ended job {left[0].job_id} in {_ENDING_S:.0f} s; look at it "
                    f"with: squeue -j {left[0].job_id}"
                )
            for job in left:
                self._end(job, deadline_s)
            self._clock.sleep(_POLL_INTERVAL_S)
        for job in queued:
            self._say(f"{stage} job {job.job_id} has ended")
        return len(queued)

    def _look_again(self, job: RunJob) -> RunJob:
        """The job as it is now; as it was where SLURM, busy with ending it, does not answer."""
        try:
            return look_at(job.submission)
        except SlurmError as error:
            self._say(str(error))
            return job

    def _end(self, job: RunJob, deadline_s: float) -> None:
        """Takes a job out of the queue; asks one that runs to save, until it is too late."""
        name, left_s = f"{job.stage} job {job.job_id}", deadline_s - self._clock.now_s()
        if job.is_running and left_s > 0:
            # Again and again: a signal is lost on a rank that only starts. Two do no harm.
            self._now_and_then(signal_job, job.job_id, "TERM")
            self._say(f"{name} is asked to save and end; it has {left_s:.0f} s", name)
        else:
            self._now_and_then(cancel, job.job_id)
            self._say(f"{name} is ended" if job.is_running else f"{name} is out of the queue")

    def _now_and_then(self, command: Callable[..., None], *arguments: str) -> None:
        """Gives SLURM a command, unless it had it a moment ago."""
        now_s = self._clock.now_s()
        if now_s - self._given_at_s.get(arguments, float("-inf")) < _REMINDER_INTERVAL_S:
            return
        self._given_at_s[arguments] = now_s
        try:
            command(*arguments)
        except SlurmError as error:  # it may just have ended, as the next look will show
            self._say(str(error))

    def _say(self, line: str, subject: str | None = None) -> None:
        """Shows a line once; of those on one subject, the first."""
        if (key := subject or line) not in self._said:
            self._said.add(key)
            self._show(line)
