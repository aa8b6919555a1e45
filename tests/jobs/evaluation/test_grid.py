"""Planning: recipes against datasets."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.rows import encode_rows
from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.planned_trials import chosen_commits, read_grid

MakeRequest = Callable[..., EvaluateRequest]
KNN = {"benchmark": "knn"}
UVOS = {"benchmark": "uvos"}


@pytest.fixture
def bare_splits(storage: Storage) -> dict[tuple[str, str], DatasetRef]:
    """A dataset ``bare`` with neither labels nor masks."""
    refs = {}
    for split in ("train", "val"):
        index = Index.load(storage, DatasetRef("squares", split, "v1"))
        ref = DatasetRef("bare", split, "v1")
        rows = [
            replace(row, label=None, class_name=None, members=row.members[:1]) for row in index.rows
        ]
        storage.write(ref.index_key, encode_rows(rows))
        manifest = {"samples": len(rows), "classes": [], "root_hash": "0"}
        write_json(storage, ref.manifest_key, manifest)
        refs["bare", split] = ref
    return refs


@pytest.mark.parametrize(
    ("every", "is_final", "chosen"),
    [
        (1, False, [0, 1, 2, 3, 4, 5]),
        (2, False, [0, 2, 4]),
        (2, True, [0, 2, 4, 5]),
        (5, True, [0, 5]),
        (9, False, [0]),
    ],
)
def test_each_nth_commit_is_chosen_and_the_last_at_the_end(
    every: int, is_final: bool, chosen: list[int]
) -> None:
    assert chosen_commits(range(6), every, is_final=is_final) == chosen


def test_defaults_of_a_benchmark_are_part_of_its_trial(
    storage: Storage, make_request: MakeRequest
) -> None:
    grid = plan_grid(storage, make_request(KNN | {"settings": {"k": 5}}, UVOS))

    knn, uvos = (planned.trial for planned in grid.trials)
    assert knn.settings == {"leave_one_group_out": False, "k": 5, "temperature": 0.07}
    assert knn.refs == (DatasetRef("squares", "train", "v1"), DatasetRef("squares", "val", "v1"))
    assert uvos.refs == (DatasetRef("squares", "val", "v1"),)
    assert read_grid(storage, "r1") == grid.trials


def test_all_wrong_settings_are_named_at_once(storage: Storage, make_request: MakeRequest) -> None:
    request = make_request(
        KNN | {"settings": {"k": 0}}, UVOS | {"settings": {"neighbours": 3, "restarts": "x"}}
    )

    with pytest.raises(ConfigError) as caught:
        plan_grid(storage, request)

    for key in (
        "cells.0.settings.k:",
        "cells.1.settings.neighbours:",
        "cells.1.settings.restarts:",
    ):
        assert f"evaluate.{key}" in str(caught.value)


def test_a_dataset_without_labels_or_masks_is_skipped_with_a_word(
    storage: Storage,
    make_request: MakeRequest,
    bare_splits: dict[tuple[str, str], DatasetRef],
    caplog: pytest.LogCaptureFixture,
) -> None:
    request = make_request(
        KNN | {"dataset": "bare"}, UVOS | {"dataset": "bare"}, KNN, supervised={"dataset": "bare"}
    )
    request = replace(request, datasets={**request.datasets, **bare_splits})

    with caplog.at_level(logging.WARNING):
        grid = plan_grid(storage, request)

    assert [planned.skipped for planned in grid.trials] == [
        "split 'train' of dataset 'bare' has no class labels",
        "split 'val' of dataset 'bare' has no object masks",
        None,
    ]
    assert [planned.trial.dataset for planned in grid.possible] == ["squares"]
    assert grid.supervised_ref is None
    assert len(caplog.messages) == 3


def test_a_split_that_was_not_sharded_names_the_command(
    storage: Storage, make_request: MakeRequest
) -> None:
    with pytest.raises(MissingInputError, match=r"split 'test'.*--stage shard"):
        plan_grid(storage, make_request(KNN | {"test_split": "test"}))


def test_settings_that_changed_never_continue_a_curve(
    storage: Storage, make_request: MakeRequest
) -> None:
    first = plan_grid(storage, make_request(KNN)).trials[0]
    again, other = plan_grid(storage, make_request(KNN, KNN | {"settings": {"k": 5}})).trials

    assert (first.label, again.label) == ("knn", "knn")
    assert other.label == f"knn-{other.trial.fingerprint[:6]}"


def test_each_split_is_encoded_once_for_all_benchmarks(
    storage: Storage, make_request: MakeRequest, add_commit: Callable[..., Commit]
) -> None:
    grid = plan_grid(storage, make_request(KNN, {"benchmark": "linear"}, UVOS))
    source = committed_encoder(add_commit(0))

    keys = {
        (request.key, request.ref.split, request.has_tokens)
        for planned in grid.trials
        for request in grid.features(planned.trial, source)
    }

    assert sorted(key[1:] for key in keys) == [("train", False), ("val", True)]
