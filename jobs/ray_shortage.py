"""What no cluster of these nodes could ever run, and what a person can do about it.

Ray lets a task that no node could hold wait for good.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sigma_pipeline.jobs.backlog import GIB, TaskLimits

_ROUNDING = 1e-9


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
        """Whether a task, or a process of its gang, would fit if nothing else ran."""
        return self.num_held(limits) > 0

    def num_held(self, limits: TaskLimits) -> int:
        """How many of its processes would fit if nothing else ran; one, if it has no gang."""
        of_gpus = float("inf")
        if limits.gpus:
            share = min(limits.gpus, 1.0)
            of_gpus = self.gpus * int(1 / share + _ROUNDING) / max(limits.gpus, 1.0)
        of_cpus = self.cpus / limits.cpus if limits.cpus else float("inf")
        memory = self.memory_gib * GIB
        of_memory = memory / limits.memory_bytes if limits.memory_bytes else float("inf")
        return int(min(limits.num_processes, of_cpus + _ROUNDING, of_gpus, of_memory))


def shortage(title: str, limits: TaskLimits, nodes: Collection[NodeShape]) -> str | None:
    """Why a task can run on none of the nodes, or its gang not on all of them; None if it can.

    Args:
        title: of the task, for people.
        limits: what it takes.
        nodes: as they are when nothing runs.
    """
    if problem := _gpu_problem(title, limits):
        return problem
    num_held = sum(node.num_held(limits) for node in nodes)
    if num_held >= limits.num_processes:
        return None
    each = "" if limits.processes is None else " for each of its processes"
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
                f"{title} asks for {amount:g} {what}{each}, but no node has more than {most:g}: it "
                f"could never start; {keys}"
            )
    if num_held:
        return (
            f"{title} asks for {limits}, but {_counted_nodes(nodes)} no more than {num_held} at a "
            "time: it could never start; lower processes, cpus or gpus of its cell, or raise "
            "launch.evaluate.nodes"
        )
    return f"no node has all that {title} asks for: {limits}; change cpus, gpus or memory_gib of it"


def _gpu_problem(title: str, limits: TaskLimits) -> str | None:
    if limits.processes is None:
        if limits.gpus > 1 and limits.gpus % 1:
            return (
                f"{title} asks for {limits.gpus:g} GPUs: a share of one or whole ones can be had; "
                "change gpus of its cell or launch.evaluate.gpus_per_task"
            )
        return None
    if limits.gpus > 1:
        return (
            f"{title} asks for {limits.gpus:g} GPUs for each of its processes, which train on one "
            "each: set processes of its cell to the number of GPUs, and gpus to 1"
        )
    if limits.processes > 1 and limits.gpus % 1:
        return (
            f"{title} asks for {limits.processes} processes with {limits.gpus:g} of a GPU each: "
            "processes that train together cannot share one; set gpus of its cell to 1, or to 0"
        )
    return None


def _counted_nodes(nodes: Collection[NodeShape]) -> str:
    return "the node can hold" if len(nodes) == 1 else f"all {len(nodes)} nodes can hold"


_CPU_KEYS = "lower cpus of its cell or launch.evaluate.cpus_per_task, or raise launch.evaluate.cpus"
_GPU_KEYS = "lower gpus of its cell or launch.evaluate.gpus_per_task"
_MEMORY_KEYS = "lower memory_gib of its cell, or raise launch.evaluate.memory_gib"
