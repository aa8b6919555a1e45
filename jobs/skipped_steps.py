"""Steps whose batch is left out, since numbers went wrong there and the run went back before them.

``runs/<run>/train/skipped/step-00000123.json`` says so of one step. It holds for every attempt: the
batch is drawn and dropped, the step counts, and the schedule goes on.
"""

import logging
import re
import time
from collections.abc import Sequence

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage, read_json, write_json_if_absent
from sigma_pipeline.jobs.commits import newest_step, train_folder

log = logging.getLogger(__name__)

MAX_ROLL_BACKS = 3
"""To the same commit. Numbers that still go wrong then are not those of a few batches."""

_KEY = re.compile(r"/step-(\d{8,})\.json$")


def read_skipped(storage: Storage, run_name: str) -> frozenset[int]:
    """Numbers, from 1, of the steps whose batches are left out."""
    return frozenset(_markers(storage, run_name))


def mark_skipped(
    storage: Storage, run_name: str, attempt: str, steps: Sequence[int], reason: str
) -> None:
    """Has the batches of ``steps`` left out from now on.

    Raises:
        StageError: the run went back to the same commit too often.
    """
    commit_step = newest_step(storage, run_name)
    earlier = [read_json(storage, key) for key in _markers(storage, run_name).values()]
    times = {each["roll_back"] for each in earlier if each["commit_step"] == commit_step}
    if len(times) >= MAX_ROLL_BACKS:
        raise StageError(
            f"{reason}. The run went back to step {commit_step} {len(times)} times before, and "
            f"left out {len(earlier)} batches: it is not a matter of single batches. Lower "
            "train.optimizer.base_lr or set train.optimizer.gradient_clip_norm in a new run; the "
            "commits so far are intact"
        )
    for step in steps:
        marker = {
            "step": step,
            "roll_back": f"{attempt}/{steps[0]}",
            "commit_step": commit_step,
            "reason": reason,
            "time_ms": time.time_ns() // 1_000_000,
        }
        write_json_if_absent(storage, f"{_folder(run_name)}/step-{step:08d}.json", marker)
    log.warning("Back to step %d, from where on steps %s are left out", commit_step, list(steps))


def _markers(storage: Storage, run_name: str) -> dict[int, str]:
    found = ((_KEY.search(key), key) for key in storage.list(_folder(run_name)))
    return {int(match[1]): key for match, key in found if match}


def _folder(run_name: str) -> str:
    return f"{train_folder(run_name)}/skipped"
