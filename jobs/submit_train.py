"""Handing training to SLURM: one job that is queued again and again, or a chain of jobs."""

import logging
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from sigma_pipeline.infra.errors import PipelineError, StageError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.mlflow_run import public_address
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.after_attempt import DECIDED_TO_FAIL, AfterAttempt
from sigma_pipeline.jobs.attempts import delete_verdict, read_verdict
from sigma_pipeline.jobs.commit_evaluation import CommitEvaluation
from sigma_pipeline.jobs.config import LaunchConfig, TrackConfig
from sigma_pipeline.jobs.executor import Order, executor_parameters
from sigma_pipeline.jobs.launch_train import TrainTask, fitted, train_resources
from sigma_pipeline.jobs.slurm import SlurmError, cancel, job_view
from sigma_pipeline.jobs.submission import (
    Snapshot,
    Submission,
    job_name,
    read_submissions,
    record_submission,
)
from sigma_pipeline.jobs.submit import make_private, submit, uninterrupted
from sigma_pipeline.jobs.submit_array import ENDED
from sigma_pipeline.jobs.train_request import TrainRequest

log = logging.getLogger(__name__)

_AFTER_THE_ONE_BEFORE = "singleton"
_NOTICE_S = 10
"""Before the time limit: ranks ask SLURM for it, and begin to stop as early as saving takes."""
_BLIND_NOTICE_S = 120
"""The same in a container, which SLURM's commands may not be in."""
_LOOKED_AT = 8
_PAUSE_S, _MOST_RESTARTS = 300, 100
"""Of jobs that the shell queues again, for what should have decided cannot run."""


def require_no_training(storage: Storage, run_name: str) -> None:
    """Refuses to train a run twice at a time.

    Raises:
        StageError: a job of SLURM trains the run, or waits to; or SLURM does not answer.
    """
    submitted = [
        one
        for one in read_submissions(storage, run_name)
        if one.stage == "train" and one.cluster == "slurm"
    ]
    for one in reversed(submitted[-_LOOKED_AT:]):
        view = job_view(one.job_id)
        if view is not None and one.is_job(view) and view.state not in ENDED:
            raise StageError(
                f"run {run_name!r} is trained by SLURM job {one.job_id} already, which is "
                f"{view.state}; end it first with: sigma-pipeline cancel --set run_name={run_name} "
                "(and the --config and other --set of the run)"
            )


def forget_verdict(storage: Storage, run_name: str) -> None:
    """Lets a run be trained that was given up; it is a person who asks for it."""
    verdict = read_verdict(storage, run_name)
    if verdict is not None:
        delete_verdict(storage, run_name)
        log.warning("Run %s was given up before and is tried again: %s", run_name, verdict.reason)


def submit_train(
    request: TrainRequest,
    snapshot: Snapshot,
    *,
    dependency: str | None = None,
    evaluation: CommitEvaluation | None = None,
    track: TrackConfig | None = None,
) -> Iterator[Submission]:
    """Hands training to SLURM and writes that down, job by job; of a chain there are several.

    Args:
        request: what to train.
        snapshot: what it runs from.
        dependency: when it may start, as sbatch takes it.
        evaluation: what each commit is to submit.
        track: an MLflow server that nodes reach.

    Raises:
        StageError: SLURM did not take a job.
    """
    train = snapshot.launch.train
    task = TrainTask(
        request=fitted(request, snapshot.launch),
        visible_devices=None,
        evaluation=evaluation,
        track=track,
    )
    is_chain = train.continue_by == "chain"
    conditions = [dependency] if dependency else []
    conditions += [_AFTER_THE_ONE_BEFORE] if is_chain else []
    for _ in range(train.chain_jobs if is_chain else 1):
        yield _submit_one(task, snapshot, ",".join(conditions) or None)


def _submit_one(task: TrainTask, snapshot: Snapshot, dependency: str | None) -> Submission:
    launch, folder = snapshot.launch, snapshot.folder / new_attempt()
    after = folder / "after.json"
    make_private(folder)
    AfterAttempt(
        continue_by=launch.train.continue_by,
        max_attempts_without_progress=launch.train.max_attempts_without_progress,
        backoff_s=launch.train.backoff_s,
        root_uri=snapshot.root_uri,
        run_name=snapshot.run_name,
        log_path=str(folder),
        failures_since=task.request.failures_since,
        exclude=launch.exclude or "",
        experiment=task.track.experiment if task.track else "",
        tracking_uri=public_address((task.track and task.track.tracking_uri) or ""),
    ).write(after)
    resources = train_resources(launch)
    order = Order(
        notice_s=_BLIND_NOTICE_S if launch.python else _NOTICE_S,
        dependency=dependency,
        is_requeued=launch.train.continue_by == "requeue",
        teardown=teardown(launch, after),
    )
    threads = launch.train.cpus_per_process
    parameters = executor_parameters(
        launch,
        resources,
        name=job_name(snapshot.run_name, "train"),
        order=order,
        code=snapshot.code,
        threads=threads,
    )
    with uninterrupted():
        job = submit(task, launch, folder, parameters, threads=threads)
        try:
            return record_submission(
                snapshot, "train", job.job_id, folder, world_size=job.world_size
            )
        except (PipelineError, OSError):
            _take_back(job.job_id)  # nobody would know of it
            raise


def _take_back(job_id: str) -> None:
    try:
        cancel(job_id)
    except SlurmError as error:
        log.error("SLURM job %s is not written down, and may go on: %s", job_id, error)


def teardown(launch: LaunchConfig, after: Path) -> tuple[str, ...]:
    """Shell lines that let ``after_attempt`` decide what follows the processes.

    On the node itself: a container has not SLURM's commands. Where it cannot run, the shell itself
    has the job queued again, unless SLURM is ending it.
    """
    python = launch.host_python or shlex.quote(sys.executable)
    lines = [
        "status=$?",
        "trap '' TERM USR2",  # inherited by what comes: it must not end with the job
        f'{python} -m sigma_pipeline.jobs.after_attempt {shlex.quote(str(after))} "$status"',
        f"case $? in 0) exit 0;; 75) exit 75;; {DECIDED_TO_FAIL}) exit 1;; esac",
        "echo 'What follows this attempt could not be decided; see above' >&2",
    ]
    if launch.train.continue_by == "requeue":
        lines += [
            f'if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {_MOST_RESTARTS} ] &&',
            '  scontrol show job --oneliner "$SLURM_JOB_ID" | grep -q " JobState=RUNNING "; then',
            '  scontrol requeue "$SLURM_JOB_ID" &&',
            f'    scontrol update JobId="$SLURM_JOB_ID" StartTime=now+{_PAUSE_S}',
            "fi",
        ]
    return (*lines, "exit 1")
