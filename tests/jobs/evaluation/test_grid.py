"""Planning: recipes against datasets."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sigma_pipeline.data_prep.config import MultiViewConfig, ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.rows import encode_rows
from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.benchmarks.table import build_benchmark
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.config import CellConfig, EvaluateConfig, EvaluateLaunchConfig
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.obstacles import cell_problems
from sigma_pipeline.jobs.planned_trials import read_grid
from tests.jobs.evaluation.conftest import MODEL

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
        (request.key, request.ref.split, request.layers)
        for planned in grid.trials
        for request in grid.features(planned.trial, source)
    }

    assert sorted(key[1:] for key in keys) == [("train", ()), ("val", (-1,))]


def test_features_take_what_the_cell_with_most_gpus_takes_that_is_made(
    storage: Storage, make_request: MakeRequest, add_commit: Callable[..., Commit]
) -> None:
    many_cpus = KNN | {"cpus": 8, "gpus": 0, "memory_gib": 64, "deadline_min": 9}
    one_gpu = {"benchmark": "linear", "cpus": 2, "gpus": 1, "deadline_min": 1}
    skipped = UVOS | {"test_split": "train", "gpus": 4}
    grid = plan_grid(storage, make_request(many_cpus, one_gpu, skipped))

    train, test = grid.features(grid.trials[0].trial, committed_encoder(add_commit(0)))

    assert grid.feature_limits(train) == grid.feature_limits(test) == TaskLimits(2, 1, None, 540)
    assert (train.decoders, test.decoders) == (1, 1)


def test_all_tasks_that_may_come_are_known_with_what_they_take(
    storage: Storage, make_request: MakeRequest
) -> None:
    launch = EvaluateLaunchConfig(cpus_per_task=2, gpus_per_task=0.5)
    cells = KNN | {"cpus": 1}, UVOS | {"test_split": "train"}
    request = make_request(*cells, pictures=True, supervised={"dataset": "squares"})

    limits = plan_grid(storage, replace(request, launch=launch)).limits

    assert limits == {
        "knn on squares": TaskLimits(1, 0.5),
        "the picture of a commit": TaskLimits(2),
        "the supervised reference": TaskLimits(2, 0.5),
    }


def test_a_cells_own_view_goes_before_the_recipes_and_that_before_the_benchmarks(
    storage: Storage, make_request: MakeRequest
) -> None:
    own = {"segments": 2, "crops": 1, "frame_stride": 3}
    grid = plan_grid(storage, make_request(KNN | {"view": own}, KNN, UVOS | {"view": {}}))
    silent = make_request(UVOS)
    silent = replace(silent, evaluate=silent.evaluate.model_copy(update={"view": None}))

    views = [planned.trial.view for planned in grid.trials]

    assert views == [
        MultiViewConfig(segments=2, crops=1, frame_stride=3),
        ViewConfig(frame_stride=2, crop="resize"),
        ViewConfig(),
    ]
    (planned,) = plan_grid(storage, silent).trials
    assert planned.trial.view == build_benchmark("uvos", {}).needs.view


def test_a_protocol_whose_own_view_gives_way_to_the_recipes_says_so(
    storage: Storage, make_request: MakeRequest
) -> None:
    general = {"frame_stride": 2, "crop": "resize"}
    request = make_request(
        UVOS,
        {"benchmark": "linear_augmented"},
        UVOS | {"view": general},
        KNN,
        {"benchmark": "davis"},
    )
    own_as_well = make_request(UVOS)
    view = ViewConfig(sampling="random", crop="resize", num_frames=2)
    evaluate = own_as_well.evaluate.model_copy(update={"view": view})

    grid = plan_grid(storage, request)

    of_uvos, of_linear, *others = (planned.notes for planned in grid.trials)
    assert of_uvos == (
        "clips are cut as evaluate.view says, not as this protocol does (sampling random, crop "
        "resize); set the cell's view to choose",
    )
    assert "(sampling segments, segments 2, crops 3)" in of_linear[0]
    assert others == [(), (), ()]
    assert read_grid(storage, "r1") == grid.trials
    assert plan_grid(storage, replace(own_as_well, evaluate=evaluate)).trials[0].notes == ()


def test_training_splits_are_seen_through_one_view_and_shared_with_cells_of_one_view(
    storage: Storage, make_request: MakeRequest, add_commit: Callable[..., Commit]
) -> None:
    several = {"segments": 2, "frame_stride": 2, "crop": "resize"}
    grid = plan_grid(storage, make_request(KNN | {"view": several}, {"benchmark": "linear"}, UVOS))
    source = committed_encoder(add_commit(0))

    (train, test), (other_train, other_test), (clips,) = (
        grid.features(planned.trial, source) for planned in grid.trials
    )

    assert (train.view.views, test.view.views) == (1, 2)
    assert train.key == other_train.key
    assert other_test.key == clips.key != test.key
    assert (test.layers, clips.layers) == ((), (-1,))


@pytest.mark.parametrize(
    ("cell", "evaluate", "problem"),
    [
        (
            UVOS | {"view": {"segments": 2}},
            {},
            "evaluate.cells.0.view: uvos reads a feature of each token, which are kept of one view "
            "of a video, not of 6; remove segments and crops",
        ),
        (
            KNN | {"view": {"num_frames": 16}},
            {},
            "evaluate.cells.0.view.num_frames: clips of 16 frames are not for this model: it takes "
            "multiples of model.tubelet_frames=2 up to model.num_frames=4",
        ),
        (
            KNN,
            {"view": ViewConfig(num_frames=3)},
            "evaluate.view.num_frames: clips of 3 frames are not for this model: it takes "
            "multiples of model.tubelet_frames=2 up to model.num_frames=4",
        ),
        (KNN | {"view": {"num_frames": 2}}, {}, None),
        ({"benchmark": "davis", "view": {"num_frames": 16}}, {}, None),
    ],
)
def test_views_that_a_benchmark_or_the_model_cannot_take_are_named(
    cell: dict[str, Any], evaluate: dict[str, Any], problem: str | None
) -> None:
    config = EvaluateConfig(
        cells=(CellConfig.model_validate({"dataset": "squares"} | cell),), **evaluate
    )
    benchmark = build_benchmark(cell["benchmark"], {})

    assert list(cell_problems(config, 0, benchmark, MODEL)) == ([problem] if problem else [])
