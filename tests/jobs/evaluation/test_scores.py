"""The table of scores."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.cells import Cell, CellRecord
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import EncoderSource, committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import Grid, plan_grid
from sigma_pipeline.jobs.scores import mean_scores, metric_values, score_table
from sigma_pipeline.jobs.supervised_request import name_current

KNN = {"benchmark": "knn", "settings": {"k": 5}, "seeds": [0, 1]}

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]


def _finish(storage: Storage, cell: Cell, value: float) -> CellRecord:
    record = CellRecord(
        fingerprint=cell.fingerprint,
        encoder=cell.source.name,
        step=cell.source.step,
        weights_sha256=cell.source.weights_sha256,
        trial=cell.trial,
        seed=cell.seed,
        scores=(Score("top1", value, "fraction", True, value - 0.1, value + 0.2, 12),),
        notes=("k was capped",),
        cost="cheap",
        seconds=1.0,
        gpus=0.5,
        outcomes="",
        files=(),
        attempt="a",
    )
    write_json(storage, cell.key, record.to_plain())
    return record


def _cells(grid: Grid, source: EncoderSource) -> list[Cell]:
    return grid.trials[0].cells("r1", source)


def test_rows_are_named_by_step_and_scores_averaged_over_seeds(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit
) -> None:
    grid = plan_grid(storage, make_request(KNN))
    for commit in (add_commit(0), add_commit(1000)):
        for cell, value in zip(_cells(grid, committed_encoder(commit)), (0.2, 0.4), strict=True):
            _finish(storage, cell, value)

    rows = score_table(storage, "r1")

    assert [(row.encoder, row.step) for row in rows] == [("untrained", 0), ("step 1000", 1000)]
    (cell,) = rows[0].cells
    assert (cell.label, cell.dataset, cell.state) == ("knn", "squares", "done")
    assert (cell.seeds, cell.reason) == (2, "k was capped")
    assert (cell.scores[0].value, cell.scores[0].low, cell.scores[0].high) == pytest.approx(
        (0.3, 0.2, 0.5)
    )


def test_a_trial_counts_only_when_all_its_seeds_are_done(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit
) -> None:
    grid = plan_grid(storage, make_request(KNN, {"benchmark": "uvos"}))
    source = committed_encoder(add_commit(0))
    _finish(storage, _cells(grid, source)[0], 0.2)

    assert score_table(storage, "r1") == []

    write_json(storage, _cells(grid, source)[1].failure_key, {"error": "ValueError: no"})
    (row,) = score_table(storage, "r1")
    assert [cell.state for cell in row.cells] == ["failed", "missing"]
    assert row.cells[0].reason == "ValueError: no"


def test_scores_of_weights_that_were_replaced_are_not_shown(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit
) -> None:
    grid = plan_grid(storage, make_request(KNN))
    for cell in _cells(grid, committed_encoder(add_commit(40))):
        _finish(storage, cell, 0.2)
    assert len(score_table(storage, "r1")) == 1

    add_commit(40, attempt="a22")

    assert score_table(storage, "r1") == []


def test_scores_under_earlier_settings_are_not_shown(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit
) -> None:
    grid = plan_grid(storage, make_request(KNN))
    for cell in _cells(grid, committed_encoder(add_commit(0))):
        _finish(storage, cell, 0.2)

    plan_grid(storage, make_request(KNN | {"settings": {"k": 7}}))

    assert score_table(storage, "r1") == []


def test_a_skipped_trial_stands_in_the_table_with_its_reason(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit
) -> None:
    add_commit(0)
    plan_grid(storage, make_request({"benchmark": "uvos", "test_split": "train"}))

    (row,) = score_table(storage, "r1")

    assert row.cells[0].state == "skipped"
    assert row.cells[0].reason == "split 'train' of dataset 'squares' has no object masks"


def test_a_failed_supervised_reference_is_a_row(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit
) -> None:
    grid = plan_grid(storage, make_request(KNN, supervised={"dataset": "squares"}))
    request = grid.supervised(add_commit(0).model)
    assert request is not None
    name_current(storage, "r1", request)
    assert score_table(storage, "r1") == []

    write_json(storage, request.failure_key, {"error": "StageError: loss nan"})

    (row,) = score_table(storage, "r1")
    assert (row.encoder, row.cells[0].state) == ("supervised", "failed")
    name_current(storage, "r1", None)
    assert score_table(storage, "r1") == []


def test_metric_names_follow_benchmark_dataset_and_score(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit
) -> None:
    planned = plan_grid(storage, make_request(KNN)).trials[0]
    source = committed_encoder(add_commit(0))
    record = _finish(storage, planned.cells("r1", source)[0], 0.5)
    scores = mean_scores([record])

    assert metric_values(source, planned, scores) == {"evaluate/knn/squares/top1": 0.5}
    assert metric_values(replace(source, name="supervised"), planned, scores) == {
        "evaluate/supervised/knn/squares/top1": 0.5
    }


def test_a_run_that_was_never_evaluated_has_an_empty_table(storage: Storage) -> None:
    assert score_table(storage, "r1") == []
