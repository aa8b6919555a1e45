"""Following an array: when it is over, what is said of tasks that died, and with what status."""

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.manifest import Manifest
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.infra.errors import Interrupted, MissingInputError, StageError
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs import launch_shard
from sigma_pipeline.jobs.launch_shard import shard_on_slurm, submit_shards
from sigma_pipeline.jobs.shard import build_missing, plan_dataset
from sigma_pipeline.jobs.shard_array import ArrayTask
from sigma_pipeline.jobs.shard_plan import DatasetPlan
from sigma_pipeline.jobs.shard_progress import Progress
from sigma_pipeline.jobs.shard_unit import UnitTask, build_unit
from tests.fake_slurm import FakeSlurm, options
from tests.jobs.snapshots import make_snapshot

SHARD = ShardConfig(samples_per_shard=1)
NUM_VIDEOS = 5


class FakeArray:
    """An array whose states are told look by look; the last ones stay."""

    job_id = "77"

    def __init__(self) -> None:
        self.looks: list[list[str]] = [["COMPLETED", "COMPLETED"]]
        self.failures: dict[int, str] = {}
        self.runs: tuple[int, ...] = ()
        """Tasks that do their work, at submission."""
        self.calls: Sequence[ArrayTask] = ()
        self.cancelled = False
        self.at_end: Callable[[], object] = lambda: None

    @contextmanager
    def submitted(
        self, calls: Sequence[ArrayTask], *_: object, **__: object
    ) -> Iterator["FakeArray"]:
        """Does what ``submit.submitted_array`` does."""
        self.calls = calls
        for task in self.runs:
            calls[task]()
        try:
            yield self
        finally:
            self.cancelled = True
            self.at_end()

    def log_path(self, task: int) -> Path:
        """Of a task."""
        return Path(f"/logs/{task}.err")

    def states(self) -> list[str]:
        """Of all tasks, at the next look."""
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def failure(self, task: int) -> str | None:
        """Its traceback."""
        return self.failures.get(task)


def build_here(
    tasks: Sequence[UnitTask], *, workers: int, scratch_dir: Path, progress: Progress
) -> None:
    """Does what ``shard_workers.build_units`` does, in this process."""
    for task in tasks:
        build_unit(task, partial(prepare, settings=task.settings), progress.add, scratch_dir)


@pytest.fixture
def array(monkeypatch: pytest.MonkeyPatch) -> FakeArray:
    array = FakeArray()
    monkeypatch.setattr("sigma_pipeline.jobs.shard.build_units", build_here)
    monkeypatch.setattr(launch_shard, "submitted_array", array.submitted)
    monkeypatch.setattr(launch_shard, "_LONGEST_PAUSE_S", 0)
    return array


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "store"))


@pytest.fixture
def plan(tmp_path: Path) -> DatasetPlan:
    """Five shards of one small video each."""
    (tmp_path / "source").mkdir()
    for number in range(NUM_VIDEOS):
        frames = np.full((3, 16, 16, 3), 20 * number, dtype=np.uint8)
        write_video(tmp_path / f"source/{number}.mp4", frames, fps=10, crf=20, gop_frames=3)
    dataset = DatasetConfig(source=str(tmp_path / "source"))
    return plan_dataset("set", dataset, SHARD, tmp_path / "scratch")


def run(plan: DatasetPlan, storage: Storage, **changes: Any) -> dict[str, Manifest]:
    usual: dict[str, Any] = {
        "shard": SHARD,
        "snapshot": make_snapshot(plan.scratch_dir.parent, shard={"tasks": 2, "workers": 1}),
        "journal": None,
        "attempt": "launcher",
        "force": False,
    }
    return shard_on_slurm(plan, storage=storage, **usual | changes)


def test_what_the_tasks_made_is_adopted_and_the_rest_of_them_ended(
    plan: DatasetPlan, storage: Storage, array: FakeArray
) -> None:
    array.runs, array.looks = (1,), [["RUNNING", "COMPLETED"]]

    manifests = run(plan, storage)

    assert sum(manifest["samples"] for manifest in manifests.values()) == NUM_VIDEOS
    assert "launcher" not in {manifest["attempt"] for manifest in manifests.values()}
    assert array.cancelled


def test_a_complete_dataset_asks_for_no_array(
    plan: DatasetPlan, storage: Storage, array: FakeArray
) -> None:
    array.runs = (0,)
    first = run(plan, storage)
    array.calls = ()

    assert run(plan, storage, attempt="again") == first
    assert array.calls == ()


