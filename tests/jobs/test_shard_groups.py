"""Groups of samples, from a table to the index."""

import json
from collections import Counter
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.shard import plan_dataset, shard_dataset
from sigma_pipeline.jobs.shard_plan import DatasetPlan

TEN_VIDEOS = "actions/weizmann64/*/0000000?.mp4"


def planned(source: Path, scratch_dir: Path, **options: str) -> DatasetPlan:
    dataset = DatasetConfig.model_validate(
        {
            "source": str(source),
            "catalogue": "table",
            "splits": {"all": "SOURCES.csv"},
            "options": options,
        }
    )
    return plan_dataset("weizmann", dataset, ShardConfig(samples_per_shard=64), scratch_dir)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "store"))


def test_performers_of_real_videos_reach_the_index_and_the_tars(
    real_videos: Path, storage: Storage, tmp_path: Path
) -> None:
    plan = planned(real_videos, tmp_path, only=TEN_VIDEOS, group_column="group")

    shard_dataset(
        plan,
        storage=storage,
        shard=ShardConfig(max_rejected_fraction=0),
        workers=1,
        journal=None,
        attempt="a1",
        force=False,
    )

    index = Index.load(storage, plan.refs["all"])
    found = Counter((row.class_name, row.group) for row in index.rows)
    assert found == {
        ("bend", "person1"): 2,
        ("jack", "person1"): 2,
        ("wave1", "person1"): 2,
        ("wave2", "person1"): 2,
        ("wave2", "person2"): 2,
    }
    row = index.rows[0]
    described = next(member for member in row.members if member.name.endswith(".json"))
    tar = f"{plan.refs['all'].prefix}/{row.tar}"
    content = json.loads(storage.read(tar, described.offset, described.size))
    assert content["group"] == row.group


def test_files_that_only_leaves_out_do_not_count(real_videos: Path, tmp_path: Path) -> None:
    (split,) = planned(real_videos, tmp_path, only="actions/weizmann64/*").splits

    assert split.num_videos == 40
    assert not any(row.counted for row in split.left_out)
    others = [row for row in split.left_out if row.source.startswith("actions/arid/")]
    assert {row.reason for row in others} == {"not_listed"}


def test_another_group_makes_another_version(real_videos: Path, tmp_path: Path) -> None:
    plain = planned(real_videos, tmp_path, only=TEN_VIDEOS)
    grouped = planned(real_videos, tmp_path, only=TEN_VIDEOS, group_column="group")

    assert plain.versions != grouped.versions
