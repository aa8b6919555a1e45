"""Features are kept below a bound: what goes first, what waits, what comes again."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import features
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.feature_files import FeaturePlan
from sigma_pipeline.jobs.feature_request import FeatureRequest
from sigma_pipeline.jobs.feature_space import FeatureSpace, clear, reserve, stored_sets
from sigma_pipeline.jobs.features import extract_features, ready_features
from sigma_pipeline.jobs.scores import score_table
from sigma_pipeline.model.encoder import Encoder

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]
Evaluate = Callable[..., int]
GIB = 1 << 30


@pytest.fixture
def requests(val_features: FeatureRequest, add_commit: AddCommit) -> list[FeatureRequest]:
    """Features of three commits; two sets fit."""
    limit_gib = 2.5 * val_features.num_bytes / GIB
    return [
        replace(val_features, source=committed_encoder(add_commit(step)), limit_gib=limit_gib)
        for step in (0, 5, 10)
    ]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[FeatureRequest]:
    """Of each pass of an encoder over a part of a split, whose features it was for."""
    made: list[FeatureRequest] = []
    encode = features._encode

    def watched(encoder: Encoder, batches: Iterable[Tensor], request: FeatureRequest) -> Any:
        made.append(request)
        return encode(encoder, batches, request)

    monkeypatch.setattr(features, "_encode", watched)
    return made


def kept(storage: Storage) -> set[str]:
    """Folders of the sets that are there."""
    return {one.folder for one in stored_sets(storage, "r1")}


def test_the_size_is_known_before_anything_is_extracted(
    storage: Storage, val_features: FeatureRequest, tmp_path: Path
) -> None:
    extract_features(storage, val_features, str(tmp_path))

    arrays = [key for key in storage.list(val_features.folder) if key.endswith(".npy")]
    headers = 128 * len(arrays)
    assert sum(len(storage.read(key)) for key in arrays) == val_features.num_bytes + headers


def test_the_oldest_set_goes_before_a_new_one_is_written(
    storage: Storage, requests: list[FeatureRequest], tmp_path: Path
) -> None:
    for request in requests:
        extract_features(storage, request, str(tmp_path))

        held = sum(one.num_bytes for one in stored_sets(storage, "r1"))
        assert held <= request.limit_gib * GIB

    assert kept(storage) == {request.folder for request in requests[1:]}
    assert storage.list(requests[0].folder) == []


def test_what_cells_wait_for_goes_last(
    storage: Storage, requests: list[FeatureRequest], tmp_path: Path
) -> None:
    first, second, third = requests
    for request in (first, second):
        extract_features(storage, request, str(tmp_path))

    reserve(storage, third, needed=[first.folder])

    assert kept(storage) == {first.folder, third.folder}


def test_what_another_job_is_making_stays_even_where_that_is_too_much(
    storage: Storage, requests: list[FeatureRequest], tmp_path: Path
) -> None:
    first, second, third = requests
    extract_features(storage, first, str(tmp_path))
    reserve(storage, second)  # as the other job does first
    tight = replace(third, limit_gib=third.num_bytes / GIB)

    reserve(storage, tight, needed=[first.folder])

    assert kept(storage) == {second.folder, third.folder}


def test_what_an_extraction_of_this_job_left_unfinished_goes_when_there_is_no_room(
    storage: Storage, requests: list[FeatureRequest]
) -> None:
    space = FeatureSpace(storage, "r1", requests[0].limit_gib)
    for request in requests:
        space.add_reader(f"cell {request.source.step}", [request])
    failed, second, third = requests
    space.begin(failed.key)
    space.end(failed.key)
    space.end("cell 0")
    assert kept(storage) == {failed.folder}  # so that it may be gone on with

    for request in (second, third):
        space.begin(request.key)

    assert kept(storage) == {second.folder, third.folder}


def test_files_that_nobody_has_planned_are_removed_unless_they_are_needed(
    storage: Storage, val_features: FeatureRequest, tmp_path: Path
) -> None:
    extract_features(storage, val_features, str(tmp_path))
    for key in storage.list(val_features.folder):
        if "/plan-" in key:
            storage.delete(key)

    clear(storage, "r1", limit_gib=1, needed=[val_features.folder])
    assert storage.exists(val_features.key)
    clear(storage, "r1", limit_gib=1)
    assert storage.list("runs/r1/features") == []


def test_what_was_left_unfinished_a_day_ago_is_removed_even_where_there_is_room(
    storage: Storage, requests: list[FeatureRequest]
) -> None:
    old, young, _ = requests
    reserve(storage, young)
    storage.write(f"{old.folder}/{FeaturePlan('20250101T000000000000-a', 9).file}", b"")

    clear(storage, "r1", limit_gib=1, needed=[old.folder])
    assert kept(storage) == {old.folder, young.folder}
    clear(storage, "r1", limit_gib=1)
    assert kept(storage) == {young.folder}


def test_features_that_went_are_extracted_again_when_they_are_read(
    storage: Storage, requests: list[FeatureRequest], tmp_path: Path
) -> None:
    before = [ready_features(storage, request, str(tmp_path)) for request in requests]

    after = ready_features(storage, requests[0], str(tmp_path))

    np.testing.assert_array_equal(after.pooled, before[0].pooled)
    assert kept(storage) == {requests[0].folder, requests[2].folder}


def test_an_extraction_waits_until_others_have_been_read(
    storage: Storage, requests: list[FeatureRequest], tmp_path: Path
) -> None:
    space = FeatureSpace(storage, "r1", requests[0].limit_gib)
    for request in requests:
        space.add_reader(f"cell {request.source.step}", [request])
    for request in requests[:2]:
        assert space.has_room(request.key)
        space.begin(request.key)
        extract_features(storage, request, str(tmp_path))
        space.end(request.key)

    assert not space.has_room(requests[2].key)
    assert space.has_room("a cell")
    space.end("cell 5")
    assert space.has_room(requests[2].key)
    space.begin(requests[2].key)
    assert kept(storage) == {requests[0].folder, requests[2].folder}


def test_sets_of_an_earlier_evaluation_count_once_they_are_needed(
    storage: Storage, requests: list[FeatureRequest], tmp_path: Path
) -> None:
    for request in requests[:2]:
        extract_features(storage, request, str(tmp_path))
    space = FeatureSpace(storage, "r1", requests[0].limit_gib)
    space.add_reader("new", [requests[2]])
    assert space.has_room(requests[2].key)

    space.add_reader("both", requests[:2])

    assert not space.has_room(requests[2].key)


def test_too_many_sets_are_removed_when_a_cell_has_ended(
    storage: Storage, requests: list[FeatureRequest], tmp_path: Path
) -> None:
    generous = [replace(request, limit_gib=1) for request in requests]
    for request in generous:
        extract_features(storage, request, str(tmp_path))
    space = FeatureSpace(storage, "r1", requests[0].limit_gib)
    space.add_reader("a", [generous[0], generous[1]])
    space.add_reader("b", [generous[0]])

    space.end("a")

    assert kept(storage) == {generous[0].folder, generous[2].folder}


def test_an_evaluation_of_many_commits_keeps_below_the_bound_and_encodes_nothing_twice(
    storage: Storage,
    make_request: MakeRequest,
    add_commit: AddCommit,
    evaluate: Evaluate,
    passes: list[FeatureRequest],
) -> None:
    for step in (0, 5, 10):
        add_commit(step)
    pooled_bytes = (24 + 12) * 16 * 4  # of one commit, both splits
    limit_gib = 1.4 * pooled_bytes / GIB

    evaluate(make_request({"benchmark": "knn"}, {"benchmark": "linear"}, features_gib=limit_gib))

    assert len(passes) == len({request.key for request in passes}) == 6
    assert sum(one.num_bytes for one in stored_sets(storage, "r1")) <= limit_gib * GIB
    states = [cell.state for row in score_table(storage, "r1") for cell in row.cells]
    assert states == ["done"] * 6


def test_a_set_that_never_fits_is_a_failed_row_and_the_others_go_on(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0)
    cells = {"benchmark": "knn"}, {"benchmark": "uvos", "view": {"frame_stride": 1}}

    with pytest.raises(StageError, match=r"evaluate\.features_gib=3e-06: raise that"):
        evaluate(make_request(*cells, features_gib=3e-6))

    (row,) = score_table(storage, "r1")
    assert [cell.state for cell in row.cells] == ["done", "failed"]
    assert "take 1.22e-05 GiB" in row.cells[1].reason
