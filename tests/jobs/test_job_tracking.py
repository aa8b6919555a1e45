"""How a job on a node tells of its run."""

from typing import Any, ClassVar

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.infra.tracking import noted_status
from sigma_pipeline.jobs import job_tracking
from sigma_pipeline.jobs.config import TrackConfig
from sigma_pipeline.jobs.job_tracking import reachable, tracked_job

SERVER = TrackConfig(experiment="e", tracking_uri="http://mlflow:5000")


class FakeTracker:
    """Notes what it is asked."""

    calls: ClassVar[list[str]] = []

    def __init__(self, _storage: Storage, *place: Any) -> None:
        self.calls.append(" ".join(place))

    def start(self) -> None:
        """See ``Tracker``."""
        self.calls.append("start")

    def finish(self, status: str) -> None:
        """See ``Tracker``."""
        self.calls.append(status)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(FakeTracker, "calls", [])
    monkeypatch.setattr(job_tracking, "Tracker", FakeTracker)
    return FakeTracker.calls


@pytest.mark.parametrize(
    ("uri", "is_reached"),
    [(None, False), ("sqlite:////shared/mlflow.db", False), ("https://mlflow", True)],
)
def test_nodes_send_to_servers_alone(uri: str | None, is_reached: bool) -> None:
    track = TrackConfig(tracking_uri=uri)

    assert reachable(track) == (track if is_reached else None)


def test_a_run_goes_on_until_a_job_says_otherwise(storage: Storage, calls: list[str]) -> None:
    with tracked_job(storage, "tiny", SERVER):
        pass
    with tracked_job(storage, "tiny", SERVER) as end:
        end.status = "FINISHED"

    place = "tiny e http://mlflow:5000"
    assert calls == [place, "start", "RUNNING", place, "start", "FINISHED"]


def test_a_job_that_fails_leaves_the_run_to_the_next(storage: Storage, calls: list[str]) -> None:
    with pytest.raises(StageError), tracked_job(storage, "tiny", SERVER):
        raise StageError("lost a rank")

    assert calls[-1] == "RUNNING"


def test_without_a_server_the_end_is_noted_for_who_looks(
    storage: Storage, calls: list[str]
) -> None:
    with tracked_job(storage, "tiny", None):
        pass
    assert noted_status(storage, "tiny") is None

    with tracked_job(storage, "tiny", None) as end:
        end.status = "FAILED"

    note = noted_status(storage, "tiny")
    assert note is not None
    assert note.status == "FAILED"
    assert calls == []
