"""The evaluate stage: every commit of the run through the recipe's benchmarks."""

import logging
from collections.abc import Callable, Collection, Iterator

from pydantic import BaseModel, ValidationError

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.table import BENCHMARKS, build_benchmark
from sigma_pipeline.jobs.commits import list_commits
from sigma_pipeline.jobs.evaluate import EvaluateRequest, run_evaluate
from sigma_pipeline.jobs.grid import split_problem
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.problems import describe
from sigma_pipeline.pipeline.run_recipe import record_recipe
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.versions import resolve_refs

log = logging.getLogger(__name__)


def check_cells(config: PipelineConfig, _storage: Storage) -> None:
    """Checks settings that only the benchmarks know, before anything is launched.

    Raises:
        ConfigError: lists all that are wrong.
    """
    problems = []
    for number, cell in enumerate(config.evaluate.cells):
        try:
            built = build_benchmark(cell.benchmark, cell.settings)
        except ValidationError as error:
            benchmark = BENCHMARKS[cell.benchmark]
            assert issubclass(benchmark, BaseModel)
            prefix = f"evaluate.cells.{number}.settings"
            problems += [f"{prefix}.{line}" for line in describe(error, benchmark)]
        else:
            problems += filter(None, [split_problem(config.evaluate, number, built)])
    if problems:
        raise ConfigError("; ".join(problems))


def run_evaluate_stage(
    config: PipelineConfig, services: Services, *, follow: Callable[[], bool] | None
) -> None:
    """Does the cells that are missing; with ``follow`` those of commits still to come, too.

    Raises:
        MissingInputError: a dataset, or the first commit, is missing.
        StageError: cells failed, after all others were done.
    """
    request = recorded_evaluation(config, services)
    with services.journal("evaluate") as journal:
        num_tasks = run_evaluate(request, services.storage, journal, follow=follow)
    if not num_tasks:
        log.info("Stage evaluate is up to date")


def recorded_evaluation(
    config: PipelineConfig, services: Services, *, promised: Collection[DatasetRef] = ()
) -> EvaluateRequest:
    """What to evaluate, written down in the run.

    Args:
        config: of the run.
        services: of the run.
        promised: what need not be sharded yet, as jobs that were submitted will have done it.

    Raises:
        MissingInputError: a dataset is missing.
    """
    refs = resolve_refs(services.storage, config, config.evaluated_splits, promised=promised)
    record_recipe(services, config, refs.values())
    return EvaluateRequest(
        run_name=config.run_name,
        root_uri=config.root_uri,
        scratch_dir=str(config.scratch_path),
        seed=config.seed,
        evaluate=config.evaluate,
        launch=config.launch.evaluate,
        datasets=refs,
    )


def preview_evaluate_stage(config: PipelineConfig, storage: Storage) -> Iterator[str]:
    """What ``run_evaluate_stage`` would do; nothing is written."""
    check_cells(config, storage)
    commits = list_commits(storage, config.run_name)
    yield f"{len(commits)} commits so far; what is there already is skipped"
    for cell in config.evaluate.cells:
        seeds = f"{len(cell.seeds)} seed{'s' if len(cell.seeds) != 1 else ''}"
        every = "every commit" if cell.every == 1 else f"every {cell.every}th commit"
        yield f"{cell.benchmark} on {cell.dataset}/{cell.test_split}, {seeds}, {every}"
    if config.evaluate.supervised is not None:
        supervised = config.evaluate.supervised
        yield f"a supervised encoder of the same shape, {supervised.steps} steps"
