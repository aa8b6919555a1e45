"""Snapshots for tests: what jobs would run from, without the copying."""

from pathlib import Path
from typing import Any

from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.submission import Snapshot


def make_snapshot(folder: Path, **launch: Any) -> Snapshot:
    """Of a run ``tiny`` in ``folder/store``; keywords are settings of ``launch``."""
    return Snapshot(
        name="20260101T000000000000-aaaaaa",
        run_name="tiny",
        root_uri=str(folder / "store"),
        work_dir=folder / "work",
        launch=LaunchConfig(**({"cluster": "slurm"} | launch)),
        code=folder / "code of tiny",
    )
