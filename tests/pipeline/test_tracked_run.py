"""What MLflow is told when a command ends: the truth about a run that goes on without it."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from sigma_pipeline.infra.errors import Interrupted, PipelineError, StageError
from sigma_pipeline.infra.tracking import noted_status
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.tracked_run import tracked, update_tracking
from tests.pipeline.slurm_fake import FakeSlurm


class FakeTracker:
    """Notes what it is told, in place of MLflow."""

    said: list[str]

    def __init__(self, *_: object) -> None:
        """See ``Tracker``."""

    def note(self, status: str) -> None:
        """See ``Tracker``."""

    def start(self) -> None:
        """See ``Tracker``."""

    def finish(self, status: str) -> None:
        """See ``Tracker``."""
        self.said.append(status)

    def sync(self) -> int:
        """See ``Tracker``."""
        return 3


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Statuses that MLflow was told."""
    FakeTracker.said = []
    monkeypatch.setattr("sigma_pipeline.pipeline.tracked_run.Tracker", FakeTracker)
    return FakeTracker.said


def nothing(_: FakeSlurm) -> None:
    """A run without SLURM."""


def submit(slurm: FakeSlurm) -> None:
    slurm.submit("7", "PENDING")


def end_cancelled(slurm: FakeSlurm) -> None:
    slurm.submit("7", "CANCELLED")


@pytest.mark.parametrize(
    ("before", "error", "status"),
    [
        (nothing, None, "FINISHED"),
        (nothing, StageError("no"), "FAILED"),
        (nothing, Interrupted("stop"), "KILLED"),
        (submit, None, "RUNNING"),
        (submit, Interrupted("stop"), "RUNNING"),
        (end_cancelled, None, "FINISHED"),
    ],
)
def test_a_run_with_a_job_in_slurm_is_left_running(
    config: PipelineConfig,
    services: Services,
    slurm: FakeSlurm,
    said: list[str],
    before: Callable[[FakeSlurm], None],
    error: PipelineError | None,
    status: str,
) -> None:
    with suppress(PipelineError), tracked(config, services.storage):
        before(slurm)
        if error is not None:
            raise error

    assert said == [status]


def test_what_was_submitted_is_left_running_though_slurm_falls_silent(
    config: PipelineConfig, services: Services, slurm: FakeSlurm, said: list[str]
) -> None:
    launch = config.launch.model_copy(update={"cluster": "slurm"})
    with tracked(config.model_copy(update={"launch": launch}), services.storage):
        slurm.submit("7", "PENDING")
        slurm.is_silent = True

    assert said == ["RUNNING"]


def test_an_update_notes_what_the_jobs_could_not(
    config: PipelineConfig, services: Services, slurm: FakeSlurm
) -> None:
    slurm.submit("7", "CANCELLED", end_time_s=12.0)

    assert update_tracking(config, services.storage) == 3

    note = noted_status(services.storage, services.run_name)
    assert note is not None
    assert (note.status, note.time_ms) == ("KILLED", 12_000)
