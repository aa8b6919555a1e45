"""One GPU for training and for the evaluation of its commits, on one machine.

``pause``: the two take turns. Evaluation says that it wants the GPU by holding a lock on one file;
training holds one on another while it takes steps, and lets go of it at the end of a step for as
long as evaluation wants. Locks are the kernel's: a process that dies holds none, so that neither
side ever waits for one that is gone. With two files evaluation also knows when a step is over.

``memory_cap``: both go on, and neither can take more than its share of the memory.
"""

import fcntl
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from sigma_pipeline.jobs.backlog import Task
from sigma_pipeline.jobs.config import EvaluateConfig, EvaluateLaunchConfig, LaunchConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingShare:
    """What training has to know of how the GPU is shared."""

    rule: Literal["pause", "memory_cap"]
    memory_share: float
    """Of training, with ``memory_cap``."""


def training_share(launch: LaunchConfig) -> TrainingShare | None:
    """What a recipe says to training; None where nothing is shared."""
    evaluate = launch.evaluate
    if evaluate.gpu_sharing is None or _sharing_obstacle(launch) is not None:
        return None
    return TrainingShare(evaluate.gpu_sharing, 1 - evaluate.gpu_memory_share)


def evaluation_launch(launch: LaunchConfig) -> EvaluateLaunchConfig:
    """What a recipe says to evaluation; where nothing is shared, without a rule for it."""
    if _sharing_obstacle(launch) is None:
        return launch.evaluate
    return launch.evaluate.model_copy(update={"gpu_sharing": None})


def _sharing_obstacle(launch: LaunchConfig) -> str | None:
    """Why training and evaluation share no GPU, whatever the recipe says; None if they may."""
    if launch.cluster != "local":
        return (
            f"with launch.cluster={launch.cluster} they never run on one GPU at a time; it is for "
            "launch.cluster=local"
        )
    if launch.evaluate.ray_address is not None:
        address = launch.evaluate.ray_address
        return (
            f"evaluation runs on the cluster of launch.evaluate.ray_address={address}; remove one "
            "of the two"
        )
    return None


def useless_rule(launch: LaunchConfig, evaluate: EvaluateConfig) -> str | None:
    """Why the recipe's rule for sharing does nothing; None if it does, or there is none."""
    rule = launch.evaluate.gpu_sharing
    obstacle = _sharing_obstacle(launch)
    if obstacle is None and not _wants_gpu(launch, evaluate):
        obstacle = "no task of evaluation takes a GPU; set launch.evaluate.gpus_per_task"
    if rule is None or obstacle is None:
        return None
    return f"launch.evaluate.gpu_sharing={rule} does nothing: {obstacle}"


def missing_rule(launch: LaunchConfig, evaluate: EvaluateConfig) -> str | None:
    """What happens where a recipe says nothing of sharing; None if it does, or need not."""
    is_shared = _sharing_obstacle(launch) is None and _wants_gpu(launch, evaluate)
    if launch.evaluate.gpu_sharing is not None or not is_shared:
        return None
    return (
        "training and evaluation both take the GPU of this machine, with no rule for it: each "
        "slows the other, and what comes second may find no memory. launch.evaluate.gpu_sharing="
        "pause lets training wait meanwhile, memory_cap gives each a share"
    )


def _wants_gpu(launch: LaunchConfig, evaluate: EvaluateConfig) -> bool:
    per_task = launch.evaluate.gpus_per_task
    gpus = [per_task if cell.gpus is None else cell.gpus for cell in evaluate.cells]
    return any(gpus) or (evaluate.supervised is not None and per_task > 0)


def _memory_fraction(launch: EvaluateLaunchConfig, gpus: float) -> float | None:
    """The share of a GPU's memory that a task may take; None: all there is.

    Args:
        launch: of the recipe.
        gpus: that the task holds. Tasks with a part of one share out what evaluation has of it.
    """
    if launch.gpu_sharing != "memory_cap" or not gpus:
        return None
    return launch.gpu_memory_share * min(gpus, 1.0)


def capped(task: Task, launch: EvaluateLaunchConfig) -> Task:
    """The task, its processes kept to their share of the GPU's memory where the recipe says so."""
    share = _memory_fraction(launch, task.limits.gpus)
    return replace(task, limits=replace(task.limits, gpu_memory_share=share))


def cap_memory(fraction: float) -> None:
    """Keeps this process to ``fraction`` of the memory of its GPU; nothing where it has none."""
    import torch  # seconds, which a launcher has no use for

    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(fraction)


class _FileLock:
    """A lock on a file, held by this process until it lets go or dies."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def try_hold(self, kind: int) -> bool:
        """Whether it is held now, as ``LOCK_SH`` or ``LOCK_EX``; never waits."""
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def let_go(self) -> None:
        """Holds it no longer."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """The same, for good."""
        os.close(self._file)


class _Turns:
    """The two locks of a run on one machine."""

    def __init__(self, scratch_dir: str, run_name: str) -> None:
        folder = Path(scratch_dir, "gpu", run_name)
        self._wanted = _FileLock(folder / "wanted.lock")
        self._stepping = _FileLock(folder / "stepping.lock")

    def close(self) -> None:
        """Lets go of both."""
        self._wanted.close()
        self._stepping.close()

    def __enter__(self) -> Self:
        """Nothing is held yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """See ``close``."""
        self.close()


class TrainingTurns(_Turns):
    """Training's side; of its processes rank 0 alone has one, and tells the others."""

    def take(self) -> bool:
        """Takes the turn or keeps it, unless an evaluation wants it; returns whether it has it."""
        if not self._wanted.try_hold(fcntl.LOCK_EX):
            return False
        self._wanted.let_go()
        return self._stepping.try_hold(fcntl.LOCK_EX)

    def give(self) -> None:
        """Gives the turn away."""
        self._stepping.let_go()


class EvaluationTurns(_Turns):
    """Evaluation's side; any number of evaluations may have the turn together."""

    def __init__(self, scratch_dir: str, run_name: str) -> None:
        super().__init__(scratch_dir, run_name)
        self.is_wanting = False
        """Whether there is anything to do on the GPU."""

    def ask(self, *, is_wanting: bool) -> None:
        """Says whether there is; where there is nothing any more, training may go on."""
        if self.is_wanting and not is_wanting:
            self._stepping.let_go()
            self._wanted.let_go()
        self.is_wanting = is_wanting

    def is_ours(self) -> bool:
        """Whether training waits, or none is there."""
        # Never waits itself, so it may fail while training has a look; it is asked again.
        return (
            self.is_wanting
            and self._wanted.try_hold(fcntl.LOCK_SH)
            and self._stepping.try_hold(fcntl.LOCK_SH)
        )


def evaluation_turns(
    launch: EvaluateLaunchConfig, scratch_dir: str, run_name: str, *, is_following: bool
) -> EvaluationTurns | None:
    """The turns of an evaluation that goes along with a training; None where none are taken."""
    if launch.gpu_sharing != "pause" or not is_following:
        return None
    return EvaluationTurns(scratch_dir, run_name)
