"""Cells: what their names depend on, and that records survive the store."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.cells import Cell, CellRecord, Trial
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import committed_encoder

TRIAL = Trial(
    benchmark="knn",
    version=1,
    settings={"k": 20, "temperature": 0.07},
    train=DatasetRef("squares", "train", "v1"),
    test=DatasetRef("squares", "val", "v1"),
    view=ViewConfig(),
    clips_version=1,
    features_version=1,
    pooling="mean",
    precision="fp32",
)


@pytest.fixture
def cell(add_commit: Callable[..., Commit]) -> Cell:
    return Cell("r1", committed_encoder(add_commit(1000)), TRIAL, seed=3)


def test_a_cell_lies_under_its_commit_benchmark_and_dataset(cell: Cell) -> None:
    folder = "runs/r1/evaluate/step-00001000/knn/squares"

    assert cell.key == f"{folder}/3-{cell.fingerprint}.json"
    assert str(cell) == "knn on squares, step-00001000, seed 3"


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"settings": {"k": 21, "temperature": 0.07}},
        {"train": DatasetRef("squares", "train", "v2")},
        {"test": DatasetRef("squares", "val", "v2")},
        {"view": ViewConfig(frame_stride=5)},
        {"clips_version": 2},
        {"features_version": 2},
        {"pooling": "slices"},
        {"precision": "bf16_autocast"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_the_scores_makes_another_cell(
    cell: Cell, change: dict[str, object]
) -> None:
    other = replace(cell, trial=replace(TRIAL, **change))

    assert other.fingerprint != cell.fingerprint
    assert other.trial.fingerprint != TRIAL.fingerprint


def test_other_weights_or_seeds_make_another_cell_of_the_same_trial(
    cell: Cell, add_commit: Callable[..., Commit]
) -> None:
    retrained = committed_encoder(add_commit(1000, attempt="a22"))

    assert retrained.name == cell.source.name
    cells = [cell, replace(cell, source=retrained), replace(cell, seed=4)]
    assert len({one.fingerprint for one in cells}) == 3


def test_a_trial_survives_json() -> None:
    assert Trial.from_plain(TRIAL.to_plain()) == TRIAL
    assert Trial.from_plain(replace(TRIAL, train=None).to_plain()).refs == (TRIAL.test,)


def test_a_record_is_read_back_and_absent_before(storage: Storage, cell: Cell) -> None:
    record = CellRecord(
        fingerprint=cell.fingerprint,
        encoder=cell.source.name,
        step=1000,
        weights_sha256=cell.source.weights_sha256,
        trial=TRIAL,
        seed=3,
        scores=(Score("top1", 0.5, "fraction", True, 0.4, 0.6, 12),),
        notes=("capped",),
        cost="cheap",
        seconds=1.5,
        gpus=0.5,
        outcomes="somewhere",
        files=("somewhere/else.png",),
        attempt="a",
    )

    assert CellRecord.read(storage, cell) is None
    write_json(storage, cell.key, record.to_plain())
    assert CellRecord.read(storage, cell) == record
