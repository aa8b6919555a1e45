"""The log files of a run's jobs: what is in them, and what is written to them from now on."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sigma_pipeline.infra.errors import MissingInputError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.attempts import read_verdict
from sigma_pipeline.jobs.commits import manifest_key
from sigma_pipeline.jobs.slurm import SlurmError, slurm_is_here
from sigma_pipeline.jobs.submission import JobStage, Submission, read_submissions
from sigma_pipeline.jobs.train_request import ProcessIdentity
from sigma_pipeline.pipeline.log_tail import LogTail
from sigma_pipeline.pipeline.run_jobs import RunJob, log_path, read_jobs

_POLL_INTERVAL_S = 1.0
_POLLS_PER_LOOK = 10
_STILL_S = 5 * 60.0
"""After which nobody is expected to go on with the log of a run that has ended."""
_WRITTEN_BY: dict[JobStage, tuple[JobStage, ...]] = {
    "shard": ("shard",),
    "train": ("train",),
    "evaluate": ("train", "evaluate"),  # training submits further evaluations
}


@dataclass(frozen=True)
class LogFile:
    """The log of one rank of one job."""

    submission: Submission
    rank: int

    @property
    def path(self) -> Path:
        """Where it lies."""
        return log_path(self.submission, self.rank)


class RunLogs:
    """The logs of one rank in the jobs of one stage of a run."""

    def __init__(
        self,
        storage: Storage,
        run_name: str,
        stage: JobStage,
        rank: int | None,
        *,
        show: Callable[[str], None],
        remark: Callable[[str], None],
    ) -> None:
        """Nothing is shown yet.

        Args:
            storage: where the run lies.
            run_name: the run.
            stage: whose jobs.
            rank: in the job; of an array, number of the task. When absent, rank 0, or the task
                that wrote last: the one that says how an array ended.
            show: takes a line of a log.
            remark: takes a line about which log that is.
        """
        self._storage = storage
        self._run_name = run_name
        self._stage = stage
        self._rank = rank
        self._show = show
        self._remark = remark

    def show_last(self, num_lines: int) -> None:
        """Shows the last lines of the newest log.

        Raises:
            MissingInputError: there is none.
        """
        self._begin(self._find(), num_lines)
        self._warn_without_slurm()

    def follow(self, num_lines: int, sleep: Callable[[float], None] = time.sleep) -> None:
        """Shows the last lines, then all that come: over requeues, and from job to job.

        Returns when nothing more will come.

        Raises:
            MissingInputError: there is no log.
        """
        log = self._find()
        tail = self._begin(log, num_lines)
        self._warn_without_slurm()
        while True:
            is_over = self._is_over(log)
            found = self._find()
            tail.show_new()
            if found != log:
                log = found
                tail = self._begin(log, None)
            elif is_over:
                return
            for _ in range(_POLLS_PER_LOOK):
                sleep(_POLL_INTERVAL_S)
                tail.show_new()

    def _find(self) -> LogFile:
        submissions = read_submissions(self._storage, self._run_name)
        log = newest_log(submissions, self._stage, self._rank)
        self._rank = log.rank  # no task's lines come between another one's when it is followed
        return log

    def _begin(self, log: LogFile, num_lines: int | None) -> LogTail:
        waiting = "" if log.path.exists() else " is not there yet: the job has not begun"
        self._remark(f"job {log.submission.job_id}: {log.path}{waiting}")
        tail = LogTail(log.path, self._show)
        if num_lines is not None:
            tail.show_last(num_lines)
        return tail

    def _warn_without_slurm(self) -> None:
        submissions = read_submissions(self._storage, self._run_name)
        if not slurm_is_here() and any(one.cluster == "slurm" for one in submissions):
            self._remark("SLURM's commands are not here: whether a job goes on is not known")

    def _is_over(self, log: LogFile) -> bool:
        """Whether nothing more will be written, as far as can be known."""
        is_here = slurm_is_here()
        try:
            jobs = read_jobs(self._storage, self._run_name, ask_slurm=is_here)
        except SlurmError:
            is_here = False
            jobs = read_jobs(self._storage, self._run_name, ask_slurm=False)
        writers = [job for job in jobs if job.stage in _WRITTEN_BY[self._stage]]
        if any(_is_local_and_alive(job) for job in writers):
            return False
        if is_here or not any(job.is_slurms for job in writers):
            return not any(job.is_live for job in writers)
        return self._has_run_ended() and _is_still(log.path)

    def _has_run_ended(self) -> bool:
        """Whether it says so itself."""
        storage, run_name = self._storage, self._run_name
        return storage.exists(manifest_key(run_name)) or read_verdict(storage, run_name) is not None


def newest_log(submissions: Sequence[Submission], stage: JobStage, rank: int | None) -> LogFile:
    """The log of the job that began last; of the newest one if none has begun.

    Args:
        submissions: of the run, in the order of time.
        stage: whose jobs.
        rank: of the job, or number of the task of an array; see ``RunLogs``.

    Raises:
        MissingInputError: there is no such job or rank, or its files are not to be seen from here.
    """
    jobs = [one for one in submissions if one.stage == stage]
    if not jobs:
        stages = ", ".join(dict.fromkeys(one.stage for one in submissions))
        raise MissingInputError(
            f"no job of stage {stage} has been submitted for this run; "
            f"{f'there are logs of stage {stages}' if stages else 'none has of any stage'}. "
            f"Begin it with: sigma-pipeline run --stage {stage}"
        )
    submission = ([one for one in jobs if log_path(one, 0).exists()] or jobs)[-1]
    if rank is None:
        rank = max(range(submission.world_size), key=lambda each: _written_s(submission, each))
    if rank >= submission.world_size:
        last = submission.world_size - 1
        there_is = f"ranks 0 to {last}" if last else "rank 0 alone"
        raise MissingInputError(f"job {submission.job_id} has no rank {rank}: it has {there_is}")
    if not Path(submission.folder).is_dir():
        raise MissingInputError(
            f"the logs of job {submission.job_id} lie in {submission.folder}, which this machine "
            "does not see; call sigma-pipeline logs on one that does"
        )
    return LogFile(submission, rank)


def _written_s(submission: Submission, rank: int) -> float:
    """When a rank last wrote; of ranks, which tell the same, only the first is said to write."""
    if submission.stage != "shard" and rank:
        return -1.0
    try:
        return log_path(submission, rank).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is_local_and_alive(job: RunJob) -> bool:
    # The number of the process that controls a local job; "DEBUG_..." ran in the command itself.
    return (
        not job.is_slurms
        and job.job_id.isdigit()
        and ProcessIdentity.of(int(job.job_id)) is not None
    )


def _is_still(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _STILL_S
    except FileNotFoundError:
        return True
