"""The commits of a run as a table."""

import math
from collections.abc import Iterator

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import Commit, list_commits
from sigma_pipeline.pipeline.table import aligned

_MB = 1e6


def describe_commits(storage: Storage, run_name: str) -> Iterator[str]:
    """A line for each commit by step: where training stood, its canary's loss, what is kept."""
    commits = list_commits(storage, run_name)
    if not commits:
        yield f"run {run_name} has no commits yet"
        return
    header = ["step", "epoch", "canary loss", "MB", "kept", "folder"]
    yield from aligned([header, *map(_row, commits)], left=(4, 5))


def _row(commit: Commit) -> list[str]:
    size = sum(piece.num_bytes for piece in (*commit.weights, *commit.optimizer))
    loss = "-" if math.isnan(commit.canary_loss) else f"{commit.canary_loss:.4f}"
    kept = "weights, optimizer" if commit.has_optimizer else "weights"
    return [str(commit.step), str(commit.epoch), loss, f"{size / _MB:.1f}", kept, commit.prefix]
