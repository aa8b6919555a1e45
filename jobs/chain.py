"""The jobs of a chain, of which each goes on with training when the one before has ended."""

import socket

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.attempts import mark_cancelled
from sigma_pipeline.jobs.submission import read_submissions


def links_left(storage: Storage, run_name: str, job_id: str) -> list[str]:
    """Jobs that were submitted together with this one, after it; none of one that stands alone."""
    trainings = [
        one
        for one in read_submissions(storage, run_name)
        if one.stage == "train" and one.cluster == "slurm"
    ]
    own = next((one for one in reversed(trainings) if one.job_id == job_id), None)
    if own is None:
        return []
    return [
        one.job_id
        for one in trainings
        if one.snapshot == own.snapshot and one.submission > own.submission
    ]


def mark_chain_cancelled(storage: Storage, run_name: str, job_id: str) -> list[str]:
    """Says of this job, and of those of its chain that are left, that nobody wants them any more.

    Returns:
        Those that are left; SLURM has them still.
    """
    left = links_left(storage, run_name, job_id)
    for one in (job_id, *left):
        mark_cancelled(storage, run_name, one, socket.gethostname())
    return left
