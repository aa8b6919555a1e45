"""Tasks on a Ray cluster: each on a node that has room, tried again, and ended when it is late."""

import logging
import time
from collections.abc import Collection, Mapping
from types import ModuleType

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.jobs.backlog import Outcome, Task, TaskLimits
from sigma_pipeline.jobs.ray_calls import load_tasks
from sigma_pipeline.jobs.ray_cluster import RayCluster, left_of_nodes, node_shapes, one_line
from sigma_pipeline.jobs.ray_handover import Submitted, end_all, hand_over, may_pass, was_stopped
from sigma_pipeline.jobs.ray_room import Amounts, Room
from sigma_pipeline.jobs.ray_shortage import NodeShape, shortage

log = logging.getLogger(__name__)

_LOOK_INTERVAL_S = 2.0
_SETTLE_S = 1.0
"""Until Ray tells of what tasks use that have just begun or ended."""
_READY_WORKERS = 2
"""On each node, before there is a task: features of a commit and its first cell."""
_READY_SHARE = 0.0001
"""Of a GPU, the least that Ray knows; its workers for GPUs are others than those for none."""
_NODE_GRACE_S = 300.0
"""How long a task waits for a node when all that could hold it are lost."""
_END_GRACE_S = 1.0
"""For the processes of stopped tasks to be gone: until then they hold memory of the GPU."""


class RayWorkers:
    """Worker processes of a Ray cluster, which is started when first needed.

    A task is handed to Ray for a node that can begin it at once. So its deadline, which spans its
    retries, is not used up by waiting; it begins anew when the task's node is lost and another one
    can hold it.

    Of a gang, all processes begin at once, on one node or several. When one of them is lost, all
    end; as soon as there is room for all, and before any other task, all begin again. A gang that
    was asked to stop does so after a while, should this job last so long; else it is left to the
    next one.
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
        self._room: Room[str] = Room()
        self._running: dict[str, Submitted] = {}
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
            load = ray.remote(load_tasks).options(num_cpus=1, num_gpus=share, max_retries=0)
            for _ in range(min(_READY_WORKERS, int(node.cpus))):
                load.remote()

    def has_room(self, task: Task) -> bool:
        """See ``Workers``."""
        self._connected()
        return bool(self._room.nodes_for(task.limits)) and not any(
            one.is_next and not self._shortage(one.task) for one in self._running.values()
        )

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
        lost = "the only node that could hold it" if task.limits.processes is None else "a node"
        return f"{lost} was lost, and no other one came within {minutes:.0f} min: {lack}"

    def submit(self, task: Task) -> None:
        """See ``Workers``; only after ``has_room``."""
        self._connected()
        submitted = self._running[task.name] = Submitted(task, self._retries)
        self._begin(submitted)

    def finished(self, timeout_s: float) -> list[Outcome]:
        """See ``Workers``."""
        handed = {
            one.handed.reference: one
            for one in self._running.values()
            if one.handed is not None and not one.is_waiting
        }
        if handed:
            assert self._ray is not None
            done, _ = self._ray.wait(list(handed), num_returns=1, timeout=timeout_s)
        else:
            time.sleep(timeout_s)
            done = []
        outcomes = [self._settle(handed[reference]) for reference in done]
        if self._ray is not None and time.monotonic() - self._looked_at_s > _LOOK_INTERVAL_S:
            self._look()
        self._begin_waiting()
        return [*filter(None, outcomes), *self._ended()]

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

    def _begin(self, submitted: Submitted) -> None:
        task = submitted.task
        node_ids = self._room.nodes_for(task.limits)
        assert self._ray is not None
        assert node_ids, f"no room for {task.title}"
        submitted.handed = hand_over(self._ray, task, node_ids, self._retries)
        submitted.is_waiting = False
        if submitted.deadline_at_s == float("inf"):
            submitted.renew_deadline()
        self._room.take(task.name, task.limits, node_ids)
        self._changed_at_s = time.monotonic()

    def _begin_waiting(self) -> None:
        for submitted in self._running.values():
            handed, task = submitted.handed, submitted.task
            # A node that is lost holds what it held until Ray knows of it.
            if submitted.is_waiting and handed is not None and handed.holds_nothing():
                self._room.release(task.name)
                if submitted.is_next and self._room.nodes_for(task.limits):
                    self._begin(submitted)

    def _settle(self, submitted: Submitted) -> Outcome | None:
        """How a task ended; None if it is to begin again."""
        ray, task, handed = self._ray, submitted.task, submitted.handed
        assert ray is not None
        assert handed is not None
        try:
            ray.get(handed.reference)
        except ray.exceptions.RayError as error:
            cause = one_line(getattr(error, "cause", None) or error)
            if task.limits.processes is not None:
                self._look()
                if is_broken := task.name in self._room.broken:
                    cause = "a node was lost that a process of its gang was on"
                is_stopped = was_stopped(error) and not is_broken
                is_passing = is_broken or may_pass(ray, error)
                if is_stopped or (submitted.retries_left and is_passing):
                    log.warning("All of %s begins again: %s", task.title, cause)
                    handed.free()
                    submitted.wait(was_stopped=is_stopped)
                    return None
            return Outcome(self._release(task), cause, traceback=str(error))
        return Outcome(self._release(task))

    def _ended(self) -> list[Outcome]:
        """Tasks that were to go on no longer, once their processes are gone."""
        errors = {
            name: error
            for name, submitted in self._running.items()
            if (error := self._reason_to_end(submitted))
        }
        ended = [self._running[name] for name in errors]
        if handed := [one.handed for one in ended if one.handed is not None]:
            end_all(handed, _END_GRACE_S)
        return [Outcome(self._release(one.task), errors[one.task.name]) for one in ended]

    def _reason_to_end(self, submitted: Submitted) -> str | None:
        task = submitted.task
        if self._shortage(task):  # so its node is lost, and it does not run
            return self.refusal(task)
        if time.monotonic() <= submitted.deadline_at_s:
            return None
        return (
            f"stopped after {task.limits.deadline_s / 60:g} min, which is deadline_min of its cell "
            "or evaluate.deadline_min"
        )

    def _release(self, task: Task) -> Task:
        handed = self._running.pop(task.name).handed
        if handed is not None:
            handed.free()
        self._room.release(task.name)
        self._changed_at_s = time.monotonic()
        return task

    def _look(self) -> None:
        """Brings the books up to date with the nodes that are there."""
        assert self._ray is not None
        self._looked_at_s = time.monotonic()
        nodes = node_shapes(self._ray)
        lost = {node.node_id for node in self._room.nodes} - {node.node_id for node in nodes}
        for node_id in lost:
            log.warning("Node %s is lost: its tasks begin anew", self._seen[node_id].name)
        self._seen |= {node.node_id: node for node in nodes}
        for name in self._room.set_nodes(nodes, self._used_by_others(nodes)):
            self._running[name].renew_deadline()
        for name in self._room.broken:
            submitted = self._running[name]
            submitted.deadline_at_s = float("inf")  # until it begins again
            if submitted.handed is not None and not submitted.is_waiting:
                submitted.handed.cancel()  # and what that leads to is settled as any end is
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
