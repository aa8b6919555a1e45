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
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.jobs.allocator import keep_freed_memory
from sigma_pipeline.jobs.node_names import node_name
from sigma_pipeline.jobs.rendezvous import MEETING_LIMIT_S, meet
from sigma_pipeline.jobs.train_request import ProcessIdentity, RankPlace

log = logging.getLogger(__name__)

T = TypeVar("T")

STALL_TIMEOUT_S = 1800.0
_AFTER_THE_WATCHDOG_S = 120.0
_TRACED_COLLECTIVES = 2000
"""Newest ones that are kept of each rank; torch's own number."""


@dataclass(frozen=True)
class RankContext:
    """One process among the others, and its device."""

    rank: int
    world_size: int
    local_rank: int
    device: torch.device
    control_group: dist.ProcessGroup
    store: Any
    """Through which the ranks met; see ``RankNotes``."""
    hosts: tuple[str, ...]
    """Node of every rank."""
    processes: tuple[ProcessIdentity | None, ...]
    """Process of every rank, on its node."""

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
    place: RankPlace,
    num_threads: int,
    is_stopping: Callable[[], bool] = lambda: False,
    *,
    stall_timeout_s: float = STALL_TIMEOUT_S,
    outage_s: float = 0.0,
    log_dir: Path | None = None,
) -> Iterator[RankContext]:
    """Joins the processes of the job and takes them apart at the end.

    A process group that is already there is used and left alone: DeepSpeed 0.19 keeps references
    to the first one of a process and cannot work with a second. One that an error leaves is left
    to the end of the process: taking it apart may wait for ranks that wait for this one.

    Args:
        place: this process among the others.
        num_threads: CPU threads of this process. Sums depend on it in the last bit.
        is_stopping: asked while waiting for the others, who may never come.
        stall_timeout_s: after which the watchdog ends the job; it names ranks, so one collective
            may take a little longer. For meeting the others, ten minutes at most.
        outage_s: how much longer it may take while some rank waits for the store.
        log_dir: where NCCL leaves what it did last when it ends the process.

    Raises:
        Interrupted: this or another process was to stop before all had come.
        BadNodes: some did not come.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    device = _device(place.local_rank)
    if device.type == "cpu":
        keep_freed_memory()
    is_ours = not dist.is_initialized()
    timeout = timedelta(seconds=stall_timeout_s + outage_s + _AFTER_THE_WATCHDOG_S)
    if is_ours:
        trace_collectives(device, log_dir)
        store = meet(place, is_stopping, min(stall_timeout_s, MEETING_LIMIT_S))
        _join(place, device, store, timeout)
    try:
        _prepare_deepspeed(place, device)
        control = dist.new_group(backend="gloo", timeout=timeout)
        yield _context(place, device, control)
    finally:
        torch.set_num_threads(threads_before)
    if is_ours:
        dist.destroy_process_group()


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def trace_collectives(device: torch.device, log_dir: Path | None) -> None:
    """Has NCCL keep its newest collectives and write them down when it gives up.

    The variables of torch 2.13; those that are set already stay. gloo keeps them without being
    told to.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", str(_TRACED_COLLECTIVES))
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")
    if log_dir is not None:
        log_dir.mkdir(parents=True, exist_ok=True)
        # Torch adds the rank.
        os.environ.setdefault("TORCH_FR_DUMP_TEMP_FILE", str(log_dir / "collectives-rank"))


def collectives_trace() -> bytes:
    """The newest collectives of this process as JSON, those under way among them."""
    recorders: Any = torch._C._distributed_c10d  # no public way in torch 2.13
    dump = getattr(recorders, "_dump_nccl_trace_json", recorders._dump_fr_trace_json)
    trace: bytes | str = dump()
    return trace.encode() if isinstance(trace, str) else trace


def _context(place: RankPlace, device: torch.device, control: dist.ProcessGroup) -> RankContext:
    own = (node_name(), ProcessIdentity.current())
    ranks: list[Any] = [None] * place.world_size
    dist.all_gather_object(ranks, own, group=control)
    hosts, processes = zip(*ranks, strict=True)
    return RankContext(
        rank=place.rank,
        world_size=place.world_size,
        local_rank=place.local_rank,
        device=device,
        control_group=control,
        # Of a group that was there before, only torch knows the store.
        store=dist.distributed_c10d._get_default_store(),
        hosts=hosts,
        processes=processes,
    )


def _join(place: RankPlace, device: torch.device, store: Any, timeout: timedelta) -> None:
    # Without ``device_id``: NCCL would connect here, where a bad node hangs all and has no name.
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=place.rank,
        world_size=place.world_size,
        timeout=timeout,
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
