"""Sharding datasets, in this process: what is put when, resumed, skipped and refused."""

import io
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.manifest import Manifest
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import Journal, read_entries
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.shard import (
    DatasetPlan,
    build_missing,
    finish_dataset,
    plan_dataset,
    shard_dataset,
)
from sigma_pipeline.jobs.shard_progress import Progress
from sigma_pipeline.jobs.shard_unit import UnitTask, build_unit

SHARD = ShardConfig(samples_per_shard=2, max_rejected_fraction=0.3)


class Stopped(Exception):  # noqa: N818 - stands for a kill
    """Ends the stage before a shard."""


class Builder:
    """Makes shards in this process instead of in workers."""

    def __init__(self) -> None:
        self.made = 0
        self.stop_after: int | None = None

    def __call__(
        self, tasks: Sequence[UnitTask], *, workers: int, scratch_dir: Path, progress: Progress
    ) -> None:
        """Does what ``shard_workers.build_units`` does."""
        for task in tasks:
            if self.made == self.stop_after:
                raise Stopped
            prepare_here = partial(prepare, settings=task.settings)
            build_unit(task, prepare_here, progress.add, scratch_dir)
            self.made += 1


@pytest.fixture(autouse=True)
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    builder = Builder()
    monkeypatch.setattr("sigma_pipeline.jobs.shard.build_units", builder)
    return builder


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "store"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ten small videos in two classes: four shards to train on, one of validation."""
    for number in range(10):
        path = tmp_path / f"source/{'walk' if number % 2 else 'run'}/{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = np.full((3, 16, 16, 3), 20 * number, dtype=np.uint8)
        write_video(path, frames, fps=10, crf=20, gop_frames=3)
    return tmp_path / "source"


def planned(source: Path, **settings: Any) -> DatasetPlan:
    dataset = DatasetConfig.model_validate({"source": str(source), **settings})
    return plan_dataset("set", dataset, SHARD, source.parent / "scratch")


def run(plan: DatasetPlan, storage: Storage, **changes: Any) -> dict[str, Manifest]:
    usual: dict[str, Any] = {
        "shard": SHARD,
        "workers": 1,
        "journal": None,
        "attempt": "one",
        "force": False,
    }
    return shard_dataset(plan, storage=storage, **usual | changes)


def roots(manifests: dict[str, Manifest]) -> dict[str, str]:
    return {split: manifest["root_hash"] for split, manifest in manifests.items()}


def tars(storage: Storage) -> list[str]:
    return [key for key in storage.list("datasets") if key.endswith(".tar")]


def spoil(source: Path, *names: str) -> None:
    """Puts files that claim to be videos and are none."""
    for name in names:
        (source / name).write_bytes(b"\0\0\0\x18ftypmp42" + bytes(40))


def test_every_video_is_a_sample_of_its_split(source: Path, storage: Storage) -> None:
    plan = planned(source)

    manifests = run(plan, storage)

    indexes = {split: Index.load(storage, ref) for split, ref in plan.refs.items()}
    assert {split: len(index) for split, index in indexes.items()} == {"train": 8, "val": 2}
    assert {split: manifests[split]["samples"] for split in manifests} == {"train": 8, "val": 2}
    for index in indexes.values():
        for i, row in enumerate(index.rows):
            assert index.read_media(storage, i) == (source / row.source).read_bytes()
            assert index.classes[index.labels[i]] == row.source.split("/")[0]


def test_the_tars_hold_the_samples_of_the_index_and_no_others(
    source: Path, storage: Storage
) -> None:
    plan = planned(source)

    run(plan, storage)

    names = []
    for key in tars(storage):
        with tarfile.open(fileobj=io.BytesIO(storage.read(key))) as tar:
            names += tar.getnames()
    rows = [row for ref in plan.refs.values() for row in Index.load(storage, ref).rows]
    assert sorted(names) == sorted(member.name for row in rows for member in row.members)


def test_a_finished_dataset_is_left_as_it_is(
    source: Path, storage: Storage, builder: Builder
) -> None:
    first = run(planned(source), storage)
    builder.made = 0

    second = run(planned(source), storage, attempt="two")

    assert builder.made == 0
    assert second == first


@pytest.mark.parametrize("stop_after", [0, 1, 4])
def test_a_stopped_run_is_finished_by_the_next_one_and_comes_out_the_same(
    source: Path, storage: Storage, tmp_path: Path, builder: Builder, stop_after: int
) -> None:
    undisturbed = run(planned(source), open_storage(str(tmp_path / "undisturbed")))
    builder.made, builder.stop_after = 0, stop_after
    with pytest.raises(Stopped):
        run(planned(source), storage, attempt="two")
    storage.write(f"{planned(source).refs['train'].prefix}/shard-000003.two.tar", b"half a tar")
    builder.made, builder.stop_after = 0, None

    resumed = run(planned(source), storage, attempt="three")

    assert builder.made == 5 - stop_after
    assert roots(resumed) == roots(undisturbed)
    assert len(tars(storage)) == 5


def test_of_two_runs_at_once_the_slower_adopts_what_the_faster_made(
    source: Path, storage: Storage, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(source)

    def overtaken(tasks: Sequence[UnitTask], **settings: Any) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("sigma_pipeline.jobs.shard.build_units", builder)
            run(plan, storage, attempt="faster")
        builder(tasks, **settings)

    monkeypatch.setattr("sigma_pipeline.jobs.shard.build_units", overtaken)

    manifests = run(plan, storage, attempt="slower")

    assert {manifest["attempt"] for manifest in manifests.values()} == {"faster"}
    assert all(".faster.tar" in key for key in tars(storage))


def test_a_dataset_is_not_finished_before_all_shards_are_there(
    source: Path, storage: Storage, builder: Builder
) -> None:
    plan = planned(source)
    builder.stop_after = 3
    with pytest.raises(Stopped):
        build_missing(plan, storage=storage, workers=1, attempt="one")

    with pytest.raises(StageError, match="1 of 4 shards are not made yet"):
        finish_dataset(plan, storage=storage, shard=SHARD, journal=None, attempt="one")

    assert not any(key.endswith("manifest.json") for key in storage.list("datasets"))


def test_forced_a_dataset_is_made_anew(source: Path, storage: Storage) -> None:
    first = run(planned(source), storage)

    second = run(planned(source), storage, attempt="two", force=True)

    assert {manifest["attempt"] for manifest in second.values()} == {"two"}
    assert roots(second) == roots(first)
    assert all(".two.tar" in key for key in tars(storage))


def test_a_reject_moves_no_other_sample(source: Path, storage: Storage, tmp_path: Path) -> None:
    before = run(planned(source), storage)
    first = Index.load(storage, planned(source).refs["train"]).rows[0]
    (source / first.source).write_bytes(bytes((source / first.source).stat().st_size))
    other = open_storage(str(tmp_path / "other"))

    after = run(planned(source), other)

    assert after["train"]["samples"] == before["train"]["samples"] - 1
    kept = Index.load(other, planned(source).refs["train"]).rows
    assert {row.key: row.shard for row in kept} == {
        row.key: row.shard
        for row in Index.load(storage, planned(source).refs["train"]).rows
        if row.key != first.key
    }


def test_too_many_rejects_stop_before_the_manifest_and_the_limit_can_be_raised(
    source: Path, storage: Storage, builder: Builder
) -> None:
    spoil(source, *(f"bad{n}.mp4" for n in range(6)))

    with pytest.raises(
        StageError, match=r"6 of 16 videos were rejected \(unreadable 6\).*_fraction=0\.3"
    ):
        run(planned(source), storage)

    ledgers = [key for key in storage.list("datasets") if key.endswith("rejected.parquet")]
    reasons = [
        reason
        for key in ledgers
        for reason in pd.read_parquet(io.BytesIO(storage.read(key)))["reason"]
    ]
    assert reasons == ["unreadable"] * 6
    assert not any(key.endswith("manifest.json") for key in storage.list("datasets"))
    builder.made = 0
    raised = run(planned(source, max_rejected_fraction=0.5), storage)
    assert builder.made == 0
    assert raised["train"]["rejected"] + raised["val"]["rejected"] == 6


def test_files_that_claim_to_be_no_videos_do_not_count(source: Path, storage: Storage) -> None:
    for number in range(20):
        (source / f"notes{number}.txt").touch()

    manifests = run(planned(source), storage)

    assert manifests["train"]["rejected"] == 20
    assert manifests["train"]["rejected_counted"] == 0


def test_a_dataset_without_a_usable_video_is_an_error(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "source").mkdir()
    spoil(tmp_path / "source", "a.mp4")

    with pytest.raises(StageError, match="no usable video"):
        run(planned(tmp_path / "source", max_rejected_fraction=1), storage)


def test_a_single_video_leaves_the_other_split_empty(source: Path, storage: Storage) -> None:
    for path in [*source.glob("walk/*"), *source.glob("run/[2-8].mp4")]:
        path.unlink()

    run(planned(source), storage)

    assert len(Index.load(storage, planned(source).refs["train"])) == 1
    assert len(Index.load(storage, planned(source).refs["val"])) == 0


def test_numbers_and_versions_go_to_the_journal(source: Path, storage: Storage) -> None:
    journal = Journal(storage, "run", "one", "shard")

    manifests = run(planned(source), storage, journal=journal)

    journal.close()
    entries, _ = read_entries(storage, "run")
    numbers = [entry.fields["values"] for entry in entries if entry.kind == "metrics"]
    datasets = {e.fields["split"]: e.fields["root_hash"] for e in entries if e.kind == "dataset"}
    assert numbers[0]["shard/set/train/samples"] == 8
    assert datasets == roots(manifests)
