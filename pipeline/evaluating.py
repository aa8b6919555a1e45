"""The evaluate stage: every commit of the run through the recipe's benchmarks."""

import logging
from collections.abc import Callable, Collection, Iterator

from pydantic import BaseModel, ValidationError

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmark_list import ListedBenchmark, benchmark_list
from sigma_pipeline.jobs.benchmarks.benchmark import Cost
from sigma_pipeline.jobs.benchmarks.table import all_benchmarks, build_benchmark
from sigma_pipeline.jobs.cell_limits import budget_problem, place_problems
from sigma_pipeline.jobs.commits import list_commits
from sigma_pipeline.jobs.config import CellConfig, EvaluateConfig
from sigma_pipeline.jobs.evaluate import EvaluateRequest, run_evaluate
from sigma_pipeline.jobs.evaluate_policy import cadence, describe_choice
from sigma_pipeline.jobs.gpu_sharing import evaluation_launch, missing_rule, useless_rule
from sigma_pipeline.jobs.obstacles import cell_problems
from sigma_pipeline.pipeline.absent_columns import absent_columns, without_columns
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
    numbers = range(len(config.evaluate.cells))
    problems = [problem for number in numbers for problem in _problems(config, number)]
    problems += place_problems(config.evaluate, config.launch)
    if problems:
        raise ConfigError("; ".join(problems))


def _problems(config: PipelineConfig, number: int) -> list[str]:
    """What is wrong with the recipe's cell ``number``, each with its key."""
    cell, key = config.evaluate.cells[number], f"evaluate.cells.{number}"
    try:
        built = build_benchmark(cell.benchmark, cell.settings)
    except ConfigError as error:
        return [f"{key}.benchmark: {error}"]
    except ValidationError as error:
        benchmark = all_benchmarks()[cell.benchmark]
        assert issubclass(benchmark, BaseModel)
        return [f"{key}.settings.{line}" for line in describe(error, benchmark)]
    problems = list(cell_problems(config.evaluate, number, built, config.model))
    splits = config.datasets[cell.dataset].split_names
    if built.needs.train and cell.learned_split not in splits:
        problems.append(
            f"{key}: {cell.benchmark} learns from labelled examples, but dataset {cell.dataset!r} "
            f"has no split {cell.learned_split!r}; set train_split to one of: {', '.join(splits)}"
        )
    unbounded = budget_problem(config.evaluate, config.launch.evaluate, number, built.cost)
    return [*problems, unbounded] if unbounded else problems


def run_evaluate_stage(
    config: PipelineConfig, services: Services, *, follow: Callable[[], bool] | None
) -> None:
    """Does the cells that are missing; with ``follow`` those of commits still to come, too.

    Raises:
        MissingInputError: a dataset, or the first commit, is missing.
        StageError: cells failed, after all others were done.
    """
    remark = missing_rule(config.launch, config.evaluate) if follow is not None else None
    if remark is not None:
        log.warning("%s", remark)
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
        MissingInputError: a dataset is missing; of columns of SEVERE, those of all of them.
    """
    absent = absent_columns(config, services.storage, promised=promised)
    for name, reason in absent.items():
        log.warning("Column %s is left out: %s", name, reason)
    asked = without_columns(config, absent)
    refs = resolve_refs(services.storage, config, asked.evaluated_splits, promised=promised)
    record_recipe(services, config, refs.values())
    if remark := useless_rule(config.launch, config.evaluate):
        log.warning("%s", remark)
    return EvaluateRequest(
        run_name=config.run_name,
        root_uri=config.root_uri,
        scratch_dir=str(config.scratch_path),
        work_dir=str(config.work_path),
        seed=config.seed,
        evaluate=asked.evaluate,
        launch=evaluation_launch(config.launch),
        datasets=refs,
        absent=absent,
    )


def preview_evaluate_stage(config: PipelineConfig, storage: Storage) -> Iterator[str]:
    """What ``run_evaluate_stage`` would do; nothing is written."""
    check_cells(config, storage)
    commits = list_commits(storage, config.run_name)
    yield f"{len(commits)} commits so far; what is there already is skipped"
    for cell in config.evaluate.cells:
        seeds = f"{len(cell.seeds)} seed{'s' if len(cell.seeds) != 1 else ''}"
        where = f"{cell.benchmark} on {cell.dataset}/{cell.test_split}"
        if cell.column is not None:
            where = f"column {cell.column}: {where}"
        if cell.examples is not None:
            where += f", of {', '.join(map(str, cell.examples))} examples"
        choice = describe_choice(cell, _cost(cell), config.evaluate.best_by)
        yield f"{where}, {seeds}, {choice}"
    if config.evaluate.supervised is not None:
        supervised = config.evaluate.supervised
        yield f"a supervised encoder of the same shape, {supervised.steps} steps"


def commit_cadences(evaluate: EvaluateConfig) -> Iterator[int]:
    """Each how many commits one is taken as they come, for each cell that takes any so."""
    for cell in evaluate.cells:
        if (every := cadence(cell, _cost(cell))) is not None:
            yield every


def _cost(cell: CellConfig) -> Cost:
    return all_benchmarks()[cell.benchmark].cost


def list_benchmarks(config: PipelineConfig, storage: Storage) -> list[ListedBenchmark]:
    """All benchmarks, and whether each split of the recipe's datasets has what they need."""
    splits = [
        (name, split) for name, dataset in config.datasets.items() for split in dataset.split_names
    ]
    return benchmark_list(storage, {place: _found(config, storage, place) for place in splits})


def _found(config: PipelineConfig, storage: Storage, place: tuple[str, str]) -> DatasetRef | None:
    """The finished version of a split; None while there is none."""
    try:
        return resolve_refs(storage, config, [place])[place]
    except MissingInputError:
        return None
