"""What each node of a Ray cluster has free, and which task fits where.

Ray puts a task that finds no room into a queue of its own, where its deadline would run, and lets
one that no node could ever hold wait there for good. So these books are kept here, and a task is
handed to Ray for a node that can begin it at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sigma_pipeline.jobs.backlog import GIB, TaskLimits
from sigma_pipeline.jobs.ray_shortage import NodeShape

Key = TypeVar("Key")

_UNITS = 10_000  # Ray counts processors and GPUs in ten-thousandths, so that shares add up


@dataclass(frozen=True)
class Amounts:
    """Of a node: what somebody uses, or leaves."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory_gib: float = 0.0


@dataclass(frozen=True)
class _Part:
    """What one process holds, and where."""

    node_id: str
    devices: tuple[int, ...]
    """Its GPUs on that node; a share is of the only one."""


@dataclass(frozen=True)
class _Holding:
    """What one task holds."""

    limits: TaskLimits
    parts: tuple[_Part, ...]
    """Of each process of its gang; one, if it has none."""

    def on(self, node_id: str) -> list[_Part]:
        """Those on one node."""
        return [part for part in self.parts if part.node_id == node_id]


@dataclass
class _Free:
    """What is left of a node, in units; less than none where a lost node's task had to go."""

    cpus: int
    devices: list[int]
    memory_bytes: int

    def take(self, limits: TaskLimits, devices: Iterable[int]) -> None:
        share = min(_units(limits.gpus), _UNITS)
        self.cpus -= _units(limits.cpus)
        self.memory_bytes -= limits.memory_bytes
        for device in devices:
            self.devices[device] -= share

    def devices_for(self, gpus: float) -> tuple[int, ...] | None:
        """The GPUs that a task would get, as Ray chooses: of those that fit, the fullest."""
        share = min(_units(gpus), _UNITS)
        if not share:
            return ()
        fitting = [number for number, free in enumerate(self.devices) if free >= share]
        fitting.sort(key=lambda number: self.devices[number])
        count = max(1, int(gpus))
        return tuple(fitting[:count]) if len(fitting) >= count else None

    def fits(self, limits: TaskLimits) -> bool:
        return (
            self.cpus >= _units(limits.cpus)
            and self.memory_bytes >= limits.memory_bytes
            and self.devices_for(limits.gpus) is not None
        )

    def take_some(self, limits: TaskLimits, most: int) -> int:
        """Takes as many processes as fit, ``most`` of them at most; returns their number."""
        for number in range(most):
            if not self.fits(limits):
                return number
            self.take(limits, self.devices_for(limits.gpus) or ())
        return most


class Room(Generic[Key]):
    """The nodes that are alive, and what tasks hold of them."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeShape] = {}
        self._others: Mapping[str, Amounts] = {}
        self._held: dict[Key, _Holding] = {}
        self._places: dict[TaskLimits, tuple[str, ...]] = {}  # until anything changes

    @property
    def nodes(self) -> list[NodeShape]:
        """Those that are alive."""
        return list(self._nodes.values())

    @property
    def others(self) -> Mapping[str, Amounts]:
        """What others use of each node, as was told last."""
        return self._others

    @property
    def broken(self) -> list[Key]:
        """Tasks with a gang of which a node is gone."""
        return [
            key for key, held in self._held.items() if held.limits.processes and self._lacks(held)
        ]

    def set_nodes(self, nodes: Sequence[NodeShape], others: Mapping[str, Amounts]) -> list[Key]:
        """Takes note of which nodes are alive, and of what others use of each.

        Returns:
            Tasks whose node is gone and which Ray begins anew on some other one; they count as on
            the one with the most room, so that nothing more is put there meanwhile. Those that no
            node can hold wait for one that can, and are told when it is there. Gangs are none of
            them: they are ``broken`` until they are released.
        """
        self._nodes = {node.node_id: node for node in nodes}
        self._others = others
        self._places.clear()
        moved = []
        for key, held in self._held.items():
            limits = held.limits
            able = [node for node in nodes if node.could_hold(limits)]
            if limits.processes is None and self._lacks(held) and able:
                free = {node.node_id: self._free(node) for node in able}
                node_id = max(free, key=lambda each: free[each].cpus)
                devices = free[node_id].devices_for(limits.gpus) or ()
                self._held[key] = _Holding(limits, (_Part(node_id, devices),))
                moved.append(key)
        return moved

    def _lacks(self, held: _Holding) -> bool:
        return any(part.node_id not in self._nodes for part in held.parts)

    def nodes_for(self, limits: TaskLimits) -> tuple[str, ...]:
        """The node of each process of a task that could begin now; none if it could not.

        Nodes without GPUs if it needs none, as few as hold its gang, and idle ones.
        """
        if limits not in self._places:
            self._places[limits] = self._place(limits)
        return self._places[limits]

    def _place(self, limits: TaskLimits) -> tuple[str, ...]:
        wanted = limits.num_processes
        free = {node_id: self._free(node) for node_id, node in self._nodes.items()}
        cpus = {node_id: one.cpus for node_id, one in free.items()}
        counts = {node_id: one.take_some(limits, wanted) for node_id, one in free.items()}
        best_first = sorted(
            free,
            key=lambda each: (
                bool(free[each].devices) > bool(limits.gpus),
                -counts[each],
                -cpus[each],
            ),
        )
        node_ids = tuple(each for each in best_first for _ in range(counts[each]))
        return node_ids[:wanted] if len(node_ids) >= wanted else ()

    def take(self, key: Key, limits: TaskLimits, node_ids: Sequence[str]) -> None:
        """Writes down that a task runs on nodes that have room for it."""
        free = {node_id: self._free(self._nodes[node_id]) for node_id in node_ids}
        parts = []
        for node_id in node_ids:
            devices = free[node_id].devices_for(limits.gpus)
            assert devices is not None
            free[node_id].take(limits, devices)
            parts.append(_Part(node_id, devices))
        self._held[key] = _Holding(limits, tuple(parts))
        self._places.clear()

    def release(self, key: Key) -> None:
        """Writes down that a task has ended."""
        self._held.pop(key, None)
        self._places.clear()

    def used_by_others(self, node: NodeShape, left: Amounts) -> Amounts:
        """What is missing of a node beside what our own tasks hold, when so much is left of it."""
        limits = [held.limits for held in self._held.values() for _ in held.on(node.node_id)]
        return Amounts(
            max(0.0, node.cpus - left.cpus - sum(one.cpus for one in limits)),
            max(0.0, node.gpus - left.gpus - sum(one.gpus for one in limits)),
            max(
                0.0,
                node.memory_gib - left.memory_gib - sum(one.memory_bytes for one in limits) / GIB,
            ),
        )

    def _free(self, node: NodeShape) -> _Free:
        others = self._others.get(node.node_id, Amounts())
        free = _Free(
            cpus=_units(node.cpus) - _units(others.cpus),
            devices=[_UNITS] * int(node.gpus),
            memory_bytes=int((node.memory_gib - others.memory_gib) * GIB),
        )
        taken = _units(others.gpus)  # of which devices is not known
        for number in range(len(free.devices)):
            share = min(taken, _UNITS)
            free.devices[number] -= share
            taken -= share
        for held in self._held.values():
            for part in held.on(node.node_id):
                free.take(held.limits, part.devices)
        return free


def _units(amount: float) -> int:
    return round(amount * _UNITS)
