"""How a job on a node tells of its run: through MLflow where that is a server, else by a note."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.infra.tracking import Tracker, note_status
from sigma_pipeline.jobs.config import TrackConfig


@dataclass
class RunEnd:
    """What the job leaves the run's status at."""

    status: Literal["RUNNING", "FINISHED", "FAILED"] = "RUNNING"
    """RUNNING as long as another job goes on with the run."""


def reachable(track: TrackConfig) -> TrackConfig | None:
    """``track`` if nodes may send numbers there: several of them at once would break a file."""
    uri = track.tracking_uri or ""
    return track if uri.startswith(("http://", "https://")) else None


@contextmanager
def tracked_job(storage: Storage, run_name: str, track: TrackConfig | None) -> Iterator[RunEnd]:
    """Copies the run's journal to MLflow for as long as it is entered, and what is noted meanwhile.

    That the run goes on is noted by an attempt that begins to train: this job may find nothing to
    do, or that the run was given up or cancelled.

    Args:
        storage: where the run lies.
        run_name: of the run.
        track: a server; None where numbers stay in the journal, and someone else brings them over.

    Yields:
        The status of the run, which the block may set.
    """
    end = RunEnd()
    tracker = None
    if track is not None:
        tracker = Tracker(storage, run_name, track.experiment, track.tracking_uri)
        tracker.start()
    try:
        yield end
    finally:
        if tracker is not None:
            tracker.finish(end.status)
        elif end.status != "RUNNING":
            note_status(storage, run_name, end.status)
