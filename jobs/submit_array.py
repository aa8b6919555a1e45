"""SLURM job arrays: tasks that run on their own, submitted and watched together."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import submitit
import submitit.helpers

from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.slurm import SlurmError, cancel, signal_job
from sigma_pipeline.jobs.submit import (
    TIMEOUTS,
    child_settings,
    explained,
    require_slurm,
    uninterrupted,
)

log = logging.getLogger(__name__)

Result = TypeVar("Result")

ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "TIMEOUT",
    }
)
"""SLURM's words for tasks that do not run any more, though some of them may once more."""
_END_WITHIN_S = 5.0


class ArrayJob(Generic[Result]):
    """A SLURM job array: tasks that run on their own."""

    def __init__(self, jobs: "list[submitit.Job[Result]]") -> None:
        self._jobs = jobs

    @property
    def job_id(self) -> str:
        """SLURM's number of the array."""
        return str(self._jobs[0].job_id).partition("_")[0]

    def log_path(self, task: int) -> Path:
        """What a task writes to its error stream."""
        return Path(self._jobs[task].paths.stderr)

    def states(self) -> list[str]:
        """SLURM's word for the state of each task now; UNKNOWN where it does not answer.

        submitit keeps a final state for good, but SLURM starts a task whose node failed once more.
        """
        watcher = self._jobs[0].watcher
        watcher.clear()
        watcher.update()
        return [self._state(task) for task in range(len(self._jobs))]

    def _state(self, task: int) -> str:
        job = self._jobs[task]
        state = str(job.watcher.get_state(job.job_id, mode="cache")).partition(" ")[0]
        if state == "UNKNOWN" and job.paths.result_pickle.exists():
            return "FAILED" if self.failure(task) else "COMPLETED"
        return state

    def failure(self, task: int) -> str | None:
        """The traceback that a task left, if it left one."""
        job = self._jobs[task]
        if not job.paths.result_pickle.exists():
            return None
        error = job.exception()
        return None if error is None else str(error)

    def cancel(self) -> None:
        """Ends all tasks that have not ended, at once, and waits until they have."""
        try:
            cancel(self.job_id)
        except SlurmError as error:
            log.warning("Tasks of SLURM array %s may go on: %s", self.job_id, error)
            return
        # That asks first, and only the site's KillWait later makes them end.
        with suppress(SlurmError):  # where none is left to be told
            signal_job(self.job_id, "KILL", with_script=True)
        deadline_s = time.monotonic() + _END_WITHIN_S
        while not set(self.states()) <= ENDED and time.monotonic() < deadline_s:
            time.sleep(0.2)


@dataclass(frozen=True)
class Repeatable(Generic[Result]):
    """A call that may be cut off anywhere and made again: submitit queues it again by itself.

    So it is at the time limit, and where SLURM takes the node for another job.
    """

    call: Callable[[], Result]

    def __call__(self) -> Result:
        """Makes the call."""
        return self.call()

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """What submitit is to run next time."""
        return submitit.helpers.DelayedSubmission(self)


def submit_array(
    calls: Iterable[Callable[[], Result]],
    launch: LaunchConfig,
    folder: Path,
    parameters: Mapping[str, Any],
) -> ArrayJob[Result]:
    """A SLURM array of one task for each of ``calls``; returns at once.

    Args:
        calls: picklable, and such that each may be cut off and made again.
        launch: for how Python is started.
        folder: shared by all nodes; the array's files go into it.
        parameters: submitit's.

    Raises:
        StageError: SLURM is not there, or did not take the array.
    """
    require_slurm()
    executor = submitit.AutoExecutor(
        folder=folder,
        cluster="slurm",
        slurm_python=launch.python,
        slurm_max_num_timeout=TIMEOUTS,
    )
    executor.update_parameters(**parameters)
    with explained(), child_settings(1, is_local=False):
        return ArrayJob(executor.submit_array([Repeatable(call) for call in calls]))


@contextmanager
def submitted_array(
    calls: Iterable[Callable[[], Result]],
    launch: LaunchConfig,
    folder: Path,
    parameters: Mapping[str, Any],
) -> Iterator[ArrayJob[Result]]:
    """See ``submit_array``; tasks that are left at the end of the block end, too."""
    array: ArrayJob[Result] | None = None
    try:
        with uninterrupted():
            array = submit_array(calls, launch, folder, parameters)
        yield array
    finally:
        if array is not None:
            array.cancel()
