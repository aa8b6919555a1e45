"""Handing training to an executor: processes on this machine, a SLURM job, or this very process.

The only module that imports submitit. What it was read to do (1.5.4), and what follows from it:

* The local executor starts a controller process, which starts one process per rank, passes SIGTERM
  on to them, and outlives the launcher. Its ``cancel`` gives the ranks one second before SIGKILL,
  too short to save; so a stop is a SIGTERM to the controller. Control-C in a terminal would reach
  the controller as well and have the same effect; so it is started with that signal blocked.
* Results lie under the controller's process number, which comes again; so each launch has a folder
  of its own.
* The controller and the ranks run the interpreter of the launcher. ``PYTHONSAFEPATH`` keeps the
  current folder off their import path: in a checkout, ``import model`` would find ours.
* It sets CUDA_VISIBLE_DEVICES to 0, 1, ... whatever it was before.
"""

import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import submitit
import submitit.helpers

from sigma_pipeline.infra import errors
from sigma_pipeline.infra.errors import ConfigError, PipelineError, StageError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.jobs.config import LaunchConfig, TrainLaunchConfig
from sigma_pipeline.jobs.train_request import ProcessIdentity, RankPlace, TrainRequest
from sigma_pipeline.jobs.train_result import TrainResult, stopped_before_start

log = logging.getLogger(__name__)

State = Literal["running", "finished", "stopped", "failed"]

_POLL_INTERVAL_S = 0.2
_REMINDER_INTERVAL_S = 5.0
_OUR_ERROR = re.compile(r"^sigma_pipeline\.infra\.errors\.(\w+): (.+)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class TrainTask:
    """What runs in each process of the job."""

    request: TrainRequest
    visible_devices: str | None
    """CUDA_VISIBLE_DEVICES of the launcher."""

    def __call__(self) -> TrainResult:
        """Trains as one rank; see ``run_train``."""
        environment = submitit.JobEnvironment()
        if environment.cluster == "local" and self.visible_devices is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.visible_devices
        # Imported here: it brings DeepSpeed, which the launcher has no use for.
        from sigma_pipeline.jobs.train import run_train

        return run_train(self.request, _place(environment))


class TrainJob:
    """A training that was launched."""

    def __init__(self, job: "submitit.Job[TrainResult]", request: TrainRequest) -> None:
        self._job = job
        self._request = request
        self._is_local = isinstance(job, submitit.LocalJob)
        self._asked_to_stop_s: float | None = None
        self._outcome: TrainResult | PipelineError | None = None

    @property
    def log_path(self) -> Path:
        """What rank 0 writes to its error stream, which is where logs go."""
        return Path(self._job.task(0).paths.stderr)

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
        is_in_this_process = isinstance(self._job, submitit.DebugJob)
        if self._outcome is not None or is_in_this_process or self._job.done():
            return
        self._asked_to_stop_s = time.monotonic()
        if self._is_local:
            # It has not been waited for, so its number cannot be another's yet.
            os.kill(int(self._job.job_id), signal.SIGTERM)
        else:
            subprocess.run(["scancel", "--signal=TERM", self._job.job_id], check=True)  # noqa: S607

    def _remind(self) -> None:
        """Asks again: a signal is lost on a rank in which submitit just begins to ignore it."""
        asked_s = self._asked_to_stop_s
        if asked_s is not None and time.monotonic() - asked_s > _REMINDER_INTERVAL_S:
            self.stop()

    def _read_outcome(self) -> TrainResult | PipelineError:
        tasks = [self._job.task(rank) for rank in range(self._job.num_tasks)]
        # Only on a network file system may a result come late; submitit waits 15 s for each.
        silent = [
            rank
            for rank, task in enumerate(tasks)
            if self._is_local and not task.paths.result_pickle.exists()
        ]
        spoken = [task for rank, task in enumerate(tasks) if rank not in silent]
        failures = [str(failure) for task in spoken if (failure := task.exception()) is not None]
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
            last_line = failures[0].partition("\n-----")[0].strip().rpartition("\n")[2]
            return StageError(f"training failed: {last_line} (log: {self.log_path})")
        result: TrainResult = self._job.results()[0]
        return result


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
    folder = work_dir / "submitit" / request.run_name / new_attempt()
    executor = submitit.AutoExecutor(folder=folder, cluster=launch.cluster)
    executor.update_parameters(
        **executor_parameters(launch, num_processes, num_gpus, name=f"train-{request.run_name}")
    )
    waits_here = launch.cluster == "local"
    task = TrainTask(
        request=replace(
            request,
            cpus_per_process=launch.train.cpus_per_process,
            launcher=ProcessIdentity.current() if waits_here else None,
        ),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )
    with _child_settings(launch.train.cpus_per_process, is_local=waits_here):
        job = TrainJob(_submitted(executor, task), task.request)
    log.info("Training runs as %d process(es) per node; log: %s", num_processes, job.log_path)
    return job


def _submitted(executor: submitit.AutoExecutor, task: TrainTask) -> "submitit.Job[TrainResult]":
    try:
        return executor.submit(task)
    except submitit.core.utils.FailedJobError as error:
        raise StageError(
            f"SLURM did not take the job: {str(error).strip()}. Check launch.partition, "
            "launch.account and launch.train against what sinfo shows, and run it again"
        ) from error


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


@contextmanager
def _child_settings(num_threads: int, *, is_local: bool) -> Iterator[None]:
    """What the processes of the job inherit: environment, and blocked terminal signals."""
    variables = {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": str(num_threads)}
    if is_local:
        # Else gloo looks up the host's name, which may wait for a server that is not there.
        variables["GLOO_SOCKET_IFNAME"] = "lo"
    if "SLURM_CONF" in os.environ:
        # Of a job's variables, which are cleared below; but this one is the site's.
        variables["SLURM_CONF"] = os.environ["SLURM_CONF"]
    with submitit.helpers.clean_env(), submitit.helpers.environment_variables(**variables):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _place(environment: submitit.JobEnvironment) -> RankPlace:
    """This process among the others of its job."""
    rendezvous = None
    if environment.num_tasks > 1 and environment.cluster == "slurm":
        nodes = submitit.helpers.TorchDistributedEnvironment()
        rendezvous = f"tcp://{nodes.master_addr}:{nodes.master_port}"
    elif environment.num_tasks > 1:
        rendezvous = str(environment.paths.folder / f"{environment.job_id}_rendezvous")
    return RankPlace(
        rank=environment.global_rank,
        world_size=environment.num_tasks,
        local_rank=environment.local_rank,
        rendezvous=rendezvous,
    )


def find_our_error(failures: Iterable[str], log_path: Path) -> PipelineError | None:
    """The error of ours that a rank raised, out of the tracebacks of all ranks.

    When one rank fails the others lose the connection to it; theirs are not the cause.
    """
    for failure in failures:
        if match := _OUR_ERROR.search(failure):
            kind = getattr(errors, match[1], StageError)
            message = match[2].partition("\n-----")[0].strip()
            error: PipelineError = kind(f"{message} (log: {log_path})")
            return error
    return None
