"""How a task is handed to Ray: as one process on a node, or as a gang with one that leads it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from sigma_pipeline.infra.errors import BadNodes, Interrupted, StoreUnreachable
from sigma_pipeline.jobs.backlog import Task
from sigma_pipeline.jobs.ray_calls import run
from sigma_pipeline.jobs.ray_cluster import left_resources
from sigma_pipeline.jobs.ray_gang import GangBroken, call_with_gang

_PASSING_ERRORS = [OSError, StoreUnreachable]
"""What may go well another time; all else would fail again, after as many hours."""
_PASSING_OF_GANGS = (OSError, StoreUnreachable, GangBroken, BadNodes)
_STOPPED_PAUSE_S = 600.0
"""Before a gang begins again that was asked to stop: most often the job is about to end."""
_POLL_S = 0.02


@dataclass(frozen=True)
class Handed:
    """A task that Ray has, and by what Ray knows it."""

    ray: ModuleType
    reference: Any
    """Of what its process will return."""
    group: Any = None
    """Placement group of its gang; None: it has no gang."""

    def cancel(self) -> None:
        """Ends its processes, soon."""
        # Without force a task inside a library call would not notice.
        self.ray.cancel(self.reference, force=True)
        self.free()

    def free(self) -> None:
        """Gives back what its gang held, whose processes end if any is left."""
        if self.group is not None:
            self.ray.util.remove_placement_group(self.group)

    def holds_nothing(self) -> bool:
        """Whether the processes of its gang are gone, as far as nodes have told."""
        return self.group is None or not any(
            self.group.id.hex() in name
            for resources in left_resources(self.ray).values()
            for name in resources
        )


@dataclass
class Submitted:
    """A task from when workers take it until it has ended, however often it begins."""

    task: Task
    retries_left: int
    """Of a gang; those of other tasks Ray counts."""
    deadline_at_s: float = float("inf")
    handed: Handed | None = None
    is_waiting: bool = False
    """It has a gang and is to begin again: once all is gone that it was, and there is room."""
    paused_until_s: float = float("-inf")

    @property
    def is_next(self) -> bool:
        """Whether it is to begin again now, before any other task."""
        return self.is_waiting and time.monotonic() >= self.paused_until_s

    def wait(self, *, was_stopped: bool) -> None:
        """Is to begin again; what was asked to stop has not failed, and uses up no try."""
        self.is_waiting = True
        if was_stopped:
            self.paused_until_s = time.monotonic() + _STOPPED_PAUSE_S
            self.deadline_at_s = float("inf")  # until it begins again
        else:
            self.retries_left -= 1

    def renew_deadline(self) -> None:
        """Gives it all of its time from now on."""
        self.deadline_at_s = time.monotonic() + self.task.limits.deadline_s


def hand_over(ray: ModuleType, task: Task, node_ids: Sequence[str], retries: int) -> Handed:
    """Has Ray run a task on nodes that have room for it.

    Args:
        ray: connected.
        task: to be run.
        node_ids: Ray's, of each process.
        retries: how often Ray itself begins it again; a gang never is, for it needs room anew.
    """
    if task.limits.processes is not None:
        return _hand_over_gang(ray, task, node_ids)
    limits = task.limits
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    # A process keeps the GPU that it has first used, and memory there: each has one such task.
    on_worker = ray.remote(max_calls=1)(run) if limits.gpus else ray.remote(run)
    remote = on_worker.options(
        name=task.title,
        num_cpus=limits.cpus,
        num_gpus=limits.gpus,
        memory=limits.memory_bytes or None,
        max_retries=retries,
        retry_exceptions=_PASSING_ERRORS,
        scheduling_strategy=affinity(node_ids[0], soft=True),  # another one when it is lost
    )
    return Handed(ray, remote.remote(task.function, task.arguments, limits))


def _hand_over_gang(ray: ModuleType, task: Task, node_ids: Sequence[str]) -> Handed:
    """All or nothing: no process begins before there is room for each."""
    limits = task.limits
    resources = {"CPU": limits.cpus, "GPU": limits.gpus, "memory": limits.memory_bytes}
    bundle = {name: amount for name, amount in resources.items() if amount}
    group = ray.util.placement_group(
        [bundle] * len(node_ids),
        # Where our books have room for them: Ray's own choice might be another.
        bundle_label_selector=[{"ray.io/node-id": node_id} for node_id in node_ids],
    )
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    remote = ray.remote(call_with_gang).options(
        name=task.title,
        num_cpus=0,
        max_retries=0,
        scheduling_strategy=affinity(ray.get_runtime_context().get_node_id(), soft=False),
    )
    return Handed(ray, remote.remote(task.function, task.arguments, limits, group), group)


def end_all(handed: Sequence[Handed], grace_s: float) -> None:
    """Ends some tasks; returns when their processes are gone, or after ``grace_s``."""
    deadline_s = time.monotonic() + grace_s
    for one in handed:
        one.cancel()
    references = [one.reference for one in handed]
    handed[0].ray.wait(references, num_returns=len(references), timeout=grace_s)
    while not all(one.holds_nothing() for one in handed) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)


def may_pass(ray: ModuleType, error: Exception) -> bool:
    """Whether a gang's task that ended with an error of Ray's is worth another try."""
    if not isinstance(error, ray.exceptions.RayTaskError):
        return True  # its process died, or its node
    return isinstance(getattr(error, "cause", None), _PASSING_OF_GANGS)


def was_stopped(error: Exception) -> bool:
    """Whether a gang's task ended because it was asked to: near SLURM's time limit, for one."""
    return isinstance(getattr(error, "cause", None), Interrupted)
