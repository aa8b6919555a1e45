"""Doing what was decided after an attempt, where SLURM refuses or does not answer for a while."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.infra.tracking import note_status
from sigma_pipeline.jobs import slurm
from sigma_pipeline.jobs.attempts import is_cancelled
from sigma_pipeline.jobs.chain import links_left, mark_chain_cancelled
from sigma_pipeline.jobs.next_attempt import Decision, Situation
from sigma_pipeline.jobs.next_start import put_off, requeue
from sigma_pipeline.jobs.slurm import JobView, SlurmError

log = logging.getLogger(__name__)

_PAUSES_S = (2.0, 10.0, 60.0, 300.0, 600.0, 900.0, 1800.0)
"""Before SLURM is asked again where it did not answer: an hour, as long as an upgrade takes."""
_LOOK_INTERVAL_S = 10.0
"""Shorter than SLURM's KillWait, after which this script is killed with its job."""
_KEPT_S = 60.0
"""Of the time limit."""


@dataclass(frozen=True, kw_only=True)
class EndingJob:
    """The job whose attempt is over, as its own batch script sees it."""

    storage: Storage
    run_name: str
    job_id: str
    restart: int
    """How often SLURM had started it before."""
    exclude: str
    """Nodes that a person has left out."""

    def carry_out(self, decision: Decision) -> int:
        """Does it; returns the exit status for the batch script."""
        if decision.run_status == "KILLED":
            self._end_chain()
        elif decision.action == "requeue":
            return self._requeue(decision)
        elif decision.action == "next_link" and not self._leave_to_links(decision):
            return self._cancelled()
        return decision.exit_status

    def _requeue(self, decision: Decision) -> int:
        without = f", without {', '.join(decision.without)}" if decision.without else ""
        log.info("SLURM is to start the job again in %.0f s%s", decision.after_s, without)
        for pause_s in (0.0, *_PAUSES_S):
            if self._is_cancelled_within(pause_s):
                return self._cancelled()
            try:
                requeue(
                    self.job_id,
                    after_s=decision.after_s,
                    without=decision.without,
                    always_without=self.exclude,
                )
            except SlurmError as error:
                log.warning("%s", error)
            else:
                return decision.exit_status
        log.error(
            "The run goes on with `scontrol requeue %s`, or the command that began it", self.job_id
        )
        return 1

    def _leave_to_links(self, decision: Decision) -> bool:
        """Puts the next jobs of the chain off, or waits itself; False if it was cancelled then."""
        if not (decision.after_s or decision.without):
            return True
        try:
            left = links_left(self.storage, self.run_name, self.job_id)
        except (PipelineError, OSError) as error:
            log.warning("The next job of the chain is not known: %s", error)
            left = []
        is_put_off = [
            put_off(
                link,
                after_s=decision.after_s,
                without=decision.without,
                always_without=self.exclude,
            )
            for link in left
        ]
        if all(is_put_off) and left:
            log.info("The next job of the chain is to start in %.0f s", decision.after_s)
            return True
        return not self._is_cancelled_within(min(decision.after_s, self._time_left_s()))

    def _is_cancelled_within(self, seconds: float) -> bool:
        """Waits; whether somebody has ended the job for good meanwhile."""
        deadline_s = time.monotonic() + seconds
        while (left_s := deadline_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_INTERVAL_S))
            if self._is_cancelled():
                return True
        return False

    def _is_cancelled(self) -> bool:
        is_marked = False
        try:
            is_marked = is_cancelled(self.storage, self.run_name, self.job_id)
        except (PipelineError, OSError) as error:
            log.warning("%s", error)
        job = view_of(self.job_id)
        return Situation(status=0, restart=self.restart, job=job, is_marked=is_marked).is_cancelled

    def _time_left_s(self) -> float:
        view = view_of(self.job_id)
        if view is None or view.end_time_s is None:
            return 0.0
        return view.end_time_s - time.time() - _KEPT_S

    def _cancelled(self) -> int:
        log.info("The job was cancelled meanwhile")
        self._end_chain()
        try_to(lambda: note_status(self.storage, self.run_name, "KILLED"))
        return 75

    def _end_chain(self) -> None:
        """Takes the jobs out of the queue that would go on."""
        left: list[str] = []
        try_to(lambda: left.extend(mark_chain_cancelled(self.storage, self.run_name, self.job_id)))
        for link in left:
            try_to(partial(slurm.cancel, link))


def view_of(job_id: str) -> JobView | None:
    """The job as SLURM sees it; None where it does not answer."""
    try:
        return slurm.job_view(job_id)
    except SlurmError as error:
        log.warning("%s; the job is taken to run still", error)
        return None


def try_to(act: Callable[[], object]) -> None:
    """Goes on where store or SLURM fail: the run matters more."""
    try:
        act()
    except (PipelineError, OSError) as error:
        log.warning("%s", error)
