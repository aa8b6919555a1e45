"""Stages as jobs of SLURM, which goes on by itself: all are submitted, and the command returns.

Sharding alone is followed to its end; see ``sharding``.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Self

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commit_evaluation import CommitEvaluation
from sigma_pipeline.jobs.commits import committed_steps
from sigma_pipeline.jobs.evaluation import nothing_to_evaluate
from sigma_pipeline.jobs.job_tracking import reachable
from sigma_pipeline.jobs.launch_evaluate import (
    EvaluateTask,
    evaluate_resources,
    submit_evaluations,
)
from sigma_pipeline.jobs.launch_shard import array_resources, submit_shards
from sigma_pipeline.jobs.launch_train import train_resources
from sigma_pipeline.jobs.shard_plan import DatasetPlan
from sigma_pipeline.jobs.slurm import SlurmError, cancel
from sigma_pipeline.jobs.submission import Snapshot, Submission, read_submissions
from sigma_pipeline.jobs.submit import require_slurm, uninterrupted
from sigma_pipeline.jobs.submit_train import (
    forget_verdict,
    require_no_training,
    submit_train,
)
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.evaluating import commit_cadences, recorded_evaluation
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.sharding import plan_shards
from sigma_pipeline.pipeline.snapshots import take_snapshot
from sigma_pipeline.pipeline.stage_names import StageName
from sigma_pipeline.pipeline.training import is_training_finished, recorded_request

log = logging.getLogger(__name__)


def is_submitted(names: Sequence[StageName], config: PipelineConfig) -> bool:
    """Whether these stages become jobs that nobody waits for."""
    return config.launch.cluster == "slurm" and tuple(names) != (StageName.SHARD,)


def submit_stages(
    names: Sequence[StageName],
    config: PipelineConfig,
    services: Services,
    *,
    force: bool,
    follow: bool,
) -> list[Submission]:
    """Hands the stages to SLURM, each to start when what it reads is there; returns at once.

    Args:
        names: of the stages.
        config: of the run.
        services: of the run.
        force: shard again what is finished.
        follow: an evaluation alone goes along with the training that was submitted before.

    Raises:
        PipelineError: a stage cannot run, or SLURM did not take a job. Jobs that were submitted
            before are cancelled then.
    """
    storage, run_name = services.storage, config.run_name
    require_slurm()
    if StageName.TRAIN in names:
        require_no_training(storage, run_name)
    elif not follow and not committed_steps(storage, run_name):
        raise nothing_to_evaluate(run_name)
    has_shards, has_evaluation = StageName.SHARD in names, StageName.EVALUATE in names
    plans = plan_shards(config, services, force=force) if has_shards else []
    promised = {ref for plan in plans for ref in plan.refs.values()}
    request = None
    if StageName.TRAIN in names and not is_training_finished(storage, run_name):
        request = recorded_request(config, services, promised=promised)
        forget_verdict(storage, run_name)
    task = None
    if has_evaluation:
        task = EvaluateTask(
            request=recorded_evaluation(config, services, promised=promised),
            track=reachable(config.track),
        )
    with _Orders(config, take_snapshot(config, services)) as orders:
        for plan in plans:
            orders.shard(plan, storage, force=force)
        if request is not None:
            orders.train(request, task)
        if task is not None and (request is None or not config.launch.jobs_may_submit):
            orders.evaluate(_following(task, storage) if request or follow else task)
    _tell(orders.jobs)
    return orders.jobs


def describe_jobs(name: StageName, config: PipelineConfig) -> Iterator[str]:
    """What a stage would ask of SLURM; nothing where it does not run there."""
    launch = config.launch
    if launch.cluster != "slurm":
        return
    if name is StageName.SHARD:
        tasks = launch.shard.tasks
        yield f"per dataset, a SLURM array of up to {tasks} tasks of {array_resources(launch)}"
    elif name is StageName.TRAIN:
        jobs = "a SLURM job, queued again until training is done,"
        if launch.train.continue_by == "chain":
            jobs = f"{launch.train.chain_jobs} SLURM jobs, one after the other,"
        yield f"{jobs} of {train_resources(launch)}"
    else:
        when = "per commit, and one at the end" if launch.jobs_may_submit else "beside training"
        yield f"a SLURM job of {evaluate_resources(launch)}; with --stage all one {when}"


class _Orders:
    """The jobs of one call of the command: when one cannot be submitted, those before are ended."""

    def __init__(self, config: PipelineConfig, snapshot: Snapshot) -> None:
        self._config = config
        self._snapshot = snapshot
        self._after_shards: str | None = None
        self.jobs: list[Submission] = []

    def __enter__(self) -> Self:
        """Nothing is submitted yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leaves nothing half submitted."""
        for one in reversed(self.jobs) if kind is not None else ():
            try:
                cancel(one.job_id)
                log.info("SLURM job %s, which was submitted already, is cancelled", one.job_id)
            except SlurmError as error:
                log.error("SLURM job %s (%s) may go on: %s", one.job_id, one.stage, error)

    def shard(self, plan: DatasetPlan, storage: Storage, *, force: bool) -> None:
        """Orders what is missing of a dataset; training then waits for it.

        However its tasks end: others of the array make up for one that dies, and training itself
        sees whether the dataset is there.
        """
        with uninterrupted():
            array = submit_shards(
                plan,
                storage=storage,
                shard=self._config.shard,
                snapshot=self._snapshot,
                force=force,
            )
            if array is not None:
                self.jobs.append(array)
                self._after_shards = f"{self._after_shards or 'afterany'}:{array.job_id}"

    def train(self, request: TrainRequest, task: EvaluateTask | None) -> None:
        """Orders training, whose commits submit their evaluation where the site allows that."""
        evaluation = None
        if task is not None and self._config.launch.jobs_may_submit:
            cadences = tuple(commit_cadences(self._config.evaluate))
            evaluation = CommitEvaluation(task, self._snapshot, cadences)
        with uninterrupted():
            for job in submit_train(
                request,
                self._snapshot,
                dependency=self._after_shards,
                evaluation=evaluation,
                track=reachable(self._config.track),
            ):
                self.jobs.append(job)

    def evaluate(self, task: EvaluateTask) -> None:
        """Orders the evaluation of all that is missing; beside training, from when that starts."""
        trained = next((one.job_id for one in self.jobs if one.stage == "train"), None)
        with uninterrupted():
            dependency = f"after:{trained}" if trained is not None else self._after_shards
            for job in submit_evaluations(task, self._snapshot, dependency):
                self.jobs.append(job)


def _following(task: EvaluateTask, storage: Storage) -> EvaluateTask:
    """The same along with the training that was submitted last."""
    trainings = [
        one
        for one in read_submissions(storage, task.request.run_name)
        if one.stage == "train" and one.cluster == "slurm"
    ]
    last = [one.job_id for one in trainings if one.snapshot == trainings[-1].snapshot]
    return replace(task, training_jobs=tuple(last))


def _tell(jobs: Sequence[Submission]) -> None:
    """What runs now, and how to look at it."""
    for one in jobs:
        log.info("%s: SLURM job %s; its logs: %s", one.stage, one.job_id, one.folder)
    log.info(
        "SLURM goes on with the run by itself. With the same --config and --set: sigma-pipeline "
        "status shows how it stands, logs --follow what it says, and cancel ends it"
    )
