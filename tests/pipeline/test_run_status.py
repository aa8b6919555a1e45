"""What MLflow says of a run, whatever became of its jobs."""

from dataclasses import replace
from pathlib import Path

import pytest

from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.infra.tracking import StatusNote, note_status, noted_status
from sigma_pipeline.jobs.slurm import JobView
from sigma_pipeline.jobs.submission import JobStage, Submission
from sigma_pipeline.pipeline.run_jobs import RunJob
from sigma_pipeline.pipeline.run_status import RunFacts, derive_status, note_truth

NOW_MS = 5_000_000
ENDED_S = 3000.0


def job(
    state: str | None,
    *,
    stage: JobStage = "train",
    job_id: str = "7",
    reason: str = "",
    cluster: str = "slurm",
) -> RunJob:
    submission = Submission(
        submission="s",
        stage=stage,
        job_id=job_id,
        job_name="",
        cluster=cluster,
        folder="/shared",
        world_size=2,
        time_ms=1000,
        step=None,
        snapshot="",
    )
    view = JobView(job_id=job_id, state=state or "", reason=reason, end_time_s=ENDED_S)
    return RunJob(submission, () if state is None else (view,))


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        (RunFacts(jobs=[job("PENDING")]), "RUNNING"),
        (RunFacts(jobs=[job("RUNNING")], last_end="died"), "RUNNING"),
        (RunFacts(jobs=[job("COMPLETING")], cancelled={"7"}), "RUNNING"),
        (RunFacts(jobs=[job("PENDING", reason="DependencyNeverSatisfied")]), "FAILED"),
        (RunFacts(jobs=[job("CANCELLED", job_id="6"), job("PENDING")]), "RUNNING"),
        (RunFacts(jobs=[job("COMPLETED")], is_trained=True, last_end="finished"), "FINISHED"),
        (
            RunFacts(jobs=[job("COMPLETED"), job("PENDING", stage="evaluate")], is_trained=True),
            "RUNNING",
        ),
        (
            RunFacts(jobs=[job("COMPLETED"), job("FAILED", stage="evaluate")], is_trained=True),
            "FINISHED",
        ),
        (RunFacts(jobs=[job("CANCELLED")], is_trained=True), "FINISHED"),
        (RunFacts(jobs=[job("FAILED")], is_given_up=True, last_end="died"), "FAILED"),
        (RunFacts(jobs=[job("CANCELLED")]), "KILLED"),
        (RunFacts(jobs=[job("CANCELLED")], last_end="died"), "KILLED"),
        (RunFacts(jobs=[job("FAILED")], cancelled={"7"}, last_end="stopped"), "KILLED"),
        (RunFacts(jobs=[job("FAILED")], cancelled={"6"}, last_end="failed"), "FAILED"),
        (RunFacts(jobs=[job("TIMEOUT")], last_end="stopped"), "KILLED"),
        (RunFacts(jobs=[job("OUT_OF_MEMORY")]), "FAILED"),
        (RunFacts(jobs=[job(None)], last_end="failed"), "FAILED"),
        (RunFacts(jobs=[job(None)], cancelled={"7"}), "KILLED"),
        (RunFacts(jobs=[job("CANCELLED", stage="evaluate")]), None),
        (RunFacts(jobs=[]), None),
        (RunFacts(jobs=[job("CANCELLED"), job(None, cluster="local")]), None),
        (RunFacts(jobs=[job(None)], slurm_problem="no SLURM", is_trained=True), None),
    ],
)
def test_the_status_follows_from_the_jobs_and_what_they_left(
    facts: RunFacts, status: str | None
) -> None:
    derived = derive_status(facts, NOW_MS)

    assert (derived and derived.status) == status


def test_an_ended_run_ended_when_its_last_job_did() -> None:
    facts = RunFacts(jobs=[job("CANCELLED")], last_end_ms=1)

    assert derive_status(facts, NOW_MS) == StatusNote("KILLED", round(1000 * ENDED_S))
    assert derive_status(replace(facts, jobs=[job(None)]), NOW_MS) == StatusNote("FAILED", 1)


def test_the_truth_replaces_a_note_that_a_clock_ahead_has_dated_later(
    tmp_path: Path,
) -> None:
    storage: Storage = open_storage(str(tmp_path))
    note_status(storage, "r1", "RUNNING", time_ms=NOW_MS)

    note_truth(storage, "r1", RunFacts(jobs=[job("CANCELLED")]))
    first = noted_status(storage, "r1")
    note_truth(storage, "r1", RunFacts(jobs=[job("CANCELLED")]))

    assert first == noted_status(storage, "r1") == StatusNote("KILLED", NOW_MS)
