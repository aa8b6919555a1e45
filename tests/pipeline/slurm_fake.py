"""A SLURM that lives in the tests' process: jobs whose states change as it is told."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.slurm import JobView, SlurmError
from sigma_pipeline.jobs.submission import JobStage, Submission


class FakeSlurm:
    """Stands in for ``jobs.slurm`` where the pipeline asks it."""

    def __init__(self, storage: Storage, run_name: str, folder: str) -> None:
        self.jobs: dict[str, JobView] = {}
        self.is_here = True
        self.is_silent = False
        self.calls: list[tuple[str, ...]] = []
        self.on_signal: Callable[[str], None] = lambda job_id: None
        self._storage = storage
        self._run_name = run_name
        self._folder = folder

    def submit(
        self,
        job_id: str,
        state: str | None,
        *,
        stage: JobStage = "train",
        cluster: str = "slurm",
        world_size: int = 2,
        **facts: object,
    ) -> None:
        """Records a submission of the run; with a state, SLURM knows the job."""
        name = f"20260101T0000000000{job_id:>02}-aaaaaa"
        submission = Submission(
            submission=name,
            stage=stage,
            job_id=job_id,
            job_name=f"{self._run_name}-{stage}",
            cluster=cluster,
            folder=self._folder,
            world_size=world_size,
            time_ms=1000,
            step=None,
            snapshot="",
        )
        write_json(self._storage, f"runs/{self._run_name}/submitted/{name}.json", vars(submission))
        if state is not None:
            view = JobView(job_id=job_id, state=state, nodes="n[1-2]")
            self.jobs[job_id] = replace(view, **facts)  # type: ignore[arg-type]

    def turn(self, job_id: str, state: str) -> None:
        """Changes the state of a job."""
        self.jobs[job_id] = replace(self.jobs[job_id], state=state)

    def job_views(self, job_id: str) -> list[JobView]:
        """See ``jobs.slurm``."""
        if self.is_silent:
            raise SlurmError("SLURM did not answer")
        return [self.jobs[job_id]] if job_id in self.jobs else []

    def queued_jobs(self) -> set[str]:
        """See ``jobs.slurm``; of those that have ended nothing is said."""
        if self.is_silent:
            raise SlurmError("SLURM did not answer")
        queued = ("PENDING", "RUNNING", "COMPLETING")
        return {job_id for job_id, view in self.jobs.items() if view.state in queued}

    def cancel(self, job_id: str) -> None:
        """See ``jobs.slurm``."""
        self.calls.append(("cancel", job_id))
        self.turn(job_id, "CANCELLED")

    def signal_job(self, job_id: str, name: str) -> None:
        """See ``jobs.slurm``."""
        self.calls.append((name, job_id))
        self.on_signal(job_id)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Puts itself in the place of the real one."""
        package = "sigma_pipeline.pipeline"
        monkeypatch.setattr(f"{package}.run_jobs.job_views", self.job_views)
        monkeypatch.setattr(f"{package}.run_jobs.queued_jobs", self.queued_jobs)
        for module in ("run_state", "run_logs", "cancelling"):
            monkeypatch.setattr(f"{package}.{module}.slurm_is_here", lambda: self.is_here)
        monkeypatch.setattr(f"{package}.cancelling.cancel", self.cancel)
        monkeypatch.setattr(f"{package}.cancelling.signal_job", self.signal_job)
