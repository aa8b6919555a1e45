"""What sharding a dataset would do."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.data_prep.config import DatasetConfig, RenderedConfig, ShardConfig
from sigma_pipeline.data_prep.demo import render
from sigma_pipeline.infra.errors import MissingInputError
from sigma_pipeline.jobs.shard_plan import DatasetPlan, plan_dataset


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ten files called videos, of 1 to 10 bytes, and one that is not."""
    for number in range(10):
        path = tmp_path / f"source/{'walk' if number % 2 else 'run'}/{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(number + 1))
    (tmp_path / "source/notes.txt").touch()
    return tmp_path / "source"


def planned(source: Path, shard: ShardConfig | None = None, **settings: Any) -> DatasetPlan:
    dataset = DatasetConfig.model_validate({"source": str(source), **settings})
    return plan_dataset("set", dataset, shard or ShardConfig(), source.parent / "scratch")


def test_a_plan_knows_videos_bytes_and_shards_of_each_split(source: Path) -> None:
    train, val = planned(source, ShardConfig(samples_per_shard=3)).splits

    assert (train.num_videos, len(train.units)) == (8, 3)
    assert (val.num_videos, len(val.units)) == (2, 1)
    assert train.source_bytes + val.source_bytes == 55
    assert [row.source for row in train.left_out] == ["notes.txt"]


def test_the_same_source_and_settings_give_the_same_versions(source: Path) -> None:
    assert planned(source).versions == planned(source).versions


def test_a_version_does_not_depend_on_where_the_source_lies(source: Path) -> None:
    before = planned(source).versions

    assert planned(source.rename(source.with_name("moved"))).versions == before


@pytest.mark.parametrize(
    "settings",
    [
        {"min_frames": 3},
        {"sidecars": True},
        {"media": "transcode", "transcode": {"short_side_px": 32}},
        {"check": "packets"},
        {"shard": ShardConfig(samples_per_shard=3)},
    ],
)
def test_other_settings_make_another_version(source: Path, settings: dict[str, Any]) -> None:
    assert planned(source, **settings).versions["val"] != planned(source).versions["val"]


def test_another_video_or_size_makes_another_version(source: Path) -> None:
    versions = [planned(source).versions["train"]]
    (source / "run/new.mp4").touch()
    versions.append(planned(source).versions["train"])
    (source / "run/new.mp4").write_bytes(b"1")
    versions.append(planned(source).versions["train"])

    assert len(set(versions)) == 3


def test_what_does_not_change_the_shards_does_not_change_the_version(source: Path) -> None:
    before = planned(source).versions
    (source / "more_notes.txt").touch()

    assert planned(source, max_rejected_fraction=0.5).versions == before


def test_the_demo_set_is_rendered_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render_here = partial(render, workers=1)  # which starts no processes
    monkeypatch.setattr("sigma_pipeline.jobs.shard_plan.render", render_here)
    rendered = RenderedConfig(train_clips=2, val_clips=1, frames=2, size_px=32)
    dataset = DatasetConfig(source="demo://", sidecars=True, rendered=rendered)

    train, val = plan_dataset("demo", dataset, ShardConfig(), tmp_path).splits

    assert (train.num_videos, val.num_videos) == (2, 1)
    sidecars = [Path(file.name).name for file in val.units[0][0].sidecars]
    assert sidecars[1:] == ["00000.png", "00001.png"]
    assert sidecars[0].endswith(".json")


def test_a_missing_source_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="nowhere"):
        planned(tmp_path / "nowhere")


def test_missing_annotations_name_the_key_to_set(source: Path) -> None:
    with pytest.raises(MissingInputError, match=r"'nowhere'.*datasets\.set\.annotations"):
        planned(source, catalogue="table", annotations="nowhere")


def test_labels_and_lists_are_part_of_the_version(source: Path) -> None:
    lists = source.parent / "lists"
    lists.mkdir()
    (lists / "train.csv").write_text("walk/1.mp4 0\nrun/2.mp4 1\n")
    table = partial(
        planned, source, catalogue="table", annotations=str(lists), splits={"train": "train.csv"}
    )
    before = table()

    (lists / "train.csv").write_text("walk/1.mp4 1\nrun/2.mp4 0\n")

    assert before.splits[0].num_videos == 2
    assert table().versions != before.versions
