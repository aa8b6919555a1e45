"""One group left out at a time, from an index with groups to a stored cell."""

import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.rows import encode_rows
from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.features import ready_features
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scoring import run_cell

MakeRequest = Callable[..., EvaluateRequest]
AddCommit = Callable[..., Commit]
VAL = DatasetRef("squares", "val", "v1")
GROUPS = [f"person{number // 3 % 4}" for number in range(12)]


def left_out(benchmark: str, **settings: Any) -> dict[str, Any]:
    """A cell over the groups of one split."""
    return {
        "benchmark": benchmark,
        "train_split": "val",
        "test_split": "val",
        "settings": {"leave_one_group_out": True, **settings},
    }


def put_groups(storage: Storage, groups: Sequence[str | None], *, unlabelled: int = 0) -> None:
    """Gives the samples of the validation split these groups, and the first ones no label."""
    rows = list(Index.load(storage, VAL).rows)
    rows[:unlabelled] = [replace(row, label=None, class_name=None) for row in rows[:unlabelled]]
    named = [replace(row, group=group) for row, group in zip(rows, groups, strict=True)]
    storage.write(VAL.index_key, encode_rows(named))


@pytest.fixture
def grouped(storage: Storage) -> Storage:
    """The validation split with four performers, each of whom shows three colours."""
    put_groups(storage, GROUPS)
    return storage


def test_features_carry_the_groups_of_their_samples(
    grouped: Storage, make_request: MakeRequest, add_commit: AddCommit, tmp_path: Path
) -> None:
    grid = plan_grid(grouped, make_request(left_out("knn")))
    request = grid.features(grid.trials[0].trial, committed_encoder(add_commit(0)))[0]

    assert ready_features(grouped, request, str(tmp_path)).groups == GROUPS


@pytest.mark.parametrize("benchmark", ["knn", "linear"])
def test_a_split_is_encoded_once_and_all_of_it_is_scored(
    grouped: Storage,
    make_request: MakeRequest,
    add_commit: AddCommit,
    tmp_path: Path,
    benchmark: str,
) -> None:
    grid = plan_grid(grouped, make_request(left_out(benchmark)))
    cell = grid.trials[0].cells("r1", committed_encoder(add_commit(0)))[0]

    run_cell(grouped, grid.cell_request(grid.trials[0], cell))

    record = CellRecord.read(grouped, cell)
    assert record is not None
    assert len({key.split("/")[3] for key in grouped.list("runs/r1/features")}) == 1
    assert "each of 4 groups left out in turn: 12 samples" in record.notes
    assert record.scores[0].value > 0.6  # as with two splits: colours are the same for all
    outcomes = pq.read_table(io.BytesIO(grouped.read(record.outcomes)))
    assert outcomes["key"].to_pylist() == [f"val-{number}" for number in range(12)]
    assert outcomes["group"].to_pylist() == GROUPS


def test_two_splits_are_refused_with_what_to_set(
    grouped: Storage, make_request: MakeRequest
) -> None:
    request = make_request(
        {"benchmark": "knn"}, left_out("linear") | {"train_split": "train"}, left_out("knn", k=0)
    )

    with pytest.raises(ConfigError) as caught:
        plan_grid(grouped, request)

    assert str(caught.value).startswith(
        "evaluate.cells.1: leave_one_group_out takes one split, but train_split is 'train' and "
        "test_split 'val'; set both to "
    )
    assert "; evaluate.cells.2.settings.k: " in str(caught.value)


def test_a_dataset_without_groups_is_skipped_with_a_word(
    storage: Storage, make_request: MakeRequest, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        grid = plan_grid(storage, make_request(left_out("knn"), {"benchmark": "linear"}))

    why = "12 of 12 labelled samples of split 'val' of dataset 'squares' have no group"
    assert [planned.skipped for planned in grid.trials] == [why, None]
    assert caplog.messages == [f"knn on squares is skipped: {why}"]


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ([None, *GROUPS[1:]], "1 of 12 labelled samples of split 'val' of {} have no group"),
        (["ann"] * 12, "all 12 labelled samples of split 'val' of {} are of group 'ann'"),
    ],
)
def test_groups_that_cannot_be_left_out_are_found_before_anything_is_encoded(
    storage: Storage, make_request: MakeRequest, groups: list[str | None], why: str
) -> None:
    put_groups(storage, groups)

    grid = plan_grid(storage, make_request(left_out("knn"), {"benchmark": "linear"}))

    expected = why.format("dataset 'squares'")
    assert [planned.skipped for planned in grid.trials] == [expected, None]


def test_samples_without_a_label_need_no_group_and_make_none(
    storage: Storage, make_request: MakeRequest
) -> None:
    request = make_request(left_out("knn"))

    put_groups(storage, [None, None, *GROUPS[2:]], unlabelled=2)
    possible = plan_grid(storage, request)
    put_groups(storage, ["bob", "bob", *["ann"] * 10], unlabelled=2)
    one_group = plan_grid(storage, request)

    assert possible.trials[0].skipped is None
    assert one_group.trials[0].skipped == (
        "all 10 labelled samples of split 'val' of dataset 'squares' are of group 'ann'"
    )


def test_a_supervised_reference_never_learns_the_labels_of_a_group_that_is_left_out(
    grouped: Storage, make_request: MakeRequest
) -> None:
    cells = {"benchmark": "knn"}, left_out("linear")
    reference = {"dataset": "squares", "split": "val"}

    with pytest.raises(ConfigError) as caught:
        plan_grid(grouped, make_request(*cells, supervised=reference))

    assert str(caught.value).startswith(
        "evaluate.supervised: trains on squares/val, so that it would know the labels of each "
        "group that evaluate.cells.1 leaves out; "
    )
    assert plan_grid(grouped, make_request(*cells, supervised={"dataset": "squares"}))
    assert plan_grid(grouped, make_request(cells[0], supervised=reference))


def test_a_cell_tested_on_what_it_learned_from_says_so(
    grouped: Storage, make_request: MakeRequest
) -> None:
    same = {"benchmark": "knn", "train_split": "val"}

    trials = plan_grid(grouped, make_request(same, left_out("knn"), {"benchmark": "linear"})).trials

    told = [any("its score says nothing of others" in note for note in one.notes) for one in trials]
    assert told == [True, False, False]
