"""One cell from features to store."""

import io
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.cells import Cell, CellRecord
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.features import FeatureRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scoring import run_cell

Prepared = tuple[Cell, list[FeatureRequest]]
Prepare = Callable[[str], Prepared]


@pytest.fixture
def prepare(
    storage: Storage,
    make_request: Callable[..., EvaluateRequest],
    add_commit: Callable[..., Commit],
) -> Prepare:
    """The only cell of a benchmark on an untrained encoder, and the features it reads."""

    def make(benchmark: str) -> Prepared:
        grid = plan_grid(storage, make_request({"benchmark": benchmark}))
        source = committed_encoder(add_commit(0))
        planned = grid.trials[0]
        return planned.cells("r1", source)[0], grid.features(planned.trial, source)

    return make


@pytest.mark.parametrize(
    ("benchmark", "columns"),
    [
        ("knn", ["key", "label", "prediction", "top1", "top5"]),
        ("linear", ["key", "label", "prediction", "top1", "top5"]),
        ("uvos", ["key", "miou", "miou_over", "objects"]),
    ],
)
def test_a_cell_stores_its_scores_and_the_outcome_of_each_sample(
    storage: Storage, prepare: Prepare, tmp_path: Path, benchmark: str, columns: list[str]
) -> None:
    cell, features = prepare(benchmark)

    run_cell(storage, cell, features, str(tmp_path))

    record = CellRecord.read(storage, cell)
    assert record is not None
    assert record.scores[0].value > 0.6  # squares of three colours: even random weights see those
    assert record.weights_sha256 == cell.source.weights_sha256
    outcomes = pq.read_table(io.BytesIO(storage.read(record.outcomes)))
    assert outcomes.column_names == columns
    assert outcomes["key"].to_pylist() == [f"val-{i}" for i in range(12)]


def test_a_cell_that_is_there_is_not_scored_again(
    storage: Storage, prepare: Prepare, tmp_path: Path
) -> None:
    cell, features = prepare("knn")
    storage.write(cell.key, b"there")

    run_cell(storage, cell, features, str(tmp_path))

    assert storage.read(cell.key) == b"there"
    assert not storage.exists(features[0].key)


def test_the_second_of_two_racing_attempts_adopts_the_first(
    storage: Storage, prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, features = prepare("knn")
    run_cell(storage, cell, features, str(tmp_path))
    first = storage.list("runs/r1/evaluate/step-00000000")

    monkeypatch.setattr(type(storage), "exists", lambda self, key: False)
    run_cell(storage, cell, features, str(tmp_path))

    assert storage.list("runs/r1/evaluate/step-00000000") == first
