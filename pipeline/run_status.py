"""What MLflow is to say of a run whose jobs live on after the command: worked out from facts.

Jobs note their status themselves as they begin and end. One that was killed could not, nor can one
that has not begun; so whoever looks at the run works out how it stands.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sigma_pipeline.infra.mlflow_run import Status
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.infra.tracking import StatusNote, note_status, noted_status
from sigma_pipeline.pipeline.run_jobs import RunJob


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """All that the status of a run follows from."""

    jobs: Sequence[RunJob] = ()
    """In the order of their submission."""
    slurm_problem: str | None = None
    """Why SLURM could not be asked what became of them; None where it was."""
    is_trained: bool = False
    is_given_up: bool = False
    cancelled: Collection[str] = ()
    """Ids of the jobs that ``sigma-pipeline cancel`` has ended."""
    last_end: str | None = None
    """How the last attempt at training ended: its ``AttemptEnd.state``; None if nobody said."""
    last_end_ms: int | None = None


def derive_status(facts: RunFacts, now_ms: int) -> StatusNote | None:
    """How the run stands, and since when.

    None where that cannot be known better than its jobs have noted: SLURM cannot be asked, or
    training went on elsewhere last.
    """
    if facts.slurm_problem is not None:
        return None
    if any(job.is_live for job in facts.jobs):
        return StatusNote("RUNNING", now_ms)
    trainings = [job for job in facts.jobs if job.stage == "train"]
    if not trainings or not trainings[-1].is_slurms:
        return None
    ends_ms = [round(1000 * end_s) for job in facts.jobs if (end_s := job.end_time_s)]
    end_ms = max(ends_ms, default=facts.last_end_ms or now_ms)
    return StatusNote(_ended(facts, trainings[-1]), end_ms)


def note_truth(storage: Storage, run_name: str, facts: RunFacts) -> Status | None:
    """Notes for MLflow how the run stands, unless that is noted already; returns it."""
    truth = derive_status(facts, time.time_ns() // 1_000_000)
    if truth is None:
        return None
    known = noted_status(storage, run_name)
    if known is None or known.status != truth.status:
        # Worked out just now, so it holds whatever was noted before, by clocks that may differ.
        time_ms = max(truth.time_ms, known.time_ms if known else 0)
        note_status(storage, run_name, truth.status, time_ms=time_ms)
    return truth.status


def _ended(facts: RunFacts, training: RunJob) -> Status:
    """Of a run with no job left."""
    if facts.is_trained:
        return "FINISHED"
    if facts.is_given_up:
        return "FAILED"
    if training.job_id in facts.cancelled or training.is_cancelled:
        return "KILLED"
    return "KILLED" if facts.last_end == "stopped" else "FAILED"
