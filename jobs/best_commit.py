"""The commit of a run that is best by one of its scores: the mark, and who reads it."""

from dataclasses import dataclass

from sigma_pipeline.infra.errors import MissingInputError
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.commits import Commit, list_commits
from sigma_pipeline.jobs.evaluate_request import evaluate_folder


@dataclass(frozen=True)
class BestCommit:
    """The commit with the best score so far."""

    by: str
    """``evaluate.best_by``."""
    step: int
    value: float
    """Of the score, over all its seeds."""
    weights_sha256: str
    attempt: str
    """That committed it."""


def best_key(run_name: str) -> str:
    """Where the mark lies."""
    return f"{evaluate_folder(run_name)}/best.json"


def read_best(storage: Storage, run_name: str) -> BestCommit | None:
    """The commit that is marked as the best; None if none is."""
    try:
        return BestCommit(**read_json(storage, best_key(run_name)))
    except FileNotFoundError:
        return None


def find_best(storage: Storage, run_name: str) -> Commit:
    """The commit that is marked as the best.

    Raises:
        MissingInputError: none is marked, or it is no longer there.
    """
    best = read_best(storage, run_name)
    if best is None:
        raise MissingInputError(
            f"run {run_name!r} has no best commit yet: set evaluate.best_by to one of its scores, "
            "and give the command sigma-pipeline run --stage evaluate"
        )
    for commit in list_commits(storage, run_name):
        if commit.weights_sha256 == best.weights_sha256:
            return commit
    raise MissingInputError(
        f"the best commit of run {run_name!r}, step {best.step} by {best.by}, is no longer there; "
        "sigma-pipeline run --stage evaluate marks the best of those that are"
    )
