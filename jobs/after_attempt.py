"""What comes after an attempt at training: the next one, or the end. The last line of its job.

    python -m sigma_pipeline.jobs.after_attempt FILE STATUS

runs on the batch host when the processes of an attempt are gone, however they ended: FILE was
written when the job was submitted, STATUS is srun's exit status. Ranks only ever say how an attempt
ended; here alone it is decided whether the job is queued again. Where the batch host dies SLURM
queues the job by itself, and rank 0 of the next attempt counts what nobody counted here.

SLURM gives little time to a job that it ends, so nothing heavy is imported.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Self

from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.logs import configure_logging
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.infra.tracking import Tracker, note_status
from sigma_pipeline.jobs.attempts import (
    Attempt,
    attempts_without_progress,
    is_cancelled,
    newest_attempts,
    note_taken,
    read_verdict,
    record_end,
    verdict_on,
    write_verdict,
)
from sigma_pipeline.jobs.carry_on import EndingJob, try_to, view_of
from sigma_pipeline.jobs.commits import manifest_key, newest_step
from sigma_pipeline.jobs.next_attempt import Decision, Policy, Situation, decide

log = logging.getLogger("sigma_pipeline.jobs.after_attempt")  # run as a program it has no name

DECIDED_TO_FAIL = 66
"""Exit status where the job is to fail. With 1 Python itself ends when it cannot even begin."""
_PATIENCE_S = 20.0
"""For a store that does not answer. If SLURM ends this script first, nobody queues the job."""
_MOST_LOOKED_AT = 20
"""Attempts among which the one of this job is: others of the run may have begun since."""


@dataclass(frozen=True, kw_only=True)
class AfterAttempt(Policy):
    """What has to be known of a training where its batch script ends."""

    root_uri: str
    run_name: str
    log_path: str
    """Where people find the logs."""
    failures_since: str = ""
    """See ``TrainRequest``."""
    exclude: str = ""
    """Nodes never to be used, as SLURM lists them."""
    experiment: str = ""
    tracking_uri: str = ""
    """Of an MLflow server that nodes reach, without credentials, which the environment has; empty
    where there is none."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """What ``write`` put."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        """Puts it as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def main(file: str, status: str) -> int:
    """Decides what follows, does it, and returns the exit status for the batch script."""
    # scontrol inherits this: it must not end when SLURM ends this job because of it.
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    configure_logging()
    after = AfterAttempt.read(Path(file))
    storage = open_storage(after.root_uri, patience_s=_PATIENCE_S)
    job_id = os.environ["SLURM_JOB_ID"]
    situation = look(storage, after, job_id, int(status))
    decision = decide(situation, after)
    _keep(storage, after, situation, decision)
    end = decision.end
    log.info("The attempt has %s%s", end.state, f": {end.reason}" if end.reason else "")
    if situation.overtaken_by is not None:
        log.info("The run is overtaken by job %s, and goes on there alone", situation.overtaken_by)
    job = EndingJob(
        storage=storage,
        run_name=after.run_name,
        job_id=job_id,
        restart=situation.restart,
        exclude=after.exclude,
    )
    exit_status = job.carry_out(decision)
    if decision.run_status is not None:
        _send(storage, after)
    return exit_status


def look(storage: Storage, after: AfterAttempt, job_id: str, status: int) -> Situation:
    """What SLURM and the store know of this attempt and those before it."""
    known = Situation(
        status=status,
        restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        job=view_of(job_id),
    )
    try:
        return _look_into_store(storage, after, job_id, known)
    except (PipelineError, OSError) as error:
        log.error("The run's own records cannot be read: %s", error)
        return replace(known, is_blind=True)


def _look_into_store(
    storage: Storage, after: AfterAttempt, job_id: str, known: Situation
) -> Situation:
    run_name = after.run_name
    step = newest_step(storage, run_name)
    latest = attempts_without_progress(storage, run_name, step, after.failures_since)
    newest = list(islice(newest_attempts(storage, run_name), _MOST_LOOKED_AT))
    attempt = _attempt_of(newest, job_id, known.restart)
    return replace(
        known,
        is_finished=storage.exists(manifest_key(run_name)),
        is_marked=is_cancelled(storage, run_name, job_id),
        is_given_up=read_verdict(storage, run_name) is not None,
        overtaken_by=_newer_job(newest, job_id),
        newest_step=step,
        attempt=attempt,
        earlier=[one for one in latest if attempt is None or one.name != attempt.name],
    )


def _attempt_of(newest: Sequence[Attempt], job_id: str, restart: int) -> Attempt | None:
    for attempt in newest:
        record = attempt.record
        if record is not None and (record.job_id, record.restart) == (job_id, restart):
            return attempt
    return None


def _newer_job(newest: Sequence[Attempt], job_id: str) -> str | None:
    """The job that trains the run since, if it was submitted after this one."""
    latest = next((attempt.record for attempt in newest if attempt.record is not None), None)
    if latest is None or latest.job_id is None:
        return None
    return latest.job_id if int(latest.job_id) > int(job_id) else None


def _keep(storage: Storage, after: AfterAttempt, situation: Situation, decision: Decision) -> None:
    """Writes to the store what nobody has written there yet."""
    run_name, attempt = after.run_name, situation.attempt
    if attempt is not None or (decision.failures and not situation.is_blind):
        # Of an attempt that did not register this is all there is: it has to be counted.
        name = attempt.name if attempt else new_attempt()
        try_to(lambda: record_end(storage, run_name, name, decision.end))
        if situation.is_taken:
            try_to(lambda: note_taken(storage, run_name, name, decision.end.step))
    if decision.action == "give_up":
        verdict = verdict_on(decision.failures, step=situation.newest_step, log_path=after.log_path)
        log.error("Run %r was %s", run_name, verdict.reason)
        try_to(lambda: write_verdict(storage, run_name, verdict))
    status = decision.run_status
    if status is not None:
        try_to(lambda: note_status(storage, run_name, status))


def _send(storage: Storage, after: AfterAttempt) -> None:
    """Brings the last word to MLflow, for no other job of the run may ever begin."""
    if not after.tracking_uri:
        return
    try:
        tracker = Tracker(storage, after.run_name, after.experiment, after.tracking_uri)
        try_to(tracker.sync)
    except ImportError as error:  # ``launch.host_python`` needs no packages
        log.warning("MLflow hears of the end from `sigma-pipeline sync` only: %s", error)


if __name__ == "__main__":
    decided = main(*sys.argv[1:])
    raise SystemExit(DECIDED_TO_FAIL if decided == 1 else decided)
