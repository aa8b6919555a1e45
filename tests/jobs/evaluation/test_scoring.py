"""One cell from features to store."""

import io
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scoring import CellRequest, run_cell

Prepare = Callable[..., CellRequest]


@pytest.fixture
def prepare(
    storage: Storage,
    make_request: Callable[..., EvaluateRequest],
    add_commit: Callable[..., Commit],
) -> Prepare:
    """The first cell of a benchmark on an untrained encoder; keywords are the recipe's cell's."""

    def make(benchmark: str, **cell: Any) -> CellRequest:
        grid = plan_grid(storage, make_request({"benchmark": benchmark} | cell))
        planned = grid.trials[0]
        source = committed_encoder(add_commit(0))
        return grid.cell_request(planned, planned.cells("r1", source)[0])

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
    storage: Storage, prepare: Prepare, benchmark: str, columns: list[str]
) -> None:
    request = prepare(benchmark)
    cell = request.cell

    run_cell(storage, request)

    record = CellRecord.read(storage, cell)
    assert record is not None
    assert record.scores[0].value > 0.6  # squares of three colours: even random weights see those
    assert record.weights_sha256 == cell.source.weights_sha256
    outcomes = pq.read_table(io.BytesIO(storage.read(record.outcomes)))
    assert outcomes.column_names == columns
    assert outcomes["key"].to_pylist() == [f"val-{i}" for i in range(12)]


def test_a_result_says_what_the_recipe_alone_makes_of_it(
    storage: Storage, prepare: Prepare
) -> None:
    request = prepare("uvos")

    run_cell(storage, request)

    record = CellRecord.read(storage, request.cell)
    assert record is not None
    assert record.notes[0].startswith("clips are cut as evaluate.view says")


def test_a_cell_that_is_there_is_not_scored_again(storage: Storage, prepare: Prepare) -> None:
    request = prepare("knn")
    storage.write(request.cell.key, b"there")

    run_cell(storage, request)

    assert storage.read(request.cell.key) == b"there"
    assert not storage.exists(request.features[0].key)


def test_the_second_of_two_racing_attempts_adopts_the_first(
    storage: Storage, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = prepare("knn")
    run_cell(storage, request)
    first = storage.list("runs/r1/evaluate/step-00000000")

    monkeypatch.setattr(type(storage), "exists", lambda self, key: False)
    run_cell(storage, request)

    assert storage.list("runs/r1/evaluate/step-00000000") == first
