"""Names of nodes: which of them each rank of a SLURM job runs on, and which deserve the blame."""

import itertools
import os
import re
import socket
from collections.abc import Collection, Iterable, Mapping

_COUNT = re.compile(r"(\d+)(?:\(x(\d+)\))?")


def node_name() -> str:
    """This node as its scheduler calls it, else as it calls itself."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def nodes_by_rank(world_size: int, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The node of each rank as SLURM lays tasks out by default, node by node.

    Empty outside SLURM, or where its variables tell of another number of tasks.
    """
    names = expand_nodes(environment.get("SLURM_JOB_NODELIST", ""))
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE")
    counts = _task_counts(tasks or "")
    if len(names) != len(counts) or sum(counts) != world_size:
        return ()
    return tuple(name for name, count in zip(names, counts, strict=True) for _ in range(count))


def expand_nodes(nodes: str) -> list[str]:
    """``n[01-03,7],login`` as the names it stands for, in its order."""
    # Commas between names only: those in brackets part numbers.
    return [
        name
        for pattern in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
        for name in _expand(pattern)
    ]


def blamed(hosts: Collection[str], all_hosts: Iterable[str]) -> tuple[str, ...]:
    """Which of ``hosts``, where something went wrong, are to be avoided: none if most of the job's.

    What most nodes have is a fault of something they share, and a job without them could not start.
    """
    bad = sorted(set(hosts))
    return tuple(bad) if 2 * len(bad) <= len(set(all_hosts)) else ()


def shown_ranks(ranks: Iterable[int], hosts: Mapping[int, str]) -> str:
    """``rank 1 on n2, rank 3 on n4``; of many, the first eight."""
    every = sorted(ranks)
    named = [f"rank {rank} on {hosts.get(rank, 'an unknown node')}" for rank in every[:8]]
    return ", ".join(named) + (f" and {len(every) - 8} more" if len(every) > 8 else "")


def _expand(pattern: str) -> list[str]:
    parts = re.split(r"\[([^\]]*)\]", pattern)  # text and brackets by turns
    choices = [_numbers(part) if place % 2 else [part] for place, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def _numbers(ranges: str) -> list[str]:
    """``01-03,7`` as 01, 02, 03, 7."""
    found: list[str] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        found += [f"{number:0{len(first)}d}" for number in numbers]
    return found


def _task_counts(tasks_per_node: str) -> list[int]:
    """``2(x3),1`` as 2, 2, 2, 1."""
    return [
        int(count)
        for count, times in _COUNT.findall(tasks_per_node)
        for _ in range(int(times or 1))
    ]
