"""Handing work to an executor: processes on this machine, SLURM, or this very process.

No other module than this and ``submit_array`` imports submitit. What that was read to do (1.5.4),
and what follows from it:

* The local executor starts a controller process, which starts one process per rank, passes SIGTERM
  on to them, and outlives the launcher. Its ``cancel`` gives the ranks one second before SIGKILL,
  too short to save; so a stop is a SIGTERM to the controller. Control-C in a terminal would reach
  the controller as well and have the same effect; so it is started with that signal blocked.
* Results lie under the controller's process number, which comes again; so each launch has a folder
  of its own.
* The controller and the ranks run the interpreter of the launcher. ``PYTHONSAFEPATH`` keeps the
  current folder off their import path: in a checkout, ``import model`` would find ours.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import submitit
import submitit.helpers

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.train_request import RankPlace

Result = TypeVar("Result")

TIMEOUTS = 10
"""How often a call that can be repeated goes on after its time limit, by default."""


class Job(Generic[Result]):
    """A job of one or several processes."""

    def __init__(self, job: "submitit.Job[Result]") -> None:
        self._job = job

    @property
    def job_id(self) -> str:
        """SLURM's number of it; on this machine, that of the process that controls the others."""
        return str(self._job.job_id)

    @property
    def log_path(self) -> Path:
        """What rank 0 writes to its error stream, which is where logs go."""
        return Path(self._job.task(0).paths.stderr)

    @property
    def folder(self) -> Path:
        """Where submitit's files of it and the logs of all ranks lie."""
        return Path(self._job.paths.folder)

    @property
    def world_size(self) -> int:
        """Processes."""
        return int(self._job.num_tasks)

    @property
    def is_local(self) -> bool:
        """Whether it runs as processes of this machine."""
        return isinstance(self._job, submitit.LocalJob)

    @property
    def is_here(self) -> bool:
        """Whether it runs in this very process, when it is asked whether it is done."""
        return isinstance(self._job, submitit.DebugJob)

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return bool(self._job.done())

    def ask_to_end(self) -> None:
        """Sends SIGTERM to all its processes on this machine."""
        # It has not been waited for, so its number cannot be another's yet.
        os.kill(int(self.job_id), signal.SIGTERM)

    def silent_ranks(self) -> list[int]:
        """Ranks of a local job that left neither a result nor an error."""
        ranks = range(self._job.num_tasks if self.is_local else 0)
        return [rank for rank in ranks if not self._job.task(rank).paths.result_pickle.exists()]

    def failures(self) -> list[str]:
        """The tracebacks that ranks left."""
        silent = self.silent_ranks()
        ranks = (rank for rank in range(self._job.num_tasks) if rank not in silent)
        failures = (self._job.task(rank).exception() for rank in ranks)
        return [str(failure) for failure in failures if failure is not None]

    def result(self) -> Result:
        """What rank 0 returned."""
        result: Result = self._job.results()[0]
        return result


def submit(
    call: Callable[[], Result],
    launch: LaunchConfig,
    folder: Path,
    parameters: Mapping[str, Any],
    *,
    threads: int,
    code: Path | None = None,
    timeouts: int = TIMEOUTS,
) -> Job[Result]:
    """Starts ``call`` where ``launch`` says; returns at once.

    Args:
        call: picklable; runs in each process of the job.
        launch: the executor.
        folder: shared by all nodes; the job's own, for its files.
        parameters: submitit's; it drops those of another executor than the one in use.
        threads: of each process, for the libraries that take their number from the environment.
        code: folder that the processes import this package from; that of the launcher when absent.
        timeouts: how often a call that can be repeated goes on after its time limit.

    Raises:
        StageError: SLURM is not there, or did not take the job.
    """
    if launch.cluster == "slurm":
        require_slurm()
    make_private(folder)
    executor = submitit.AutoExecutor(
        folder=folder,
        cluster=launch.cluster,
        slurm_python=launch.python,
        slurm_max_num_timeout=timeouts,
    )
    executor.update_parameters(**parameters)
    with explained(), child_settings(threads, is_local=launch.cluster == "local", code=code):
        return Job(executor.submit(call))


def make_private(folder: Path) -> None:
    """Makes the folder of a job: what is pickled in it may hold a password of the recipe."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def this_place() -> RankPlace:
    """This process among the others of its job; to be asked in the job."""
    environment = submitit.JobEnvironment()
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


def job_folder() -> Path | None:
    """The folder of this process's job, which its other processes see too; None outside a job."""
    try:
        return Path(submitit.JobEnvironment().paths.folder)
    except RuntimeError:
        return None


def is_local_job() -> bool:
    """Whether this process is one of a job on the launcher's machine."""
    return bool(submitit.JobEnvironment().cluster == "local")


@contextmanager
def explained() -> Iterator[None]:
    """Says in our words why SLURM did not take a job."""
    try:
        yield
    except submitit.core.utils.FailedJobError as error:
        raise StageError(
            f"SLURM did not take the job: {str(error).strip()}. Check launch.partition, "
            "launch.account and the resources under launch against what sinfo shows, and run it "
            "again"
        ) from error


@contextmanager
def child_settings(threads: int, *, is_local: bool, code: Path | None = None) -> Iterator[None]:
    """What the processes of the job inherit: environment, and blocked terminal signals."""
    variables = {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": str(threads)}
    if is_local:
        # Else gloo looks up the host's name, which may wait for a server that is not there.
        variables["GLOO_SOCKET_IFNAME"] = "lo"
    if is_local and code is not None:
        # On SLURM the batch script does it, after the lines of launch.setup.
        more = os.environ.get("PYTHONPATH")
        variables["PYTHONPATH"] = f"{code}{os.pathsep}{more}" if more else str(code)
    if "SLURM_CONF" in os.environ:
        # Of a job's variables, which are cleared below; but this one is the site's.
        variables["SLURM_CONF"] = os.environ["SLURM_CONF"]
    with (
        submitit.helpers.clean_env(),
        submitit.helpers.environment_variables(**variables),
        uninterrupted(is_local=is_local),
    ):
        yield


@contextmanager
def uninterrupted(*, is_local: bool = False) -> Iterator[None]:
    """Puts off Ctrl-C and, for a job on other machines, SIGTERM, until the block is left.

    Were this process stopped between submitting such a job and writing that down, nobody would
    know of it.
    """
    blocked = {signal.SIGINT, signal.SIGHUP} | (set() if is_local else {signal.SIGTERM})
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def require_slurm() -> None:
    """Refuses to go on where SLURM's commands are not.

    Raises:
        StageError: that is so.
    """
    if submitit.SlurmExecutor.affinity() < 0:
        raise StageError(
            "launch.cluster=slurm, but SLURM's srun is not on the PATH; run it on a login node, or "
            "with --set launch.cluster=local"
        )
