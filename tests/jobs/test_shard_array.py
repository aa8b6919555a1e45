"""Tasks of an array, in this process: which shards each makes, and what is left behind."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.manifest import read_manifest
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs import shard_array
from sigma_pipeline.jobs.shard import missing_units, plan_dataset, shard_dataset
from sigma_pipeline.jobs.shard_array import ArrayTask
from sigma_pipeline.jobs.shard_plan import DatasetPlan
from sigma_pipeline.jobs.shard_progress import Progress
from sigma_pipeline.jobs.shard_unit import UnitTask, build_unit
from sigma_pipeline.jobs.stored_plan import stored_plan

SHARD = ShardConfig(samples_per_shard=1)
NUM_VIDEOS = 12


class Stopped(Exception):  # noqa: N818 - stands for a kill
    """Ends a task before a shard."""


class Builder:
    """Makes shards in this process instead of in workers."""

    def __init__(self) -> None:
        self.made: list[tuple[str, int]] = []
        self.stop_after: int | None = None

    def __call__(
        self, tasks: Sequence[UnitTask], *, workers: int, scratch_dir: Path, progress: Progress
    ) -> None:
        """Does what ``shard_workers.build_units`` does."""
        for task in tasks:
            if len(self.made) == self.stop_after:
                raise Stopped
            prepare_here = partial(prepare, settings=task.settings)
            build_unit(task, prepare_here, progress.add, scratch_dir)
            self.made.append((task.ref.split, task.number))


@pytest.fixture(autouse=True)
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    builder = Builder()
    monkeypatch.setattr("sigma_pipeline.jobs.shard.build_units", builder)
    return builder


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "store"))


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[DatasetPlan]:
    """Twelve shards of one small video each, over two splits."""
    (tmp_path / "source").mkdir()
    for number in range(NUM_VIDEOS):
        frames = np.full((3, 16, 16, 3), 20 * number, dtype=np.uint8)
        write_video(tmp_path / f"source/{number}.mp4", frames, fps=10, crf=20, gop_frames=3)
    dataset = DatasetConfig(source=str(tmp_path / "source"))
    plan = plan_dataset("set", dataset, SHARD, tmp_path / "scratch")
    with stored_plan(plan, tmp_path / "array") as stored:
        yield stored


def task(plan: DatasetPlan, storage: Storage, number: int, count: int = 3) -> ArrayTask:
    folder = plan.scratch_dir.parent / "array"
    return ArrayTask(plan, storage.root_uri, SHARD, 1, number, count, folder)


def places(plan: DatasetPlan, made: Sequence[tuple[str, int]]) -> list[int]:
    """Of shards among all of the dataset."""
    first = {"train": 0, "val": len(plan.splits[0].units)}
    return [first[split] + number for split, number in made]


def test_tasks_begin_with_parts_that_share_nothing(
    plan: DatasetPlan, storage: Storage, builder: Builder
) -> None:
    parts = []
    builder.stop_after = 4
    for number in range(3):
        with pytest.raises(Stopped):
            task(plan, open_storage(f"{storage.root_uri}-{number}"), number)()
        parts.append(places(plan, builder.made))
        builder.made = []

    assert parts == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_a_single_task_that_is_left_makes_all_and_the_manifests(
    plan: DatasetPlan, storage: Storage, tmp_path: Path, builder: Builder
) -> None:
    task(plan, storage, 1)()

    assert sorted(places(plan, builder.made)) == list(range(NUM_VIDEOS))
    alone = shard_dataset(
        plan,
        storage=open_storage(str(tmp_path / "alone")),
        shard=SHARD,
        workers=1,
        journal=None,
        attempt="alone",
        force=False,
    )
    for split, ref in plan.refs.items():
        manifest = read_manifest(storage, ref)
        assert manifest
        assert manifest["root_hash"] == alone[split]["root_hash"]


def test_a_task_makes_up_for_one_that_died(
    plan: DatasetPlan, storage: Storage, builder: Builder
) -> None:
    builder.stop_after = 2
    with pytest.raises(Stopped):
        task(plan, storage, 0)()
    builder.stop_after = None

    task(plan, storage, 2)()

    assert sorted(places(plan, builder.made)) == list(range(NUM_VIDEOS))
    assert missing_units(plan, storage) == []


def test_helpers_choose_in_different_orders(
    plan: DatasetPlan, storage: Storage, builder: Builder
) -> None:
    chosen = []
    for number in (0, 1):
        task(plan, open_storage(f"{storage.root_uri}-{number}"), number, count=100)()
        chosen.append(places(plan, builder.made)[1:])  # the first is its own
        builder.made = []

    assert chosen[0][:4] != chosen[1][:4]


def test_the_first_to_find_all_shards_there_puts_the_manifests(
    plan: DatasetPlan, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = []
    monkeypatch.setattr(
        "sigma_pipeline.jobs.shard_array.finish_dataset",
        lambda *_, attempt, **__: finished.append(attempt),
    )

    for number in range(3):
        task(plan, storage, number)()

    assert len(finished) == 1


def test_a_task_that_died_while_finishing_finishes_when_it_is_started_again(
    plan: DatasetPlan, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(shard_array, "finish_dataset", die)
        with pytest.raises(Stopped):
            task(plan, storage, 1)()

    task(plan, storage, 0)()
    assert not read_manifest(storage, plan.refs["train"])

    task(plan, storage, 1)()
    assert read_manifest(storage, plan.refs["train"])
