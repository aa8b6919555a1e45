"""Tasks on a Ray cluster: each on a node that has room, tried again, and ended when it is late."""

import gc
import importlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from sigma_pipeline.infra.errors import ConfigError, StoreUnreachable
from sigma_pipeline.jobs.backlog import Outcome, Task, TaskLimits
from sigma_pipeline.jobs.ray_cluster import RayCluster, left_of_nodes, node_shapes, one_line
from sigma_pipeline.jobs.ray_room import Amounts, NodeShape, Room, shortage

log = logging.getLogger(__name__)

_LOOK_INTERVAL_S = 2.0
_SETTLE_S = 1.0
"""Until Ray tells of what tasks use that have just begun or ended."""
_READY_WORKERS = 2
"""On each node, before there is a task: features of a commit and its first cell."""
_READY_SHARE = 0.0001
"""Of a GPU, the least that Ray knows; its workers for GPUs are others than those for none."""
_PASSING_ERRORS = [OSError, StoreUnreachable]
"""What may go well another time; all else would fail again, after as many hours."""
_NODE_GRACE_S = 300.0
"""How long a task waits for a node when all that could hold it are lost."""
_END_GRACE_S = 1.0
"""For the processes of stopped tasks to be gone: until then they hold memory of the GPU."""


@dataclass(frozen=True)
class _Submitted:
    task: Task
    deadline_at_s: float

    @classmethod
    def now(cls, task: Task) -> "_Submitted":
        return cls(task, time.monotonic() + task.limits.deadline_s)