def test_the_launcher_finishes_what_no_task_has_finished(
    plan: DatasetPlan, storage: Storage, array: FakeArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sigma_pipeline.jobs.shard_array.finish_dataset", lambda *_, **__: None)
    array.runs = (0,)

    manifests = run(plan, storage)

    assert {manifest["attempt"] for manifest in manifests.values()} == {"launcher"}


def test_forced_everything_is_made_anew(
    plan: DatasetPlan, storage: Storage, array: FakeArray
) -> None:
    array.runs = (0,)
    first = run(plan, storage)

    second = run(plan, storage, attempt="again", force=True)

    assert all(second[split]["attempt"] != first[split]["attempt"] for split in first)
    assert all(second[split]["root_hash"] == first[split]["root_hash"] for split in first)


def test_there_are_no_more_tasks_than_shards(
    plan: DatasetPlan, storage: Storage, array: FakeArray
) -> None:
    build_missing(plan, storage=storage, workers=1, attempt="before")
    storage.delete(f"{plan.refs['train'].prefix}/parts/000001.json")
    array.runs = (0,)

    run(plan, storage)

    assert [(call.number, call.count) for call in array.calls] == [(0, 1)]


def test_a_tar_that_a_task_left_after_the_manifest_is_removed(
    plan: DatasetPlan, storage: Storage, array: FakeArray
) -> None:
    array.runs = (0,)
    prefix = plan.refs["train"].prefix
    array.at_end = lambda: storage.write(f"{prefix}/shard-000001.late.tar", b"lost")

    run(plan, storage)

    tars = [key for key in storage.list(prefix) if key.endswith(".tar")]
    assert len(tars) == len(plan.splits[0].units)
    assert not any("late" in key for key in tars)


def test_tasks_ended_from_outside_are_named_and_the_status_says_go_on(
    plan: DatasetPlan, storage: Storage, array: FakeArray, caplog: pytest.LogCaptureFixture
) -> None:
    array.looks = [["RUNNING", "RUNNING"], ["RUNNING", "CANCELLED"], ["TIMEOUT", "CANCELLED"]]

    with caplog.at_level(logging.WARNING), pytest.raises(Interrupted) as stop:
        run(plan, storage)

    assert stop.value.exit_status == 75
    message = str(stop.value)
    assert "5 of 5 shards are missing" in message
    assert "task 0 TIMEOUT (log: /logs/0.err); task 1 CANCELLED (log: /logs/1.err)" in message
    assert "The same command goes on from here" in message
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "set: task 1 of the array ended with CANCELLED; log: /logs/1.err",
        "set: task 0 of the array ended with TIMEOUT; log: /logs/0.err",
    ]
    assert not list((plan.scratch_dir.parent / "work").rglob("*.units*"))


def test_a_task_that_failed_is_a_failure(
    plan: DatasetPlan, storage: Storage, array: FakeArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    array.looks = [["OUT_OF_MEMORY", "NODE_FAIL"]]
    monkeypatch.setattr(launch_shard, "_SETTLE_S", 0)

    with pytest.raises(StageError, match=r"task 0 OUT_OF_MEMORY .*task 1 NODE_FAIL"):
        run(plan, storage)


def test_of_many_tasks_that_failed_some_are_named(
    plan: DatasetPlan, storage: Storage, array: FakeArray
) -> None:
    array.looks = [["FAILED"] * NUM_VIDEOS]
    many = make_snapshot(plan.scratch_dir.parent, shard={"tasks": 64, "workers": 1})

    with pytest.raises(StageError, match=r"task 3 FAILED \(log: /logs/3\.err\); 1 more\. The same"):
        run(plan, storage, snapshot=many)


def test_an_error_of_ours_in_a_task_is_the_launchers(
    plan: DatasetPlan, storage: Storage, array: FakeArray
) -> None:
    array.looks = [["COMPLETED", "FAILED"]]
    array.failures = {1: "sigma_pipeline.infra.errors.MissingInputError: no a.mp4; put it back"}

    with pytest.raises(MissingInputError, match=r"no a\.mp4; put it back \(log: /logs/1\.err\)"):
        run(plan, storage)


def test_a_task_whose_node_failed_may_come_back(
    plan: DatasetPlan, storage: Storage, array: FakeArray
) -> None:
    array.looks = [["NODE_FAIL", "COMPLETED"]] * 3 + [["RUNNING", "COMPLETED"]]
    looked = array.states

    def come_back() -> list[str]:
        states = looked()
        if "RUNNING" in states:
            array.calls[0]()
        return states

    array.states = come_back  # type: ignore[method-assign]

    assert run(plan, storage)


def test_an_array_that_nobody_watches_is_told_whose_numbers_it_makes(
    plan: DatasetPlan, storage: Storage, sbatch: FakeSlurm, tmp_path: Path
) -> None:
    snapshot = make_snapshot(tmp_path, shard={"tasks": 3, "workers": 2, "memory_gib": 1.5})

    job = submit_shards(plan, storage=storage, shard=SHARD, snapshot=snapshot, force=False)

    assert job is not None
    assert (job.stage, job.job_id, job.world_size) == ("shard", "101", 3)
    given = options(sbatch.scripts[0])
    assert (given["array"], given["cpus-per-task"], given["mem"]) == ("0-2%3", "2", "1536MB")
    assert given["job-name"] == "tiny-shard-set"
    task = pickle.loads(Path(job.folder, "101_0_submitted.pkl").read_bytes()).function.call
    assert task.run_name == "tiny"
    assert list(task.plan.splits[0].units) == list(plan.splits[0].units)


def test_a_complete_dataset_is_not_handed_to_slurm(
    plan: DatasetPlan, storage: Storage, array: FakeArray, sbatch: FakeSlurm, tmp_path: Path
) -> None:
    array.runs = (0,)
    run(plan, storage)

    snapshot = make_snapshot(tmp_path)

    assert submit_shards(plan, storage=storage, shard=SHARD, snapshot=snapshot, force=False) is None
    assert sbatch.scripts == []
