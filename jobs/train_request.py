"""What a training job is asked to do, and where one of its processes stands among the others.

Both are plain data: they are pickled by the launcher and read on the node. Nothing heavy is
imported here, so that the command line can build a request without loading PyTorch.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.jobs.config import TrainConfig
from sigma_pipeline.jobs.gpu_sharing import TrainingShare
from sigma_pipeline.model.config import ModelConfig

if TYPE_CHECKING:
    from sigma_pipeline.jobs.objective import Learning, Objective


@dataclass(frozen=True)
class ProcessIdentity:
    """One life of one process on this machine: its number may be given again, its start may not."""

    pid: int
    started_ticks: int
    """Clock ticks between the start of the machine and the start of the process."""

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this number now; None without one, or without a /proc to ask."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # Field 2, the name in brackets, may hold anything; 3 is the state, 22 the start.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid=pid, started_ticks=int(fields[19]))

    @classmethod
    def current(cls) -> Self | None:
        """This process."""
        return cls.of(os.getpid())

    def is_alive(self) -> bool:
        """Whether it still runs; one that ended and was not yet waited for does not."""
        return ProcessIdentity.of(self.pid) == self


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """A complete training run; running the same request again resumes it."""

    run_name: str
    root_uri: str
    work_dir: str
    """Folder that all nodes share: job files and logs."""
    scratch_dir: str
    """Folder on a disk of the node: caches, and files on their way to the store."""
    seed: int
    model: ModelConfig
    train: TrainConfig
    datasets: tuple[DatasetRef, ...]
    """What ``train.weights`` names, in that order."""
    config_fingerprint: str
    """Of every setting that touches the science; another one is refused at resuming."""
    teacher_sha256: str | None = None
    """Of the frozen teacher as the launching machine read it; None where there is no teacher."""
    learning: "Learning | None" = None
    """What is learned; None: SIGMA's pre-training."""
    cpus_per_process: int = 1
    stall_timeout_s: float = 1800.0
    """Longest that a rank may stay at one thing before the attempt is ended."""
    preflight: bool = True
    """Whether the nodes are tried before the first step."""
    launcher: ProcessIdentity | None = None
    """The process that waits for this job on the same machine. When it has died nobody would hear
    of the job any more, so the job saves and ends; None: nobody waits."""
    gpu_share: TrainingShare | None = None
    """How it shares this machine's GPU with the evaluation of its commits; None: not at all."""
    max_attempts_without_progress: int = 3
    """Failures in a row, without a newer commit, before the run is given up."""
    failures_since: str = ""
    """Id of attempts; failures before it do not count: a person has started the run anew then."""

    def objective(self) -> "Objective":
        """What is learned, with all that it needs; imports PyTorch."""
        if self.learning is not None:
            return self.learning.objective()
        from sigma_pipeline.jobs.sigma_objective import SigmaObjective

        return SigmaObjective(
            self.model,
            self.seed,
            clip=self.train.clip,
            target_lr_scale=self.train.optimizer.target_lr_scale,
            teacher_sha256=self.teacher_sha256,
        )


@dataclass(frozen=True)
class RankPlace:
    """Where one process stands among those of its job."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Number of the process on its node, and of its GPU."""
    rendezvous: str | None = None
    """Where the processes find each other: ``tcp://host:port`` on rank 0's node, or the path of a
    file on a disk of one machine, never used before. Not needed by one process alone."""
