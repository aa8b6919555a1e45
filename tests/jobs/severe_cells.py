"""Made cells of SEVERE's columns: trials, manifests of their datasets, and rows of scores."""

from collections.abc import Mapping

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.cells import Cell, CellRecord, Trial
from sigma_pipeline.jobs.planned_trials import PlannedTrial
from sigma_pipeline.jobs.scores import TableCell, TableRow
from sigma_pipeline.jobs.severe_columns import COLUMNS, PUBLISHED, SevereColumn, Values

SIGMA_DINO = PUBLISHED[-1].values


def make_trial(dataset: str, benchmark: str = "finetune", examples: int | None = None) -> Trial:
    """A trial of a benchmark that learns from ``dataset``."""
    return Trial(
        benchmark=benchmark,
        version=1,
        settings={},
        train=DatasetRef(dataset, "train", "v1"),
        test=DatasetRef(dataset, "val", "v1"),
        view=ViewConfig(),
        clips_version=1,
        features_version=None,
        pooling=None,
        precision="fp32",
        examples=examples,
    )


def plan(trial: Trial, column: SevereColumn | None = None, label: str = "") -> PlannedTrial:
    """``trial`` as a recipe asks for it."""
    return PlannedTrial(
        trial=trial,
        label=label or trial.benchmark,
        cost="dear",
        every=None,
        best=None,
        seeds=(0,),
        limits=TaskLimits(cpus=1, gpus=0, memory_gib=None, deadline_s=60),
        skipped=None,
        column=column,
    )


def plan_column(name: SevereColumn, dataset: str | None = None) -> PlannedTrial:
    """What fills a column as it should be."""
    column = COLUMNS[name]
    return plan(make_trial(dataset or name, column.benchmark, column.examples), name)


def put_dataset(
    storage: Storage, name: str, *, classes: int, train: int, test: int, version: str = "v1"
) -> None:
    """Manifests of a dataset with so many samples."""
    for split, samples in (("train", train), ("val", test)):
        manifest = {"samples": samples, "classes": [str(number) for number in range(classes)]}
        write_json(storage, DatasetRef(name, split, version).manifest_key, manifest)


def put_official(storage: Storage, names: Mapping[SevereColumn, float]) -> None:
    """Manifests of the columns' own datasets, named as the columns."""
    for name in names:
        column = COLUMNS[name]
        put_dataset(storage, name, classes=column.classes, train=column.train, test=column.test)


def scored(name: SevereColumn, shown: float, dataset: str | None = None) -> TableCell:
    """A finished cell whose number in the table is ``shown``."""
    column = COLUMNS[name]
    value = shown / 100 if column.is_percent else shown
    score = Score(column.score, value, "", column.is_percent, value, value, column.test)
    other = Score("other", 0.0, "", True, 0.0, 0.0, column.test)
    scores = (other, score)
    return TableCell(column.benchmark, dataset or name, "done", scores, (scores,))


def scored_row(values: Values, encoder: str = "step 9", step: int = 9) -> TableRow:
    """A row with a finished cell for each of ``values``."""
    return TableRow(encoder, step, tuple(scored(name, value) for name, value in values.items()))


def finish(storage: Storage, cell: Cell, *scores: Score) -> None:
    """Puts the record of a cell with these scores."""
    record = CellRecord(
        fingerprint=cell.fingerprint,
        encoder=cell.source.name,
        step=cell.source.step,
        weights_sha256=cell.source.weights_sha256,
        trial=cell.trial,
        seed=cell.seed,
        scores=scores,
        notes=(),
        cost="dear",
        seconds=1.0,
        gpus=0.0,
        outcomes="",
        files=(),
        attempt="a",
    )
    write_json(storage, cell.key, record.to_plain())
