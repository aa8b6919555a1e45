"""Launching training, and how it ended.

submitit's executor for one machine sets CUDA_VISIBLE_DEVICES to 0, 1, ... whatever it was before.
"""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sigma_pipeline.infra.errors import ConfigError, PipelineError, StageError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.logs import configure_logging
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.attempts import AttemptEnd, newest_attempts, now_ms, record_end
from sigma_pipeline.jobs.code_copy import package_folder
from sigma_pipeline.jobs.commit_evaluation import CommitEvaluation
from sigma_pipeline.jobs.commits import newest_step
from sigma_pipeline.jobs.config import LaunchConfig, TrackConfig
from sigma_pipeline.jobs.executor import Resources, executor_parameters
from sigma_pipeline.jobs.gpu_sharing import training_share
from sigma_pipeline.jobs.job_failures import find_our_error, is_lost_connection, last_line
from sigma_pipeline.jobs.job_tracking import RunEnd, tracked_job
from sigma_pipeline.jobs.stop_wish import StopWish, stop_on_signals
from sigma_pipeline.jobs.submit import Job, is_local_job, submit, this_place
from sigma_pipeline.jobs.train_attempt import record_refusal
from sigma_pipeline.jobs.train_request import ProcessIdentity, RankPlace, TrainRequest
from sigma_pipeline.jobs.train_result import TrainResult, stopped_before_start

log = logging.getLogger(__name__)

State = Literal["running", "finished", "stopped", "failed"]

_POLL_INTERVAL_S = 0.2
_REMINDER_INTERVAL_S = 5.0


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """What runs in each process of the job."""

    request: TrainRequest
    visible_devices: str | None
    """CUDA_VISIBLE_DEVICES of the launcher."""
    evaluation: CommitEvaluation | None = None
    """What each commit submits; None where the launcher evaluates, or nobody."""
    track: TrackConfig | None = None
    """An MLflow server; None where numbers go to the journal alone."""

    def __call__(self) -> TrainResult:
        """Trains as one rank; see ``run_train``."""
        place, wish = this_place(), StopWish.of_job(self.request.launcher)
        with stop_on_signals(wish):
            configure_logging(rank=place.rank)
            log.info("Training with the code in %s", package_folder())
            if is_local_job() and self.visible_devices is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = self.visible_devices
            if place.rank != 0:
                return self._train(place, wish)
            storage = open_storage(self.request.root_uri)
            with tracked_job(storage, self.request.run_name, self.track) as end:
                self._require_sbatch(place)
                result = self._train(place, wish)
                if result["state"] == "finished":
                    self._end(end, wish)
            return result

    def _train(self, place: RankPlace, wish: StopWish) -> TrainResult:
        # Imported here: it brings DeepSpeed, which the launcher has no use for.
        from sigma_pipeline.jobs.train import run_train

        on_commit = self.evaluation.on_commit if self.evaluation else None
        return run_train(self.request, place, wish=wish, on_commit=on_commit)

    def _require_sbatch(self, place: RankPlace) -> None:
        try:
            if self.evaluation is not None:
                self.evaluation.require_sbatch()
        except ConfigError as error:
            record_refusal(self.request, place, error)
            raise

    def _end(self, end: RunEnd, wish: StopWish) -> None:
        """Leaves the run to its last evaluation, where there is to be one."""
        is_left = self.evaluation is not None and self.evaluation.on_end(wish.is_wished)
        if not is_left and self.track is not None:
            end.status = "FINISHED"


