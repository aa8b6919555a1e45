"""The list of benchmarks says of each split whether it has what a benchmark needs."""

from dataclasses import replace

import pytest

from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.rows import encode_rows
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmark_list import ListedBenchmark, SplitState, benchmark_list

TRAIN, VAL = (DatasetRef("squares", split, "v1") for split in ("train", "val"))


def by_name(storage: Storage, refs: dict[str, DatasetRef | None]) -> dict[str, ListedBenchmark]:
    found = benchmark_list(storage, {("squares", split): ref for split, ref in refs.items()})
    return {one.name: one for one in found}


def test_a_split_is_ready_or_lacks_something_or_is_not_sharded(storage: Storage) -> None:
    listed = by_name(storage, {"train": TRAIN, "val": VAL, "test": None})

    not_sharded = SplitState(
        "squares", "test", "not sharded", "make it with: sigma-pipeline run --stage shard"
    )
    ready = [SplitState("squares", split, "ready") for split in ("train", "val")]
    assert listed["knn"].splits == (*ready, not_sharded)
    no_masks = "split 'train' of dataset 'squares' has no object masks"
    lacking = SplitState("squares", "train", "lacking", no_masks)
    assert listed["uvos"].splits == (lacking, ready[1], not_sharded)
    assert listed["uvos"].needs == ("object masks", "tokens")
    assert listed["davis"].needs == ("object masks", "encoder")
    assert list(listed) == sorted(listed)


@pytest.mark.parametrize("train", [{}, {"train": None}], ids=["not there", "not sharded"])
def test_what_learns_lacks_a_training_split_where_the_scored_one_is_alone(
    storage: Storage, train: dict[str, DatasetRef | None]
) -> None:
    listed = by_name(storage, {"val": VAL, **train})

    reason = "dataset 'squares' lacks a split to learn this from beside 'val'"
    lacking = SplitState("squares", "val", "lacking", reason)
    assert [listed[name].splits[0] for name in ("knn", "linear", "linear_augmented")] == [
        lacking
    ] * 3
    assert listed["uvos"].splits[0].state == "ready"


def test_a_split_without_labels_lacks_them(storage: Storage) -> None:
    rows = [replace(row, label=None, class_name=None) for row in Index.load(storage, VAL).rows]
    storage.write(VAL.index_key, encode_rows(rows))

    listed = by_name(storage, {"val": VAL})

    assert listed["knn"].splits[0].reason.endswith("has no class labels")
    assert listed["uvos"].splits[0].state == "ready"


def test_counting_takes_splits_whose_annotations_bound_cycles(storage: Storage) -> None:
    rows = [replace(row, annotation=None) for row in Index.load(storage, VAL).rows]
    rows[3] = replace(rows[3], annotation='{"boundaries": [0, 3, 7]}')
    storage.write(VAL.index_key, encode_rows(rows))

    listed = by_name(storage, {"train": TRAIN, "val": VAL})["counting"]

    assert listed.needs == ("training split", "cycle boundaries", "encoder")
    assert [each.reason for each in listed.splits] == [
        "split 'train' of dataset 'squares' has no annotation with boundaries of cycles",
        "dataset 'squares' lacks a split to learn this from beside 'val'",
    ]


def test_detection_takes_splits_whose_annotations_have_boxes(storage: Storage) -> None:
    annotations = {TRAIN: "[[0, 0, 1, 1, 12, 0]]", VAL: "[]"}
    for ref, boxes in annotations.items():
        text = f'{{"boxes": {{"902": {boxes}}}}}'
        rows = [replace(row, annotation=text) for row in Index.load(storage, ref).rows]
        storage.write(ref.index_key, encode_rows(rows))

    listed = by_name(storage, {"train": TRAIN, "val": VAL})["detection"]

    assert listed.needs == ("training split", "boxes of persons", "encoder")
    assert listed.splits[1].reason == (
        "split 'val' of dataset 'squares' has no annotation with boxes of persons by second"
    )