class RayWorkers:
    """Worker processes of a Ray cluster, which is started when first needed.

    A task is handed to Ray for a node that can begin it at once. So its deadline, which spans its
    retries, is not used up by waiting; it begins anew when the task's node is lost and another one
    can hold it.
    """

    def __init__(
        self,
        cluster: RayCluster,
        *,
        retries: int,
        planned: Mapping[str, TaskLimits] | None = None,
    ) -> None:
        """Takes what is needed to begin.

        Args:
            cluster: where tasks run.
            retries: how often a task is begun again after its worker or node died, or disk,
                network or store failed it.
            planned: what tasks that may come will take, by what people call them: refused before
                anything runs if no node could hold it.
        """
        self._cluster = cluster
        self._retries = retries
        self._planned = planned or {}
        self._ray: ModuleType | None = None
        self._room: Room[Any] = Room()
        self._running: dict[Any, _Submitted] = {}
        self._seen: dict[str, NodeShape] = {}
        self._looked_at_s = self._changed_at_s = float("-inf")
        self._lacking_since_s: dict[TaskLimits, float] = {}

    def __enter__(self) -> "RayWorkers":
        """Checks what can be checked without starting Ray.

        Raises:
            ConfigError: a task asks for more than any node will have.
        """
        if nodes := self._cluster.expected():
            self._require(nodes)
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends Ray and whatever it still runs; of somebody else's cluster, only the latter."""
        self._ray = None
        self._cluster.stop()

    @property
    def is_idle(self) -> bool:
        """See ``Workers``."""
        return not self._running

    def start(self) -> None:
        """Starts Ray, once, and a few workers that have loaded what tasks need.

        Raises:
            ConfigError: a task asks for more than any node has.
            StageError: Ray did not come up.
        """
        ray = self._connected()
        if self._cluster.is_shared:
            return  # others pay for its processors
        wants_gpu = any(limits.gpus for limits in self._planned.values())
        for node in self._room.nodes:
            share = _READY_SHARE if wants_gpu and node.gpus else 0.0
            load = ray.remote(_load_tasks).options(num_cpus=1, num_gpus=share, max_retries=0)
            for _ in range(min(_READY_WORKERS, int(node.cpus))):
                load.remote()

    def has_room(self, task: Task) -> bool:
        """See ``Workers``."""
        self._connected()
        return self._room.node_for(task.limits) is not None

    def refusal(self, task: Task) -> str | None:
        """See ``Workers``; after a while if a node could hold the task that was there before."""
        if self._ray is None or not (lack := self._shortage(task)):
            return None
        if never := shortage(task.title, task.limits, self._seen.values()):
            return never
        minutes = _NODE_GRACE_S / 60
        if task.limits not in self._lacking_since_s:
            log.warning("No node is left for %s: it waits %.0f min for one", task.title, minutes)
        now_s = time.monotonic()
        if now_s - self._lacking_since_s.setdefault(task.limits, now_s) <= _NODE_GRACE_S:
            return None
        return (
            "the only node that could hold it was lost, and no other one came within "
            f"{minutes:.0f} min: {lack}"
        )

    def submit(self, task: Task) -> None:
        """See ``Workers``; only after ``has_room``."""
        ray = self._connected()
        limits = task.limits
        node_id = self._room.node_for(limits)
        assert node_id is not None, f"no room for {task.title}"
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        # A process keeps the GPU that it has first used, and memory there: each has one such task.
        on_worker = ray.remote(max_calls=1)(_call) if limits.gpus else ray.remote(_call)
        remote = on_worker.options(
            name=task.title,
            num_cpus=limits.cpus,
            num_gpus=limits.gpus,
            memory=limits.memory_bytes or None,
            max_retries=self._retries,
            retry_exceptions=_PASSING_ERRORS,
            scheduling_strategy=affinity(node_id, soft=True),  # another one when it is lost
        )
        reference = remote.remote(task.function, task.arguments, limits)
        self._room.take(reference, limits, node_id)
        self._running[reference] = _Submitted.now(task)
        self._changed_at_s = time.monotonic()

    def finished(self, timeout_s: float) -> list[Outcome]:
        """See ``Workers``."""
        if not self._running:
            time.sleep(timeout_s)
            done = []
        else:
            assert self._ray is not None
            done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        outcomes = [self._outcome(reference) for reference in done]
        if self._ray is not None and time.monotonic() - self._looked_at_s > _LOOK_INTERVAL_S:
            self._look()
        return outcomes + self._ended()

    def _connected(self) -> ModuleType:
        """Ray, started when this is called first."""
        if self._ray is None:
            start_s = time.monotonic()
            self._ray = self._cluster.start()
            self._look()
            self._require(self._room.nodes)
            names = ", ".join(sorted(node.name for node in self._room.nodes))
            log.info("Ray is up after %.1f s on %s", time.monotonic() - start_s, names)
        return self._ray

    def _outcome(self, reference: Any) -> Outcome:
        assert self._ray is not None
        task = self._release(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            return Outcome(task, one_line(cause), traceback=str(error))
        return Outcome(task)

    def _ended(self) -> list[Outcome]:
        """Tasks that were to go on no longer, once their processes are gone."""
        errors = {
            reference: error
            for reference, submitted in self._running.items()
            if (error := self._reason_to_end(submitted))
        }
        if errors:
            assert self._ray is not None
            for reference in errors:
                # Without force a task inside a library call would not notice.
                self._ray.cancel(reference, force=True)
            self._ray.wait(list(errors), num_returns=len(errors), timeout=_END_GRACE_S)
        return [Outcome(self._release(reference), error) for reference, error in errors.items()]

    def _reason_to_end(self, submitted: _Submitted) -> str | None:
        task = submitted.task
        if self._shortage(task):  # so its node is lost, and it does not run
            return self.refusal(task)
        if time.monotonic() <= submitted.deadline_at_s:
            return None
        return (
            f"stopped after {task.limits.deadline_s / 60:g} min, which is deadline_min of its cell "
            "or evaluate.deadline_min"
        )

    def _release(self, reference: Any) -> Task:
        self._room.release(reference)
        self._changed_at_s = time.monotonic()
        return self._running.pop(reference).task

    def _look(self) -> None:
        """Brings the books up to date with the nodes that are there."""
        assert self._ray is not None
        self._looked_at_s = time.monotonic()
        nodes = node_shapes(self._ray)
        lost = {node.node_id for node in self._room.nodes} - {node.node_id for node in nodes}
        for node_id in lost:
            log.warning("Node %s is lost: its tasks begin anew", self._seen[node_id].name)
        self._seen |= {node.node_id: node for node in nodes}
        for reference in self._room.set_nodes(nodes, self._used_by_others(nodes)):
            self._running[reference] = _Submitted.now(self._running[reference].task)
        self._lacking_since_s = {
            limits: since_s
            for limits, since_s in self._lacking_since_s.items()
            if shortage("", limits, nodes)
        }

    def _used_by_others(self, nodes: Collection[NodeShape]) -> Mapping[str, Amounts]:
        if not self._cluster.is_shared:
            return {}
        if self._looked_at_s - self._changed_at_s < _SETTLE_S:
            return self._room.others
        assert self._ray is not None
        left = left_of_nodes(self._ray)
        return {
            node.node_id: self._room.used_by_others(node, left[node.node_id])
            for node in nodes
            if node.node_id in left
        }

    def _shortage(self, task: Task) -> str | None:
        """Why none of the nodes that are there can hold a task; None if one can."""
        return shortage(task.title, task.limits, self._room.nodes)

    def _require(self, nodes: Collection[NodeShape]) -> None:
        lacks = (shortage(title, limits, nodes) for title, limits in self._planned.items())
        if problems := list(filter(None, lacks)):
            raise ConfigError("; ".join(problems))


def _call(function: Callable[..., None], arguments: tuple[Any, ...], limits: TaskLimits) -> None:
    """What Ray runs; it finds the function by its name."""
    if not limits.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray shows all of them to who asks for none

    import torch  # not for who submits

    torch.set_num_threads(max(1, int(limits.cpus)))
    try:
        function(*arguments)
    finally:
        if limits.gpus:
            _empty_gpu()


def _empty_gpu() -> None:
    """Gives the memory back now: Ray tells of the end of a task before its process is gone."""
    import torch

    traceback.clear_frames(sys.exc_info()[2])  # what failed holds its tensors
    gc.collect()
    with suppress(RuntimeError):  # of a broken GPU: the task's own error says more
        torch.cuda.empty_cache()


def _load_tasks() -> None:
    """Loads what tasks are made of, PyTorch for one, into the worker that runs this."""
    from sigma_pipeline.jobs.benchmarks.table import all_benchmarks

    all_benchmarks()
    importlib.import_module("sigma_pipeline.jobs.scoring")
