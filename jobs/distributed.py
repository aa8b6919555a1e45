"""The processes of one job: who they are, their groups, and the few exchanges between them.

Two groups are used. The default one carries tensors (NCCL on GPUs, gloo on CPUs). The control group
is always gloo on the CPU: what it carries never waits for the device.
"""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.jobs.allocator import keep_freed_memory
from sigma_pipeline.jobs.rendezvous import meet
from sigma_pipeline.jobs.train_request import RankPlace

log = logging.getLogger(__name__)

T = TypeVar("T")

COLLECTIVE_TIMEOUT = timedelta(minutes=10)
"""For one collective on tensors."""
CONTROL_TIMEOUT = timedelta(minutes=60)
"""For the slowest process to bring its part of a commit to the store."""


@dataclass(frozen=True)
class RankContext:
    """One process among the others, and its device."""

    rank: int
    world_size: int
    local_rank: int
    device: torch.device
    control_group: dist.ProcessGroup

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all: journal, commits, progress."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The values of all ranks in their order, on rank 0; nothing on the others."""
        values: list[Any] = [None] * self.world_size if self.is_first else []
        dist.gather_object(value, values or None, dst=0, group=self.control_group)
        return values

    def all_gather(self, value: T) -> list[T]:
        """The values of all ranks in their order, on every rank; for small ones."""
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control_group)
        return values

    def from_first(self, make: Callable[[], T]) -> T:
        """What ``make`` returns, or raises as a PipelineError, on rank 0: on every rank."""
        outcome: list[Any] = [None]
        if self.is_first:
            try:
                outcome = [make()]
            except PipelineError as error:
                outcome = [error]
        dist.broadcast_object_list(outcome, src=0, group=self.control_group)
        if isinstance(outcome[0], PipelineError):
            raise outcome[0]
        value: T = outcome[0]
        return value

    def reduce(self, values: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        """A small CPU tensor reduced over all ranks, in float64 as given."""
        reduced = values.clone()
        dist.all_reduce(reduced, op=operation, group=self.control_group)
        return reduced

    def sum_on_device(self, vector: Tensor) -> Tensor:
        """A device tensor added over all ranks, in its own precision."""
        if self.world_size > 1:
            dist.all_reduce(vector)
        return vector


@contextmanager
def init_ranks(
    place: RankPlace, num_threads: int, is_stopping: Callable[[], bool] = lambda: False
) -> Iterator[RankContext]:
    """Joins the processes of the job and takes them apart at the end.

    A process group that is already there is used and left alone: DeepSpeed 0.19 keeps references
    to the first one of a process and cannot work with a second.

    Args:
        place: this process among the others.
        num_threads: CPU threads of this process. Sums depend on it in the last bit.
        is_stopping: asked while waiting for the others, who may never come.

    Raises:
        Interrupted: this or another process was to stop before all had come.
        StageError: some did not come.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    device = _device(place.local_rank)
    if device.type == "cpu":
        keep_freed_memory()
    is_ours = not dist.is_initialized()
    if is_ours:
        _join(place, device, is_stopping)
    try:
        _prepare_deepspeed(place, device)
        control = dist.new_group(backend="gloo", timeout=CONTROL_TIMEOUT)
        yield RankContext(place.rank, place.world_size, place.local_rank, device, control)
    finally:
        torch.set_num_threads(threads_before)
        if is_ours:
            dist.destroy_process_group()


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _join(place: RankPlace, device: torch.device, is_stopping: Callable[[], bool]) -> None:
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=meet(place, is_stopping),
        rank=place.rank,
        world_size=place.world_size,
        timeout=COLLECTIVE_TIMEOUT,
        device_id=device if device.type == "cuda" else None,
    )


def _prepare_deepspeed(place: RankPlace, device: torch.device) -> None:
    """Hands the process group to DeepSpeed; without these variables it would look for MPI."""
    os.environ["RANK"] = str(place.rank)
    os.environ["WORLD_SIZE"] = str(place.world_size)
    os.environ["LOCAL_RANK"] = str(place.local_rank)
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # read at the first import
    # Its autotuner, which is not used, imports mlflow where that is installed: more than a second
    # and 115 MB per rank. Left alone where another thread might be importing it for itself.
    unused = () if threading.active_count() > 1 else ("mlflow",)
    with modules_hidden(*unused):
        # Imported here: it takes seconds, and reads the variables above.
        import deepspeed
        import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed 0.19 calls what torch 2.13 has renamed; nothing that a user could act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    if device.type == "cpu":
        # Else the first start compiles an operator for inference: 80 s, and a compiler is needed.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(verbose=False)


@contextmanager
def modules_hidden(*names: str) -> Iterator[None]:
    """Lets the import of modules fail inside, unless they are there already.

    For what a library imports only to see whether it could.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # documented: makes imports fail
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
