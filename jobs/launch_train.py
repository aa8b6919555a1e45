"""Launching training, and how it ended.

submitit's executor for one machine sets CUDA_VISIBLE_DEVICES to 0, 1, ... whatever it was before.
"""

import logging
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sigma_pipeline.infra.errors import ConfigError, PipelineError, StageError
from sigma_pipeline.jobs.config import LaunchConfig, TrainLaunchConfig
from sigma_pipeline.jobs.job_failures import find_our_error, last_line
from sigma_pipeline.jobs.submit import Job, is_local_job, submit, this_place
from sigma_pipeline.jobs.train_request import ProcessIdentity, TrainRequest
from sigma_pipeline.jobs.train_result import TrainResult, stopped_before_start

log = logging.getLogger(__name__)

State = Literal["running", "finished", "stopped", "failed"]

_POLL_INTERVAL_S = 0.2
_REMINDER_INTERVAL_S = 5.0


@dataclass(frozen=True)
class TrainTask:
    """What runs in each process of the job."""

    request: TrainRequest
    visible_devices: str | None
    """CUDA_VISIBLE_DEVICES of the launcher."""

    def __call__(self) -> TrainResult:
        """Trains as one rank; see ``run_train``."""
        if is_local_job() and self.visible_devices is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.visible_devices
        # Imported here: it brings DeepSpeed, which the launcher has no use for.
        from sigma_pipeline.jobs.train import run_train

        return run_train(self.request, this_place())


class TrainJob:
    """A training that was launched."""

    def __init__(self, job: Job[TrainResult], request: TrainRequest) -> None:
        self._job = job
        self._request = request
        self._asked_to_stop_s: float | None = None
        self._outcome: TrainResult | PipelineError | None = None

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
            ranks = ", ".join(map(str, silent))
            return StageError(
                f"training ended without a word on rank {ranks}: killed from outside, or out of "
                f"memory; run it again to resume (log: {self.log_path})"
            )
        if failures:
            return StageError(f"training failed: {last_line(failures[0])} (log: {self.log_path})")
        return self._job.result()


def launch_train(request: TrainRequest, launch: LaunchConfig, work_dir: Path) -> TrainJob:
    """Starts training where ``launch`` says; returns at once, but for ``cluster=debug``.

    Args:
        request: what to train.
        launch: executor and resources.
        work_dir: folder that all nodes share; submitit's files go below it.

    Raises:
        ConfigError: this machine has not what ``launch`` asks for.
        StageError: SLURM did not take the job.
    """
    num_processes, num_gpus = processes_per_node(launch)
    waits_here = launch.cluster == "local"
    task = TrainTask(
        request=replace(
            request,
            cpus_per_process=launch.train.cpus_per_process,
            launcher=ProcessIdentity.current() if waits_here else None,
        ),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )
    parameters = executor_parameters(
        launch, num_processes, num_gpus, name=f"train-{request.run_name}"
    )
    folder = work_dir / "submitit" / request.run_name
    threads = launch.train.cpus_per_process
    job = TrainJob(submit(task, launch, folder, parameters, threads=threads), task.request)
    log.info("Training runs as %d process(es) per node; log: %s", num_processes, job.log_path)
    return job


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


def executor_parameters(
    launch: LaunchConfig, num_processes: int, num_gpus: int, *, name: str
) -> dict[str, Any]:
    """What submitit is told; it drops those of another executor than the one in use."""
    train: TrainLaunchConfig = launch.train
    return {
        "name": name,
        "nodes": train.nodes,
        "tasks_per_node": num_processes,
        "gpus_per_node": num_gpus,
        "cpus_per_task": train.cpus_per_process,
        "timeout_min": train.timeout_min,
        "slurm_partition": launch.partition,
        "slurm_account": launch.account,
    }
