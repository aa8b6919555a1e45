"""How a training job ended, as it reaches whoever launched it."""

from typing import Literal, TypedDict

from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.commits import newest_commit
from sigma_pipeline.jobs.train_request import TrainRequest


class TrainResult(TypedDict):
    """The end of one attempt."""

    state: Literal["finished", "stopped"]
    """``stopped``: committed and ended before the last step; the same request resumes."""
    run_name: str
    step: int
    """Steps taken, all of them committed."""
    commit: str | None
    """Key of the newest commit's folder; None when it was stopped before the first."""
    reason: str
    """Of a stop; empty at the end."""


def stopped_before_start(request: TrainRequest, reason: str) -> TrainResult:
    """The result of an attempt that ended before it could take a step."""
    commit = newest_commit(open_storage(request.root_uri), request.run_name)
    return TrainResult(
        state="stopped",
        run_name=request.run_name,
        step=commit.step if commit else 0,
        commit=commit.prefix if commit else None,
        reason=reason,
    )
