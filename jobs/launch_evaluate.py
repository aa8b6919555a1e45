"""Evaluation as jobs of SLURM: of one commit, of all that is missing, or along with training."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.logs import configure_logging
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.asked_to_end import ends_on_sigterm
from sigma_pipeline.jobs.attempts import is_cancelled, read_verdict
from sigma_pipeline.jobs.code_copy import package_folder
from sigma_pipeline.jobs.commits import manifest_key
from sigma_pipeline.jobs.config import LaunchConfig, TrackConfig
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.executor import Order, Resources, executor_parameters
from sigma_pipeline.jobs.job_tracking import tracked_job
from sigma_pipeline.jobs.slurm import SlurmError, job_view
from sigma_pipeline.jobs.submission import Snapshot, Submission, job_name, record_submission
from sigma_pipeline.jobs.submit import TIMEOUTS, Job, submit, uninterrupted
from sigma_pipeline.jobs.submit_array import ENDED, Repeatable

log = logging.getLogger(__name__)

AFTER_THE_OTHERS = "singleton"
"""SLURM starts the job when all earlier ones of its name have ended."""
_ASK_INTERVAL_S = 30.0
_ENDED_FOR_GOOD = ENDED - {"BOOT_FAIL", "NODE_FAIL", "PREEMPTED"}
_TIMEOUTS_BESIDE_TRAINING = 1000  # which may last for weeks


@dataclass(frozen=True, kw_only=True)
class EvaluateTask:
    """What runs on the node; it may be cut off anywhere and run again."""

    request: EvaluateRequest
    track: TrackConfig | None
    """An MLflow server; None where numbers go to the journal alone."""
    training_jobs: tuple[str, ...] | None = None
    """SLURM's numbers of a training whose commits are waited for; None: what is there is done."""

    def __call__(self) -> int:
        """Does what is missing, or helps another process of the job to do it.

        Returns:
            The number of tasks that were run; 0 where another process counts them.

        Raises:
            PipelineError: see ``run_evaluate``.
        """
        # Imported here: they bring PyTorch, which the launcher has no use for.
        from sigma_pipeline.jobs.ray_slurm import Allocation, lend_node

        request, attempt = self.request, new_attempt()
        place = Allocation.current() if request.launch.nodes > 1 else None
        rank = 0 if place is None else place.rank
        logs = Path(request.work_dir, "logs", request.run_name)
        configure_logging(rank, json_path=logs / f"{attempt}-evaluate.jsonl")
        log.info("Evaluating with the code in %s", package_folder())
        with ends_on_sigterm():
            if place is not None and rank > 0:
                lend_node(request.launch, place)
                return 0
            return self._evaluate(attempt)

    def _evaluate(self, attempt: str) -> int:
        from sigma_pipeline.jobs.evaluate import run_evaluate

        request, storage = self.request, open_storage(self.request.root_uri)
        follow = None
        if self.training_jobs is not None:
            follow = TrainingBeside(storage, request.run_name, self.training_jobs)
        with tracked_job(storage, request.run_name, self.track) as end:
            journal = Journal(storage, request.run_name, attempt, "evaluate")
            try:
                count = run_evaluate(request, storage, journal, follow=follow)
            except PipelineError:
                end.status = "FAILED" if self._is_last(storage) else "RUNNING"
                raise
            finally:
                journal.close()
            end.status = "FINISHED" if self._is_last(storage) else "RUNNING"
        return count

    def _is_last(self, storage: Storage) -> bool:
        """Whether nothing of the run comes after this job."""
        run_name = self.request.run_name
        return self.request.steps is None and storage.exists(manifest_key(run_name))


class TrainingBeside:
    """Whether a training that runs as other jobs may still commit."""

    def __init__(self, storage: Storage, run_name: str, job_ids: Sequence[str]) -> None:
        self._storage = storage
        self._run_name = run_name
        self._job_ids = job_ids
        self._asked_at_s = float("-inf")

    def __call__(self) -> bool:
        """By its own words, else, now and then, by SLURM's."""
        storage, run_name = self._storage, self._run_name
        if (
            storage.exists(manifest_key(run_name))
            or read_verdict(storage, run_name) is not None
            or any(is_cancelled(storage, run_name, job_id) for job_id in self._job_ids)
        ):
            return False
        if time.monotonic() - self._asked_at_s < _ASK_INTERVAL_S:
            return True
        self._asked_at_s = time.monotonic()
        return any(map(_may_go_on, self._job_ids))


def _may_go_on(job_id: str) -> bool:
    try:
        view = job_view(job_id)
    except SlurmError as error:
        log.warning("Whether training goes on is not known: %s", error)
        return True
    return view is not None and view.state not in _ENDED_FOR_GOOD


def evaluate_resources(launch: LaunchConfig) -> Resources:
    """One process on each node, which starts Ray's processes there."""
    evaluate = launch.evaluate
    return Resources(
        nodes=evaluate.nodes,
        cpus_per_task=evaluate.cpus,
        gpus_per_node=evaluate.gpus,
        memory_gib=evaluate.memory_gib,
        timeout_min=evaluate.timeout_min,
    )


def submit_evaluations(
    task: EvaluateTask, snapshot: Snapshot, dependency: str | None
) -> Iterator[Submission]:
    """Hands an evaluation to SLURM, job by job.

    Along with a training, where jobs may not be queued again, it is a chain as that is: each of its
    jobs does what the one before has left.

    Args:
        task: of the run.
        snapshot: what it runs from.
        dependency: when it may start, as sbatch takes it.

    Raises:
        StageError: SLURM did not take a job.
    """
    train = snapshot.launch.train
    is_chain = task.training_jobs is not None and train.continue_by == "chain"
    conditions = [dependency] if dependency else []
    conditions += [AFTER_THE_OTHERS] if is_chain else []
    for _ in range(train.chain_jobs if is_chain else 1):
        yield submit_evaluate(task, snapshot, dependency=",".join(conditions) or None)


def submit_evaluate(
    task: EvaluateTask,
    snapshot: Snapshot,
    *,
    step: int | None = None,
    dependency: str | None = None,
) -> Submission:
    """Hands an evaluation to SLURM, and writes that down.

    Args:
        task: of a run.
        snapshot: what it runs from.
        step: the only commit to evaluate; None: what ``task`` says.
        dependency: when it may start, as sbatch takes it.

    Raises:
        StageError: SLURM did not take the job.
    """
    if step is not None:
        task = replace(task, request=replace(task.request, steps=(step,)))
    nodes, folder = snapshot.launch.evaluate.nodes, snapshot.folder / new_attempt()
    is_requeued = snapshot.launch.train.continue_by == "requeue"
    order = Order(dependency=dependency, is_requeued=is_requeued, outlives_nodes=nodes > 1)
    with uninterrupted():
        job = _submit(task, snapshot, order, folder)
        return record_submission(
            snapshot, "evaluate", job.job_id, folder, world_size=nodes, step=step
        )


def _submit(task: EvaluateTask, snapshot: Snapshot, order: Order, folder: Path) -> Job[int]:
    launch = snapshot.launch
    parameters = executor_parameters(
        launch,
        evaluate_resources(launch),
        name=job_name(snapshot.run_name, "evaluate"),
        order=order,
        code=snapshot.code,
    )
    return submit(
        Repeatable(task) if order.is_requeued else task,
        launch,
        folder,
        parameters,
        threads=1,
        timeouts=TIMEOUTS if task.training_jobs is None else _TIMEOUTS_BESIDE_TRAINING,
    )
