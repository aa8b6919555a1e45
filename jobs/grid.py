"""The grid of an evaluation: which trials a recipe asks for, and on which encoders.

Trials that a dataset cannot carry (no labels, no masks) are skipped: said once, shown in the table,
and no failure. The grid is put into the store at each start, so that tables show what was asked
for last and not what some earlier recipe asked for.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage, read_json, write_json_if_absent
from sigma_pipeline.jobs.benchmarks.benchmark import Benchmark, Needs
from sigma_pipeline.jobs.benchmarks.table import build_benchmark
from sigma_pipeline.jobs.cells import Trial
from sigma_pipeline.jobs.config import CellConfig, EvaluateConfig
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest, evaluate_folder
from sigma_pipeline.jobs.features import FeatureRequest
from sigma_pipeline.jobs.planned_trials import PlannedTrial, record_grid
from sigma_pipeline.jobs.supervised_request import SupervisedRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grid:
    """All trials of one recipe."""

    request: EvaluateRequest
    trials: tuple[PlannedTrial, ...]
    supervised_ref: DatasetRef | None
    """What the supervised reference is trained on; None if there is to be none."""

    @property
    def possible(self) -> list[PlannedTrial]:
        """Trials that are not skipped."""
        return [planned for planned in self.trials if planned.skipped is None]

    def features(self, trial: Trial, source: EncoderSource) -> list[FeatureRequest]:
        """What ``trial`` reads of one encoder, in the order of its ``refs``.

        Whether tokens are kept is decided by all trials together, so that each split is encoded
        once, whichever of its cells happen to be missing.
        """
        return [
            FeatureRequest(
                run_name=self.request.run_name,
                source=source,
                ref=ref,
                view=trial.view,
                pooling=trial.pooling,
                has_tokens=any(
                    _needs(planned.trial).tokens and planned.trial.test == ref
                    for planned in self.possible
                ),
                precision=trial.precision,
                batch_clips=self.request.evaluate.batch_clips,
            )
            for ref in trial.refs
        ]

    def supervised(self, model: Mapping[str, Any]) -> SupervisedRequest | None:
        """The reference encoder of this shape; None if there is to be none."""
        config = self.request.evaluate.supervised
        if config is None or self.supervised_ref is None:
            return None
        return SupervisedRequest(
            run_name=self.request.run_name,
            config=config,
            model=model,
            ref=self.supervised_ref,
            view=self.request.evaluate.view,
            pooling=self.request.evaluate.pooling,
            precision=self.request.evaluate.precision,
            seed=self.request.seed,
        )


def plan_grid(storage: Storage, request: EvaluateRequest) -> Grid:
    """Resolves a recipe's cells against the datasets that are there; a leading job records them.

    Raises:
        ConfigError: a benchmark's settings are wrong; lists all of them.
        MissingInputError: a dataset has not been sharded.
    """
    trials = _trials(request)
    indexes = {ref: Index.load(storage, ref) for trial in trials for ref in trial.refs}
    planned = tuple(
        PlannedTrial(
            trial=trial,
            label=_label(storage, request.run_name, trial),
            every=cell.every,
            seeds=tuple(dict.fromkeys(cell.seeds)),
            skipped=_obstacle(trial, indexes),
        )
        for cell, trial in zip(request.evaluate.cells, trials, strict=True)
    )
    for one in planned:
        if one.skipped is not None:
            log.warning("%s on %s is skipped: %s", one.label, one.trial.dataset, one.skipped)
    if request.is_leading:
        record_grid(storage, request.run_name, planned)
    return Grid(request, planned, _supervised_ref(storage, request))


def _supervised_ref(storage: Storage, request: EvaluateRequest) -> DatasetRef | None:
    config = request.evaluate.supervised
    if config is None:
        return None
    ref = _dataset_ref(request, config.dataset, config.split)
    if (Index.load(storage, ref).labels < 0).all():
        log.warning("the supervised reference is skipped: %s has no class labels", ref.prefix)
        return None
    return ref


def _dataset_ref(request: EvaluateRequest, dataset: str, split: str) -> DatasetRef:
    try:
        return request.datasets[dataset, split]
    except KeyError:
        raise MissingInputError(
            f"dataset {dataset!r} has no sharded split {split!r}; make it with: "
            "sigma-pipeline run --stage shard"
        ) from None


def _trials(request: EvaluateRequest) -> list[Trial]:
    trials, problems = [], []
    for number, cell in enumerate(request.evaluate.cells):
        try:
            benchmark = build_benchmark(cell.benchmark, cell.settings)
        except ValidationError as error:
            problems += [
                f"evaluate.cells.{number}.settings.{'.'.join(map(str, problem['loc']))}: "
                f"{problem['msg']}"
                for problem in error.errors()
            ]
        else:
            if problem := split_problem(request.evaluate, number, benchmark):
                problems.append(problem)
            else:
                trials.append(_trial(request, cell, benchmark))
    if problems:
        raise ConfigError("; ".join(problems))
    return trials


def _trial(request: EvaluateRequest, cell: CellConfig, benchmark: Benchmark) -> Trial:
    reads_train = benchmark.needs.train
    return Trial(
        benchmark=benchmark.name,
        version=benchmark.version,
        settings=benchmark.model_dump(),
        train=_dataset_ref(request, cell.dataset, cell.train_split) if reads_train else None,
        test=_dataset_ref(request, cell.dataset, cell.test_split),
        view=request.evaluate.view,
        pooling=request.evaluate.pooling,
        precision=request.evaluate.precision,
    )


def _needs(trial: Trial) -> Needs:
    return build_benchmark(trial.benchmark, trial.settings).needs


def _obstacle(trial: Trial, indexes: Mapping[DatasetRef, Index]) -> str | None:
    """Why the data cannot carry the benchmark, in words; None if it can."""
    needs = _needs(trial)
    for ref in trial.refs:
        index = indexes[ref]
        if not len(index):
            return f"split {ref.split!r} of dataset {ref.name!r} is empty"
        if needs.labels and not (index.labels >= 0).any():
            return f"split {ref.split!r} of dataset {ref.name!r} has no class labels"
    if needs.groups and (obstacle := _group_obstacle(indexes[trial.test])):
        return obstacle
    if needs.masks and not has_masks(indexes[trial.test]):
        return f"split {trial.test.split!r} of dataset {trial.test.name!r} has no object masks"
    return None


def _group_obstacle(index: Index) -> str | None:
    """Why the labelled samples, of which there are some, cannot be split by group."""
    is_labelled = index.labels >= 0
    groups = [row.group for row, counts in zip(index.rows, is_labelled, strict=True) if counts]
    samples = f"labelled samples of split {index.ref.split!r} of dataset {index.ref.name!r}"
    if lacking := groups.count(None):
        return f"{lacking} of {len(groups)} {samples} have no group"
    if len(set(groups)) < 2:
        return f"all {len(groups)} {samples} are of group {groups[0]!r}"
    return None


def split_problem(evaluate: EvaluateConfig, number: int, benchmark: Benchmark) -> str | None:
    """Why the recipe's cell ``number`` must not read the splits it names; None if it may."""
    if not benchmark.needs.groups:
        return None
    cell, supervised = evaluate.cells[number], evaluate.supervised
    if cell.train_split != cell.test_split:
        return (
            f"evaluate.cells.{number}: leave_one_group_out takes one split, but train_split is "
            f"{cell.train_split!r} and test_split {cell.test_split!r}; set both to the split whose "
            "groups are to be left out"
        )
    read = cell.dataset, cell.test_split
    if supervised is not None and (supervised.dataset, supervised.split) == read:
        return (
            f"evaluate.supervised: trains on {'/'.join(read)}, so that it would know the labels of "
            f"each group that evaluate.cells.{number} leaves out; take another dataset or split, "
            "or remove evaluate.supervised"
        )
    return None


def has_masks(index: Index) -> bool:
    """Whether any sample brings object masks."""
    return any(row.mask_members for row in index.rows)


def _label(storage: Storage, run_name: str, trial: Trial) -> str:
    """The benchmark's name for the first trial of it on this dataset, ever; else with a mark.

    A curve is then never continued under other settings, and two settings of one benchmark can
    stand in one recipe.
    """
    key = f"{evaluate_folder(run_name)}/labels/{trial.benchmark}-{trial.dataset}.json"
    write_json_if_absent(storage, key, trial.fingerprint)
    if read_json(storage, key) == trial.fingerprint:
        return trial.benchmark
    return f"{trial.benchmark}-{trial.fingerprint[:6]}"
