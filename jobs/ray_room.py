"""What each node of a Ray cluster has free, and which task fits where.

Ray puts a task that finds no room into a queue of its own, where its deadline would run, and lets
one that no node could ever hold wait there for good. So these books are kept here, and a task is
handed to Ray for a node that can begin it at once.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sigma_pipeline.jobs.backlog import GIB, TaskLimits

Key = TypeVar("Key")

_UNITS = 10_000  # Ray counts processors and GPUs in ten-thousandths, so that shares add up


@dataclass(frozen=True, kw_only=True)
class NodeShape:
    """What a node has in all."""

    node_id: str = ""
    """Ray's."""
    name: str = ""
    cpus: float
    gpus: float = 0.0
    memory_gib: float

    def could_hold(self, limits: TaskLimits) -> bool:
        """Whether a task would fit if nothing else ran."""
        return (
            limits.cpus <= self.cpus
            and limits.gpus <= self.gpus
            and limits.memory_bytes <= self.memory_gib * GIB
        )


def shortage(title: str, limits: TaskLimits, nodes: Collection[NodeShape]) -> str | None:
    """Why a task can run on none of the nodes, in words; None if it can.

    Args:
        title: of the task, for people.
        limits: what it takes.
        nodes: as they are when nothing runs.
    """
    if limits.gpus > 1 and limits.gpus % 1:
        return (
            f"{title} asks for {limits.gpus:g} GPUs: a share of one or whole ones can be had; "
            "change gpus of its cell or launch.evaluate.gpus_per_task"
        )
    if any(node.could_hold(limits) for node in nodes):
        return None
    wanted = (
        ("CPUs", limits.cpus, [node.cpus for node in nodes], _CPU_KEYS),
        ("GPUs", limits.gpus, [node.gpus for node in nodes], _GPU_KEYS),
        (
            *("GiB of memory", limits.memory_bytes / GIB),
            *([node.memory_gib for node in nodes], _MEMORY_KEYS),
        ),
    )
    for what, amount, there, keys in wanted:
        if amount and amount > (most := max(there, default=0.0)):
            return (
                f"{title} asks for {amount:g} {what}, but no node has more than {most:g}: it could "
                f"never start; {keys}"
            )
    return f"no node has all that {title} asks for: {limits}; change cpus, gpus or memory_gib of it"


_CPU_KEYS = "lower cpus of its cell or launch.evaluate.cpus_per_task, or raise launch.evaluate.cpus"
_GPU_KEYS = "lower gpus of its cell or launch.evaluate.gpus_per_task"
_MEMORY_KEYS = "lower memory_gib of its cell, or raise launch.evaluate.memory_gib"


@dataclass(frozen=True)
class Amounts:
    """Of a node: what somebody uses, or leaves."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory_gib: float = 0.0


@dataclass(frozen=True)
class _Holding:
    """What one task holds, and where."""

    limits: TaskLimits
    node_id: str
    devices: tuple[int, ...]
    """Its GPUs on that node; a share is of the only one."""


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


class Room(Generic[Key]):
    """The nodes that are alive, and what tasks hold of them."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeShape] = {}
        self._others: Mapping[str, Amounts] = {}
        self._held: dict[Key, _Holding] = {}
        self._places: dict[TaskLimits, str | None] = {}  # until anything changes

    @property
    def nodes(self) -> list[NodeShape]:
        """Those that are alive."""
        return list(self._nodes.values())

    @property
    def others(self) -> Mapping[str, Amounts]:
        """What others use of each node, as was told last."""
        return self._others

    def set_nodes(self, nodes: Sequence[NodeShape], others: Mapping[str, Amounts]) -> list[Key]:
        """Takes note of which nodes are alive, and of what others use of each.

        Returns:
            Tasks whose node is gone and which Ray begins anew on some other one; they count as on
            the one with the most room, so that nothing more is put there meanwhile. Those that no
            node can hold wait for one that can, and are told when it is there.
        """
        self._nodes = {node.node_id: node for node in nodes}
        self._others = others
        self._places.clear()
        stray = {key: one for key, one in self._held.items() if one.node_id not in self._nodes}
        moved = []
        for key, held in stray.items():
            limits = held.limits
            if able := [node for node in nodes if node.could_hold(limits)]:
                free = {node.node_id: self._free(node) for node in able}
                node_id = max(free, key=lambda each: free[each].cpus)
                devices = free[node_id].devices_for(limits.gpus) or ()
                self._held[key] = _Holding(limits, node_id, devices)
                moved.append(key)
        return moved

    def node_for(self, limits: TaskLimits) -> str | None:
        """The node that could begin such a task now: without GPUs if it needs none, and idle."""
        if limits not in self._places:
            self._places[limits] = self._place(limits)
        return self._places[limits]

    def _place(self, limits: TaskLimits) -> str | None:
        free = {node_id: self._free(node) for node_id, node in self._nodes.items()}
        return min(
            (node_id for node_id in free if free[node_id].fits(limits)),
            key=lambda each: (bool(free[each].devices) > bool(limits.gpus), -free[each].cpus),
            default=None,
        )

    def take(self, key: Key, limits: TaskLimits, node_id: str) -> None:
        """Writes down that a task runs on a node that has room for it."""
        devices = self._free(self._nodes[node_id]).devices_for(limits.gpus)
        assert devices is not None
        self._held[key] = _Holding(limits, node_id, devices)
        self._places.clear()

    def release(self, key: Key) -> None:
        """Writes down that a task has ended."""
        self._held.pop(key, None)
        self._places.clear()

    def used_by_others(self, node: NodeShape, left: Amounts) -> Amounts:
        """What is missing of a node beside what our own tasks hold, when so much is left of it."""
        limits = [held.limits for held in self._held.values() if held.node_id == node.node_id]
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
            if held.node_id == node.node_id:
                free.take(held.limits, held.devices)
        return free


def _units(amount: float) -> int:
    return round(amount * _UNITS)
