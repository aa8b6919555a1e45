"""The grid of an evaluation: which trials a recipe asks for, and on which encoders.

Trials that a dataset cannot carry (no labels, no masks) are skipped: said once, shown in the table,
and no failure. A leading job puts the grid into the store at its start, so that tables show what
was asked for last and not what some earlier recipe asked for.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage, read_json, write_json_if_absent
from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.benchmarks.benchmark import Benchmark, Needs
from sigma_pipeline.jobs.benchmarks.table import build_benchmark
from sigma_pipeline.jobs.cell_limits import cell_limits, picture_limits, supervised_limits
from sigma_pipeline.jobs.cells import Cell, Trial
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.jobs.evaluate_policy import skip_unranked
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest, evaluate_folder
from sigma_pipeline.jobs.feature_request import FeatureRequest
from sigma_pipeline.jobs.obstacles import (
    SplitContent,
    cell_notes,
    cell_problems,
    chosen_view,
)
from sigma_pipeline.jobs.planned_trials import PlannedTrial, record_absent, record_grid
from sigma_pipeline.jobs.scoring import CellRequest
from sigma_pipeline.jobs.severe_settings import column_deviations
from sigma_pipeline.jobs.supervised_request import SupervisedRequest
from sigma_pipeline.jobs.versions import CLIPS_VERSION, FEATURES_VERSION

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grid:
    """All trials of one recipe."""

    request: EvaluateRequest
    trials: tuple[PlannedTrial, ...]
    num_samples: Mapping[DatasetRef, int]
    """Of each split that a trial reads."""
    supervised_ref: DatasetRef | None
    """What the supervised reference is trained on; None if there is to be none."""

    @property
    def possible(self) -> list[PlannedTrial]:
        """Trials that are not skipped."""
        return [planned for planned in self.trials if planned.skipped is None]

    @property
    def limits(self) -> dict[str, TaskLimits]:
        """What the tasks that may come will take, by what people call them.

        Those that extract features take what one of the cells that read them takes.
        """
        request = self.request
        limits = {f"{one.label} on {one.trial.dataset}": one.limits for one in self.possible}
        if request.evaluate.pictures and self.trials:
            limits["the picture of a commit"] = picture_limits(request.evaluate, request.launch)
        if self.supervised_ref is not None:
            limits["the supervised reference"] = supervised_limits(request.evaluate, request.launch)
        return limits

    def features(self, trial: Trial, source: EncoderSource) -> list[FeatureRequest]:
        """What ``trial`` reads of one encoder, in the order of its ``refs``.

        Whose tokens are kept is decided by all trials together, so that each split is encoded once,
        whichever of its cells happen to be missing.
        """
        if _needs(trial).encoder:
            return []
        return [
            FeatureRequest(
                run_name=self.request.run_name,
                source=source,
                ref=ref,
                num_samples=self.num_samples[ref],
                view=view,
                pooling=self.request.evaluate.pooling,
                layers=self._kept_layers(ref, view),
                precision=trial.precision,
                batch_clips=self.request.evaluate.batch_clips,
                decoders=max(0, int(self._limits_of_readers(ref, view).cpus) - 1),
                limit_gib=self.request.evaluate.features_gib,
            )
            for ref, view in _read_views(trial)
        ]

    def _readers(self, ref: DatasetRef, view: ViewConfig) -> list[PlannedTrial]:
        """Trials that read features of a split through a view."""
        return [
            one
            for one in self.possible
            if (ref, view) in _read_views(one.trial) and not _needs(one.trial).encoder
        ]

    def _kept_layers(self, ref: DatasetRef, view: ViewConfig) -> tuple[int, ...]:
        readers = self._readers(ref, view)
        needs = [_needs(one.trial) for one in readers if one.trial.test == ref]
        return tuple(sorted({one.layer for one in needs if one.tokens}))

    def cell_request(self, planned: PlannedTrial, cell: Cell) -> CellRequest:
        """All that scoring ``cell``, one of ``planned``, takes."""
        evaluate = self.request.evaluate
        return CellRequest(
            cell=cell,
            features=tuple(self.features(cell.trial, cell.source)),
            batch_clips=evaluate.batch_clips,
            gpus=planned.limits.total_gpus,
            draws_figures=evaluate.pictures and cell.seed == planned.seeds[0],
            notes=planned.notes,
            scratch_dir=self.request.scratch_dir,
            work_dir=self.request.work_dir,
        )

    def feature_limits(self, request: FeatureRequest) -> TaskLimits:
        """Of the task that extracts features: of the trial that reads them with most GPUs."""
        return self._limits_of_readers(request.ref, request.view)

    def _limits_of_readers(self, ref: DatasetRef, view: ViewConfig) -> TaskLimits:
        limits = [one.limits for one in self._readers(ref, view)]
        # Of one of them: no node may have the most that each of several takes.
        most = max(limits, key=lambda one: (one.gpus, one.cpus, one.memory_gib or 0.0))
        return replace(most, deadline_s=max(one.deadline_s for one in limits))

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
            view=self.request.evaluate.view or ViewConfig(),
            pooling=self.request.evaluate.pooling,
            precision=self.request.evaluate.precision,
            seed=self.request.seed,
        )


def plan_grid(storage: Storage, request: EvaluateRequest) -> Grid:
    """Resolves a recipe's cells against the datasets that are there; a leading job records them.

    Raises:
        ConfigError: a benchmark's settings are wrong; lists all of them. Or the score that ranks
            commits cannot be told from others.
        MissingInputError: a dataset has not been sharded.
    """
    trials = _trials(request)
    indexes = {ref: Index.load(storage, ref) for _, trial in trials for ref in trial.refs}
    splits = {ref: SplitContent(index) for ref, index in indexes.items()}
    planned = skip_unranked(
        [_planned(storage, request, number, trial, splits) for number, trial in trials],
        request.evaluate.best_by,
    )
    for one in planned:
        if one.skipped is not None:
            log.warning("%s on %s is skipped: %s", one.label, one.trial.dataset, one.skipped)
    if request.is_leading:
        record_grid(storage, request.run_name, planned)
        record_absent(storage, request.run_name, request.absent)
    num_samples = {ref: len(index) for ref, index in indexes.items()}
    return Grid(request, planned, num_samples, _supervised_ref(storage, request))


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


def _trials(request: EvaluateRequest) -> list[tuple[int, Trial]]:
    """With the number of the cell that asks for it."""
    trials: list[tuple[int, Trial]] = []
    problems: list[str] = []
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
            problems += (found := list(cell_problems(request.evaluate, number, benchmark)))
            if not found:
                trials += [
                    (number, _trial(request, number, benchmark, examples))
                    for examples in cell.examples or (None,)
                ]
    if problems:
        raise ConfigError("; ".join(problems))
    return trials


def _trial(
    request: EvaluateRequest, number: int, benchmark: Benchmark, examples: int | None
) -> Trial:
    cell, needs = request.evaluate.cells[number], benchmark.needs
    return Trial(
        benchmark=benchmark.name,
        version=benchmark.version,
        settings=benchmark.model_dump(),
        train=_dataset_ref(request, cell.dataset, cell.learned_split) if needs.train else None,
        test=_dataset_ref(request, cell.dataset, cell.test_split),
        view=chosen_view(request.evaluate, number, benchmark),
        clips_version=CLIPS_VERSION if needs.clips else None,
        features_version=None if needs.encoder else FEATURES_VERSION,
        pooling=request.evaluate.pooling if needs.pooled else None,
        precision=request.evaluate.precision,
        examples=examples,
    )


def _planned(
    storage: Storage,
    request: EvaluateRequest,
    number: int,
    trial: Trial,
    splits: Mapping[DatasetRef, SplitContent],
) -> PlannedTrial:
    cell = request.evaluate.cells[number]
    benchmark = build_benchmark(trial.benchmark, trial.settings)
    return PlannedTrial(
        trial=trial,
        label=_label(storage, request.run_name, trial),
        cost=benchmark.cost,
        every=cell.every,
        best=cell.best,
        seeds=tuple(dict.fromkeys(cell.seeds)),
        limits=cell_limits(cell, request.evaluate, request.launch, trains=benchmark.needs.trains),
        skipped=_obstacle(trial, splits),
        notes=cell_notes(request.evaluate, number, benchmark),
        column=cell.column,
        deviations=column_deviations(cell.column, benchmark, trial.view),
    )


def _read_views(trial: Trial) -> list[tuple[DatasetRef, ViewConfig]]:
    """Each split it reads, in the order of its ``refs``, and the view that this is seen through."""
    views = (trial.view,) if trial.train is None else (trial.view.single, trial.view)
    return list(zip(trial.refs, views, strict=True))


def _needs(trial: Trial) -> Needs:
    return build_benchmark(trial.benchmark, trial.settings).needs


def _obstacle(trial: Trial, splits: Mapping[DatasetRef, SplitContent]) -> str | None:
    """Why the data cannot carry the benchmark, in words; None if it can."""
    needs = _needs(trial)
    if trial.train is not None:
        is_drawn = trial.examples is not None
        if obstacle := splits[trial.train].train_obstacle(needs, is_drawn=is_drawn):
            return obstacle
    return splits[trial.test].test_obstacle(needs)


def _label(storage: Storage, run_name: str, trial: Trial) -> str:
    """The benchmark's name for the first trial of it on this dataset, ever; else with a mark.

    A curve is then never continued under other settings, and two settings of one benchmark can
    stand in one recipe. What learns from few has a name for each size: ``knn-of-1000``.
    """
    few = "" if trial.examples is None else f"-of-{trial.examples}"
    name = f"{trial.benchmark}{few}"
    key = f"{evaluate_folder(run_name)}/labels/{name}-{trial.dataset}.json"
    write_json_if_absent(storage, key, trial.fingerprint)
    if read_json(storage, key) == trial.fingerprint:
        return name
    return f"{name}-{trial.fingerprint[:6]}"
