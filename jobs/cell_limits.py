"""What a recipe lets tasks take, of cells and others; whether that can be had, and counted."""

from collections.abc import Iterator
from dataclasses import replace

from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.benchmarks.benchmark import Cost
from sigma_pipeline.jobs.config import (
    CellConfig,
    EvaluateConfig,
    EvaluateLaunchConfig,
    LaunchConfig,
)
from sigma_pipeline.jobs.ray_shortage import NodeShape, shortage


def cell_limits(
    cell: CellConfig, evaluate: EvaluateConfig, launch: EvaluateLaunchConfig, *, trains: bool
) -> TaskLimits:
    """Of the task of each seed of a cell; ``trains``: see ``Needs``."""
    return TaskLimits(
        cpus=launch.cpus_per_task if cell.cpus is None else cell.cpus,
        gpus=_gpus(cell, launch),
        memory_gib=cell.memory_gib,
        deadline_s=60 * (cell.deadline_min or evaluate.deadline_min),
        processes=cell.processes if trains else None,
    )


def picture_limits(evaluate: EvaluateConfig, launch: EvaluateLaunchConfig) -> TaskLimits:
    """Of a task that draws the picture of a commit, which takes no GPU."""
    return replace(supervised_limits(evaluate, launch), gpus=0.0)


def supervised_limits(evaluate: EvaluateConfig, launch: EvaluateLaunchConfig) -> TaskLimits:
    """Of the task that trains the supervised reference."""
    return TaskLimits(
        cpus=launch.cpus_per_task,
        gpus=launch.gpus_per_task,
        deadline_s=60 * evaluate.deadline_min,
    )


def budget_problem(
    evaluate: EvaluateConfig, launch: EvaluateLaunchConfig, number: int, cost: Cost
) -> str | None:
    """Why the budget of GPU-hours does not bound the recipe's cell ``number``; None if it may."""
    cell = evaluate.cells[number]
    if evaluate.gpu_hours is None or cost != "dear" or _gpus(cell, launch):
        return None
    key = "launch.evaluate.gpus_per_task" if cell.gpus is None else f"evaluate.cells.{number}.gpus"
    return (
        f"evaluate.gpu_hours={evaluate.gpu_hours:g} does not bound evaluate.cells.{number}, a dear "
        f"one: {key}=0, so that its tasks take no GPU; set evaluate.cells.{number}.gpus to what "
        "they take, or remove evaluate.gpu_hours"
    )


def place_problems(evaluate: EvaluateConfig, launch: LaunchConfig) -> Iterator[str]:
    """What of an evaluation could never start where it is to run, as far as that is known."""
    place, is_slurm = launch.evaluate, launch.cluster == "slurm"
    if place.nodes > 1 and not is_slurm:
        yield (
            f"launch.evaluate.nodes={place.nodes} needs launch.cluster=slurm; "
            f"launch.cluster={launch.cluster} has one node"
        )
    if place.ray_address is not None:
        if is_slurm:
            yield (
                f"launch.evaluate.ray_address={place.ray_address}: a job of SLURM starts Ray by "
                "itself; remove it, or set launch.cluster=local on a node of that Ray cluster"
            )
        return
    node = NodeShape(
        cpus=place.cpus,
        gpus=place.gpus if is_slurm and "gres" not in launch.sbatch else float("inf"),
        memory_gib=place.memory_gib or float("inf"),
    )
    planned = {
        f"evaluate.cells.{number}": cell_limits(cell, evaluate, place, trains=cell.processes > 1)
        for number, cell in enumerate(evaluate.cells)
    }
    if evaluate.pictures and evaluate.cells:
        planned["evaluate.pictures"] = picture_limits(evaluate, place)
    if evaluate.supervised is not None:
        planned["evaluate.supervised"] = supervised_limits(evaluate, place)
    nodes = [node] * (place.nodes if is_slurm else 1)
    yield from filter(None, (shortage(key, limits, nodes) for key, limits in planned.items()))


def _gpus(cell: CellConfig, launch: EvaluateLaunchConfig) -> float:
    return launch.gpus_per_task if cell.gpus is None else cell.gpus
