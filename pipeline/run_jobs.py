"""The jobs of a run, and what SLURM says of them now."""

from dataclasses import dataclass
from pathlib import Path

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.slurm import JobView, job_views, queued_jobs
from sigma_pipeline.jobs.submission import JobStage, Submission, read_submissions

_ENDED = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
    )
)
_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
_NEVER_STARTS = "DependencyNeverSatisfied"


@dataclass(frozen=True)
class RunJob:
    """A job of the run, on SLURM or on one machine."""

    submission: Submission
    views: tuple[JobView, ...] = ()
    """Of the job, or of each task of an array; none where SLURM does not know it any more, cannot
    be asked, or never had it."""

    @property
    def job_id(self) -> str:
        """SLURM's number, or that of the process that controls it."""
        return self.submission.job_id

    @property
    def is_slurms(self) -> bool:
        """Whether it was handed to SLURM."""
        return self.submission.cluster == "slurm"

    @property
    def stage(self) -> JobStage:
        """What it does."""
        return self.submission.stage

    @property
    def queued_views(self) -> list[JobView]:
        """Of what has not ended."""
        return [view for view in self.views if view.state not in _ENDED]

    @property
    def is_live(self) -> bool:
        """Whether it runs, or will by itself."""
        return any(view.reason != _NEVER_STARTS for view in self.queued_views)

    @property
    def is_running(self) -> bool:
        """Whether it has nodes, be it that SLURM is ending it."""
        return any(not is_waiting(view) for view in self.queued_views)

    @property
    def is_cancelled(self) -> bool:
        """Whether it was ended by ``scancel``."""
        return any(view.state == "CANCELLED" for view in self.views)

    @property
    def end_time_s(self) -> float | None:
        """When it has ended, in seconds since 1970; None while it has not, or nobody knows."""
        if self.queued_views:
            return None
        return max((view.end_time_s for view in self.views if view.end_time_s), default=None)


def is_waiting(view: JobView) -> bool:
    """Whether it is in the queue."""
    return view.state in _WAITING


def read_jobs(storage: Storage, run_name: str, *, ask_slurm: bool) -> list[RunJob]:
    """All jobs of the run, in the order of their submission.

    SLURM is asked for its queue, then about those that are in it and the newest of each stage: an
    evaluation may be as many jobs as commits.

    Raises:
        SlurmError: SLURM does not answer.
    """
    submissions = read_submissions(storage, run_name)
    handed = [one for one in submissions if one.cluster == "slurm"]
    asked = set[str]()
    if ask_slurm and handed:
        asked = queued_jobs() | {one.job_id for one in {one.stage: one for one in handed}.values()}
    return [
        look_at(one) if one.cluster == "slurm" and one.job_id in asked else RunJob(one)
        for one in submissions
    ]


def look_at(submission: Submission) -> RunJob:
    """The job with what SLURM says of it now.

    Raises:
        SlurmError: SLURM does not answer.
    """
    return RunJob(submission, tuple(filter(submission.is_job, job_views(submission.job_id))))


def log_path(submission: Submission, rank: int) -> Path:
    """What a rank, or a task of an array, writes to its error stream, which is where logs go."""
    name = f"{rank}_0" if submission.stage == "shard" else str(rank)
    return Path(submission.folder, f"{submission.job_id}_{name}_log.err")
