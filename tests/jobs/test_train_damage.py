"""A shard that is damaged after it was made: training says which, and goes on once it is mended."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import newest_commit
from sigma_pipeline.jobs.shard import shard_dataset
from sigma_pipeline.jobs.shard_check import check_shard
from sigma_pipeline.jobs.shard_plan import DatasetPlan, plan_dataset
from sigma_pipeline.jobs.shard_progress import Progress
from sigma_pipeline.jobs.shard_repair import repair_split
from sigma_pipeline.jobs.shard_unit import UnitTask, build_unit
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_replaced import read_replaced
from sigma_pipeline.jobs.train_request import TrainRequest

pytestmark = [
    pytest.mark.usefixtures("one_rank"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]
SHARD = ShardConfig(samples_per_shard=6)


@pytest.fixture
def plan(tmp_path: Path) -> DatasetPlan:
    """Eighteen small videos of noise, for three shards."""
    for number in range(18):
        path = tmp_path / f"source/{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        blocks = np.random.default_rng(number).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
        video = blocks.repeat(8, axis=1).repeat(8, axis=2)
        write_video(path, video, fps=10, crf=10, gop_frames=3)
    source = str(tmp_path / "source")
    dataset = DatasetConfig(source=source, splits={"train": 1.0})
    return plan_dataset("clips", dataset, SHARD, tmp_path / "scratch")


@pytest.fixture
def sharded(plan: DatasetPlan, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> DatasetRef:
    """Their split in the store, made by the shard job, but for its processes."""

    def build_here(
        tasks: Sequence[UnitTask], *, workers: int, scratch_dir: Path, progress: Progress
    ) -> None:
        for task in tasks:
            make = partial(prepare, settings=task.settings)
            build_unit(task, make, progress.add, scratch_dir)

    monkeypatch.setattr("sigma_pipeline.jobs.shard.build_units", build_here)
    shard_dataset(
        plan, storage=storage, shard=SHARD, workers=1, journal=None, attempt="a", force=False
    )
    return plan.refs["train"]


def damage(storage: Storage, ref: DatasetRef, shard: int) -> str:
    """Overwrites the videos in a tar, which stays as long as it was; its key."""
    index = Index.load(storage, ref)
    rows = [row for row in index.rows if row.shard == shard]
    key = f"{ref.prefix}/{rows[0].tar}"
    tar = bytearray(storage.read(key))
    for row in rows:
        tar[row.media_offset : row.media_offset + row.media_size] = b"x" * row.media_size
    storage.write(key, bytes(tar))
    return key


def test_training_fails_naming_the_damaged_shard_and_goes_on_once_it_is_repaired(
    storage: Storage,
    make_request: Callable[..., TrainRequest],
    plan: DatasetPlan,
    sharded: DatasetRef,
) -> None:
    key = damage(storage, sharded, shard=1)
    request = replace(make_request(epochs=9, dataset="clips"), datasets=(sharded,))
    with pytest.raises(StageError) as caught:
        run_train(request)
    assert f"{key} (6)" in str(caught.value)
    assert "sigma-pipeline shards repair clips/train" in str(caught.value)
    failed_at = newest_commit(storage, "tiny")
    assert 0 < failed_at.step < 18
    assert {each.tar for each in read_replaced(storage, "tiny")} == {key}

    fault = check_shard(storage, sharded, 1, decode=False)
    assert fault is not None
    repair_split(storage, plan, plan.splits[0], [fault])
    result = run_train(request)

    assert (result["state"], result["step"]) == ("finished", 18)
    assert newest_commit(storage, "tiny").replaced_samples == failed_at.replaced_samples