class TrainJob:
    """A training that was launched."""

    def __init__(self, job: Job[TrainResult], request: TrainRequest) -> None:
        self._job = job
        self._request = request
        self._asked_to_stop_s: float | None = None
        self._outcome: TrainResult | PipelineError | None = None

    @property
    def job_id(self) -> str:
        """The number of the process that controls the others."""
        return self._job.job_id

    @property
    def folder(self) -> Path:
        """Where the job's files lie."""
        return self._job.folder

    @property
    def world_size(self) -> int:
        """Processes."""
        return self._job.world_size

    @property
    def log_path(self) -> Path:
        """What rank 0 writes to its error stream, which is where logs go."""
        return self._job.log_path

    def poll(self) -> State:
        """Where the job stands. With ``cluster=debug`` this is what runs it, to its end."""
        if self._outcome is None:
            if not self._job.done():
                self._remind()
                return "running"
            self._outcome = self._read_outcome()
        if isinstance(self._outcome, PipelineError):
            return "failed"
        return self._outcome["state"]

    def wait(self) -> TrainResult:
        """The result of ``run_train`` when it has one.

        Raises:
            PipelineError: the error that ended the job; it names the log.
        """
        while self.poll() == "running":
            time.sleep(_POLL_INTERVAL_S)
        if isinstance(self._outcome, PipelineError):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome

    def stop(self) -> None:
        """Asks the job to save, commit and end, and returns at once; ``wait`` for it."""
        if self._outcome is not None or self._job.is_here or self._job.done():
            return
        self._asked_to_stop_s = time.monotonic()
        self._job.ask_to_end()

    def _remind(self) -> None:
        """Asks again: a signal is lost on a rank in which submitit just begins to ignore it."""
        asked_s = self._asked_to_stop_s
        if asked_s is not None and time.monotonic() - asked_s > _REMINDER_INTERVAL_S:
            self.stop()

    def _read_outcome(self) -> TrainResult | PipelineError:
        silent, failures = self._job.silent_ranks(), self._job.failures()
        if error := find_our_error(failures, self.log_path):
            return error
        if silent and self._asked_to_stop_s is not None and not failures:
            return stopped_before_start(self._request, "stopped while starting")
        if silent:
            return StageError(f"{self._death(silent)} (log: {self.log_path})")
        if failures:
            # When one rank fails the others lose the connection to it.
            cause = min(failures, key=is_lost_connection)
            return StageError(f"training failed: {last_line(cause)} (log: {self.log_path})")
        return self._job.result()

    def _death(self, silent: Sequence[int]) -> str:
        """Why ranks ended without a word; their attempt may have told the store just before."""
        ranks = ", ".join(map(str, silent))
        reason = f"ended without a word on rank {ranks}: killed from outside, or out of memory"
        storage, run_name = open_storage(self._request.root_uri), self._request.run_name
        newest = next(newest_attempts(storage, run_name), None)
        if newest is not None and newest.name >= self._request.failures_since:
            if newest.end is None:
                step, ended_ms = newest_step(storage, run_name), now_ms()
                end = AttemptEnd(state="died", reason=reason, step=step, ended_ms=ended_ms)
                record_end(storage, run_name, newest.name, end)
            elif newest.end.state == "failed":
                return newest.end.reason
        return f"training {reason}; run it again to resume"


def launch_train(
    request: TrainRequest, launch: LaunchConfig, work_dir: Path, *, code: Path | None = None
) -> TrainJob:
    """Starts training on this machine; returns at once, but for ``cluster=debug``.

    Args:
        request: what to train.
        launch: executor and resources.
        work_dir: submitit's files go below it.
        code: folder that the processes import this package from; that of the launcher when absent.

    Raises:
        ConfigError: this machine has not what ``launch`` asks for.
    """
    resources = train_resources(launch)
    task = TrainTask(
        request=fitted(request, launch), visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES")
    )
    parameters = executor_parameters(launch, resources, name=f"{request.run_name}-train")
    folder = work_dir / "submitit" / request.run_name / new_attempt()
    threads = launch.train.cpus_per_process
    job = TrainJob(
        submit(task, launch, folder, parameters, threads=threads, code=code), task.request
    )
    log.info("Training runs as %s; log: %s", resources, job.log_path)
    return job


def fitted(request: TrainRequest, launch: LaunchConfig) -> TrainRequest:
    """``request`` with what it is told of where it runs; a person starts it, so all may be new."""
    train = launch.train
    return replace(
        request,
        cpus_per_process=train.cpus_per_process,
        stall_timeout_s=train.stall_timeout_s,
        preflight=train.preflight,
        gpu_share=training_share(launch),
        launcher=ProcessIdentity.current() if launch.cluster == "local" else None,
        max_attempts_without_progress=train.max_attempts_without_progress,
        failures_since=new_attempt(),
    )


def processes_per_node(launch: LaunchConfig) -> tuple[int, int]:
    """Processes and GPUs per node: one process per GPU, or on CPUs alone where CUDA is not found.

    A login node has no GPU, so for SLURM the build of PyTorch decides.

    Raises:
        ConfigError: fewer GPUs or nodes than asked for.
    """
    import torch  # seconds, and not needed to look at a job

    train = launch.train
    if launch.cluster == "slurm":
        has_cuda = torch.version.cuda is not None or torch.version.hip is not None
        return (train.gpus_per_node, train.gpus_per_node) if has_cuda else (train.cpu_processes, 0)
    if train.nodes > 1:
        raise ConfigError(
            f"launch.train.nodes={train.nodes} needs launch.cluster=slurm; "
            f"launch.cluster={launch.cluster} has one node"
        )
    if launch.cluster == "debug":
        return 1, 0
    num_gpus = torch.cuda.device_count()
    if num_gpus == 0:
        return train.cpu_processes, 0
    if num_gpus < train.gpus_per_node:
        raise ConfigError(
            f"launch.train.gpus_per_node={train.gpus_per_node}, but this machine shows {num_gpus}"
        )
    return train.gpus_per_node, train.gpus_per_node


def train_resources(launch: LaunchConfig) -> Resources:
    """Of one attempt.

    Raises:
        ConfigError: fewer GPUs or nodes than asked for.
    """
    num_processes, num_gpus = processes_per_node(launch)
    train = launch.train
    return Resources(
        nodes=train.nodes,
        tasks_per_node=num_processes,
        cpus_per_task=train.cpus_per_process,
        gpus_per_node=num_gpus,
        memory_gib=train.memory_gib,
        timeout_min=train.timeout_min,
    )
