"""The evaluation of commits while training goes on: each commit submits a job of its own."""

import logging
import multiprocessing
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.commit_numbers import record_numbers
from sigma_pipeline.jobs.launch_evaluate import AFTER_THE_OTHERS, EvaluateTask, submit_evaluate
from sigma_pipeline.jobs.submission import Snapshot, read_submissions

log = logging.getLogger(__name__)

_SUBMISSION_TIMEOUT_S = 120.0
_PAUSES_S = (10, 20, 30, 60, 120, 180, 180)
"""Before the last evaluation is submitted again, as nobody would do it later: ten minutes."""


@dataclass(frozen=True)
class CommitEvaluation:
    """What rank 0 submits as training commits and when it is done.

    The last job does what any before it left; so nothing is lost with one that could not be
    submitted, which only warns, and training does not stop for its evaluation.
    """

    task: EvaluateTask
    """Of all commits."""
    snapshot: Snapshot
    cadences: tuple[int, ...]
    """Each how many commits a cell takes one as they come; those that wait for the end are the last
    job's."""

    def require_sbatch(self) -> None:
        """Refuses a container that nothing can be submitted from; to be asked in the job.

        Raises:
            ConfigError: it is one.
        """
        python = self.snapshot.launch.python
        if python is not None and shutil.which("sbatch") is None:
            raise ConfigError(
                f"sbatch is not visible to what launch.python={python!r} starts, so commits cannot "
                "submit their evaluation: set launch.jobs_may_submit=false, or mount SLURM's "
                "commands, their configuration and munge's socket into the container"
            )

    def on_commit(self, step: int) -> None:
        """Submits the evaluation of a commit, if a cell takes it as it comes."""
        if self._is_wanted(open_storage(self.snapshot.root_uri), step):
            self._submit(step, None)

    def on_end(self, is_stopping: Callable[[], bool]) -> bool:
        """Submits the evaluation of all that is missing, once per snapshot.

        Args:
            is_stopping: whether this process is to end, so that a SLURM that refuses the job is not
                asked again.

        Returns:
            Whether there is such a job.
        """
        if not self.task.request.evaluate.cells:
            return False
        storage = open_storage(self.snapshot.root_uri)
        for pause_s in (*_PAUSES_S, 0):
            if self._has_last(storage) or self._submit(None, AFTER_THE_OTHERS):
                return True
            if not _slept(pause_s, is_stopping):
                break
        log.error(
            "Run %s is trained, but no job does what is left of its evaluation: give the command "
            "`sigma-pipeline run --stage evaluate` with its --config and --set",
            self.snapshot.run_name,
        )
        return False

    def _has_last(self, storage: Storage) -> bool:
        return any(
            one.stage == "evaluate" and one.step is None and one.snapshot == self.snapshot.name
            for one in read_submissions(storage, self.snapshot.run_name)
        )

    def _is_wanted(self, storage: Storage, step: int) -> bool:
        number = record_numbers(storage, self.snapshot.run_name, [step])[step]
        return any(number % every == 0 for every in self.cadences)

    def _submit(self, step: int | None, dependency: str | None) -> bool:
        """Whether that succeeded.

        In a process of its own: submitting changes the environment, and may take its time.
        """
        what = f"step {step}" if step is not None else "all commits"
        process = multiprocessing.get_context("spawn").Process(
            target=submit_evaluate,
            args=(self.task, self.snapshot),
            kwargs={"step": step, "dependency": dependency},
        )
        process.start()
        process.join(_SUBMISSION_TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
        if process.exitcode:
            log.warning("No job evaluates %s: it was not submitted, see above", what)
        else:
            log.info("Evaluation of %s is submitted", what)
        return process.exitcode == 0


def _slept(duration_s: float, is_stopping: Callable[[], bool]) -> bool:
    """Sleeps; whether to the end."""
    deadline_s = time.monotonic() + duration_s
    while not is_stopping():
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return True
        time.sleep(min(left_s, 1.0))
    return False
