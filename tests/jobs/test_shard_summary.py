"""What is said of a dataset's inputs."""

from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.data_prep.config import ShardConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.sample import SampleSettings
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import Journal, read_entries
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.shard_plan import DatasetPlan, SplitPlan
from sigma_pipeline.jobs.shard_summary import check_rejected, list_reasons, record_manifests

TRAIN: dict[str, Any] = {
    "version": "v1",
    "root_hash": "abc",
    "samples": 6,
    "frames": 60,
    "bytes": 1000,
    "rejected": 9,
    "rejected_counted": 4,
    "rejected_reasons": {"corrupt": 3, "too_short": 1},
    "inputs_counted": 10,
}
EMPTY = {
    **TRAIN,
    **dict.fromkeys(("samples", "rejected", "rejected_counted", "inputs_counted"), 0),
    "rejected_reasons": {},
}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "store"))


@pytest.fixture
def plan(tmp_path: Path) -> DatasetPlan:
    splits = tuple(SplitPlan(DatasetRef("set", name, "v1"), (), ()) for name in ("train", "val"))
    settings = SampleSettings(2, transcode=None)
    return DatasetPlan("set", splits, (), {}, settings, None, tmp_path)


def test_reasons_are_listed_the_most_frequent_one_first() -> None:
    other = {**TRAIN, "rejected_reasons": {"too_short": 5}}

    assert list_reasons([TRAIN, other]) == " (too_short 6, corrupt 3)"
    assert list_reasons([EMPTY]) == ""


def test_the_datasets_own_limit_of_rejects_comes_before_the_stages(
    plan: DatasetPlan, storage: Storage
) -> None:
    check_rejected([TRAIN, EMPTY], plan, ShardConfig(max_rejected_fraction=0.4), storage)

    with pytest.raises(StageError, match=r"4 of 10 videos were rejected \(corrupt 3, too_short 1"):
        check_rejected([TRAIN, EMPTY], plan, ShardConfig(max_rejected_fraction=0.39), storage)


def test_each_reason_is_counted_in_the_journal(plan: DatasetPlan, storage: Storage) -> None:
    journal = Journal(storage, "run", "one", "shard")

    record_manifests(journal, storage, plan, {"train": TRAIN, "val": EMPTY})

    journal.close()
    entries, _ = read_entries(storage, "run")
    numbers: dict[str, float] = {}
    for entry in entries:
        if entry.kind == "metrics":
            numbers |= entry.fields["values"]
    assert {name: numbers[f"shard/set/train/{name}"] for name in ("samples", "bytes")} == {
        "samples": 6,
        "bytes": 1000,
    }
    assert numbers["shard/set/train/rejected_corrupt"] == 3
    assert numbers["shard/set/train/rejected_too_short"] == 1
    assert numbers["shard/set/train/rejected_fraction"] == 0.4
    assert numbers["shard/set/val/rejected_fraction"] == 0
