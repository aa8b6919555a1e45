"""Runs the evaluation of a run's commits as Ray tasks; the only import of Ray.

Ray is started inside this process and for it alone: under a token of its own, with its files in a
folder that goes away with it. Any number of evaluations may run on one machine.
"""

import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.backlog import Outcome, Task
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation import Evaluation
from sigma_pipeline.jobs.grid import plan_grid

__all__ = ["EvaluateRequest", "RayWorkers", "run_evaluate"]

log = logging.getLogger(__name__)

_START_ATTEMPTS = 3
_OBJECT_STORE_BYTES = 100 << 20  # arrays go through the store; Ray carries requests only
_LONGEST_TEMP_DIR = 30  # characters; Ray's socket names add 75, and 107 are allowed in all


def run_evaluate(
    request: EvaluateRequest,
    storage: Storage,
    journal: Journal,
    *,
    follow: Callable[[], bool] | None = None,
) -> int:
    """Scores every commit on every cell of the recipe that is not there yet.

    Args:
        request: what to evaluate.
        storage: the run's store.
        journal: takes the scores at their commits' steps.
        follow: says whether training still runs; new commits are then waited for. None: there is
            no training to wait for.

    Returns:
        The number of tasks that were run; 0 when everything was there.

    Raises:
        ConfigError: a benchmark's setting is wrong, or a task asks for more than there is.
        MissingInputError: a dataset or the first commit is missing.
        StageError: tasks failed; names them. All others were done before.
    """
    grid = plan_grid(storage, request)
    with RayWorkers(
        request.launch,
        retries=request.evaluate.retries,
        deadline_s=60 * request.evaluate.deadline_min,
    ) as workers:
        return Evaluation(storage, journal, grid, workers).run(follow)


@dataclass(frozen=True)
class _Submitted:
    task: Task
    deadline_at_s: float


class RayWorkers:
    """Ray's worker processes on this machine; started when first needed.

    No more tasks are handed to Ray than can run at once. So a task's deadline, which counts from
    its submission and spans its retries, is not used up by waiting.
    """

    def __init__(self, launch: EvaluateLaunchConfig, *, retries: int, deadline_s: float) -> None:
        self._launch = launch
        self._retries = retries
        self._deadline_s = deadline_s
        self._running: dict[Any, _Submitted] = {}
        self._ray: ModuleType | None = None
        self._folder: str | None = None
        self._num_slots = launch.cpus // launch.cpus_per_task

    def __enter__(self) -> "RayWorkers":
        """Checks what can be checked without starting Ray.

        Raises:
            ConfigError: a task needs more processors than there are.
        """
        if not self._num_slots:
            raise ConfigError(
                f"launch.evaluate.cpus_per_task={self._launch.cpus_per_task} is more than "
                f"launch.evaluate.cpus={self._launch.cpus}: no task could ever start"
            )
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends Ray and whatever it still runs."""
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def num_free(self) -> int:
        """See ``Workers``."""
        return self._num_slots - len(self._running)

    @property
    def is_idle(self) -> bool:
        """See ``Workers``."""
        return not self._running

    def start(self) -> None:
        """Starts Ray, once.

        Raises:
            ConfigError: a task asks for GPUs that are not there.
            StageError: Ray did not come up.
        """
        if self._ray is not None:
            return
        start_s = time.monotonic()
        self._ray = _import_ray()
        self._folder = tempfile.mkdtemp(prefix="sigma-", dir=_short_temp_dir())
        for attempts_left in reversed(range(_START_ATTEMPTS)):
            if self._try_to_start(attempts_left):
                break
        self._check_gpus(self._ray.cluster_resources().get("GPU", 0.0))
        log.info("Ray is up after %.1f s", time.monotonic() - start_s)

    def submit(self, task: Task) -> None:
        """See ``Workers``."""
        self.start()
        assert self._ray is not None
        remote = self._ray.remote(_call).options(
            name=task.title,
            num_cpus=self._launch.cpus_per_task,
            num_gpus=self._launch.gpus_per_task,
            max_retries=self._retries,
            retry_exceptions=True,
        )
        reference = remote.remote(task.function, task.arguments)
        self._running[reference] = _Submitted(task, time.monotonic() + self._deadline_s)

    def finished(self, timeout_s: float) -> list[Outcome]:
        """See ``Workers``."""
        if not self._running:
            time.sleep(timeout_s)
            return []
        assert self._ray is not None
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        outcomes = [self._outcome(reference) for reference in done]
        late = [
            reference
            for reference, submitted in self._running.items()
            if time.monotonic() > submitted.deadline_at_s
        ]
        return outcomes + [self._cancelled(reference) for reference in late]

    def _outcome(self, reference: Any) -> Outcome:
        assert self._ray is not None
        task = self._running.pop(reference).task
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            return Outcome(task, _one_line(cause), traceback=str(error))
        return Outcome(task)

    def _cancelled(self, reference: Any) -> Outcome:
        assert self._ray is not None
        task = self._running.pop(reference).task
        # Without force a task inside a library call would not notice.
        self._ray.cancel(reference, force=True)
        return Outcome(
            task, f"stopped after {self._deadline_s / 60:g} min, which is evaluate.deadline_min"
        )

    def _try_to_start(self, attempts_left: int) -> bool:
        """Whether Ray is up; it gives its own processes 30 s, which a busy machine exceeds."""
        assert self._ray is not None
        try:
            with _kept_signal_handler():
                self._ray.init(
                    address="local",
                    num_cpus=self._launch.cpus,
                    include_dashboard=False,
                    logging_level="error",
                    log_to_driver=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    _temp_dir=self._folder,
                )
        except Exception as error:  # Ray raises nothing more exact than this
            self._ray.shutdown()
            if not attempts_left:
                raise StageError(f"Ray did not start: {_one_line(error)}") from error
            log.warning("Ray did not start, trying again: %s", _one_line(error))
            return False
        return True

    def _check_gpus(self, gpus: float) -> None:
        wanted = self._launch.gpus_per_task
        if wanted > gpus:
            raise ConfigError(
                f"launch.evaluate.gpus_per_task={wanted:g}, but this machine has {gpus:g} GPUs: "
                "no task could ever start"
            )
        if wanted:
            self._num_slots = min(self._num_slots, int(gpus / wanted))


def _call(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """What Ray runs; it finds the function by its name."""
    function(*arguments)


def _import_ray() -> ModuleType:
    """Ray, told before it is loaded to send no statistics and to want a token of this process.

    By itself it would write a token to the home directory, readable by others. And it would give
    up on a worker that a busy machine starts slowly.
    """
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_worker_register_timeout_seconds", "300")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    return ray


def _short_temp_dir() -> str:
    """The folder for temporary files, or one with a shorter name if Ray's sockets need that."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= _LONGEST_TEMP_DIR else "/tmp"  # noqa: S108 - mkdtemp is safe


@contextmanager
def _kept_signal_handler() -> Iterator[None]:
    """Undoes that Ray replaces the process's handler of SIGTERM."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # None: not set from Python, and not to be set again from there.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _one_line(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
