"""Runs the evaluation of a run's commits as Ray tasks."""

from collections.abc import Callable

from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation import Evaluation
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.ray_cluster import FoundCluster, OwnCluster, RayCluster
from sigma_pipeline.jobs.ray_slurm import AllocatedCluster, Allocation
from sigma_pipeline.jobs.ray_workers import RayWorkers

__all__ = ["EvaluateRequest", "RayWorkers", "run_evaluate"]


def run_evaluate(
    request: EvaluateRequest,
    storage: Storage,
    journal: Journal,
    *,
    follow: Callable[[], bool] | None = None,
) -> int:
    """Scores every commit on every cell of the recipe that is not there yet.

    Args:
        request: what to evaluate.
        storage: the run's store.
        journal: takes the scores at their commits' steps.
        follow: says whether training still runs; new commits are then waited for. None: there is
            no training to wait for.

    Returns:
        The number of tasks that were run; 0 when everything was there.

    Raises:
        ConfigError: a benchmark's setting is wrong, or a task asks for more than there is.
        MissingInputError: a dataset or the first commit is missing.
        StageError: tasks failed; names them. All others were done before.
    """
    cluster = open_cluster(request.launch)
    grid = plan_grid(storage, request)
    with RayWorkers(cluster, retries=request.evaluate.retries, planned=grid.limits) as workers:
        return Evaluation(storage, journal, grid, workers).run(follow)


def open_cluster(launch: EvaluateLaunchConfig) -> RayCluster:
    """Where a recipe says that Ray comes from; nothing is started yet.

    Raises:
        ConfigError: several nodes are asked for, but this is no job that has them.
    """
    if launch.ray_address is not None:
        return FoundCluster(launch.ray_address)
    if launch.nodes > 1:
        return AllocatedCluster(launch, Allocation.current())
    return OwnCluster(launch)
