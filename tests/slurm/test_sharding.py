"""Sharding by arrays on a real SLURM: undisturbed, with a node that dies, stopped, two at once."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.shard import plan_dataset, shard_dataset
from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.conftest import MakeTrial
from tests.slurm.trial import Trial, write_videos

pytestmark = pytest.mark.slow

NUM_VIDEOS = 120
SPLITS = {"train": 0.8, "val": 0.2}
NUM_SHARDS = (NUM_VIDEOS + 1) // 2 + 1
"""Of two inputs each, the last of either split perhaps of one."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small videos, and one that is broken."""
    folder = tmp_path_factory.mktemp("source")
    write_videos(folder, NUM_VIDEOS)
    (folder / "left" / "bad.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(40))
    return folder


@pytest.fixture(scope="module")
def on_one_machine(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Root hashes by split of a run without SLURM."""
    folder, shard = tmp_path_factory.mktemp("local"), ShardConfig(samples_per_shard=2)
    dataset = DatasetConfig(source=str(source), splits=SPLITS)
    manifests = shard_dataset(
        plan_dataset("noise", dataset, shard, folder / "scratch"),
        storage=open_storage(f"{folder}/store"),
        shard=shard,
        workers=2,
        journal=None,
        attempt="local",
        force=False,
    )
    return {split: manifest["root_hash"] for split, manifest in manifests.items()}


def sharding(source: Path, tasks: int) -> dict[str, Any]:
    """Two videos a shard; each task needs a node for itself."""
    return {
        "datasets": {"noise": {"source": str(source)}},
        "shard": {"samples_per_shard": 2},
        "launch": {"shard": {"tasks": tasks, "cpus_per_task": 4}},
    }


def roots(trial: Trial) -> dict[str, str]:
    found = trial.store.glob("datasets/*/*/*/manifest.json")
    manifests = [json.loads(path.read_text()) for path in found]
    return {manifest["split"]: manifest["root_hash"] for manifest in manifests}


def logs(trial: Trial) -> list[str]:
    """Of the tasks."""
    found = trial.store.glob("work/submitit/shard-noise/*/*.err")
    return [path.read_text() for path in found]


def test_the_command_makes_what_one_machine_makes(
    make_trial: MakeTrial, source: Path, tmp_path: Path, on_one_machine: dict[str, str]
) -> None:
    trial = make_trial(sharding(source, tasks=4), nodes=4, store=tmp_path / "store")

    done = trial.command("run", "--stage", "shard")

    assert done.returncode == 0, done.stderr
    assert f"of 4 tasks with 1 workers each makes {NUM_SHARDS} shards" in done.stderr
    assert roots(trial) == on_one_machine
    assert sum("shards are this task's own" in log for log in logs(trial)) == 4


def test_the_others_make_up_for_a_node_that_dies(
    make_trial: MakeTrial,
    cluster: Cluster,
    source: Path,
    tmp_path: Path,
    on_one_machine: dict[str, str],
) -> None:
    trial = make_trial(sharding(source, tasks=3), nodes=3, store=tmp_path / "store")
    launcher = trial.start("run", "--stage", "shard")
    wait_until(lambda: cluster.states(trial.run_name) == ["RUNNING"] * 3)
    lost = trial.nodes[1]

    cluster.crash(lost)

    try:
        errors = launcher.communicate(timeout=120)[1]
        assert launcher.returncode == 0, errors
        assert roots(trial) == on_one_machine
        assert any("this task helps" in log for log in logs(trial))
    finally:
        cluster.start(lost)
        cluster.wait_for_node(lost)


def test_a_stopped_launcher_takes_its_tasks_along_and_two_at_once_go_on(
    make_trial: MakeTrial,
    cluster: Cluster,
    source: Path,
    tmp_path: Path,
    on_one_machine: dict[str, str],
) -> None:
    trial = make_trial(sharding(source, tasks=2), nodes=4, store=tmp_path / "store")
    stopped = trial.start("run", "--stage", "shard")
    # Soon enough: once shards appear they may all be there before SLURM has ended the tasks.
    wait_until(lambda: cluster.states(trial.run_name) == ["RUNNING"] * 2)

    stopped.send_signal(signal.SIGTERM)

    errors = stopped.communicate(timeout=120)[1]
    assert stopped.returncode == 75, errors
    assert "the same command goes on from here" in errors
    assert roots(trial) == {}
    going_on = [trial.start("run", "--stage", "shard") for _ in range(2)]
    outputs = [launcher.communicate(timeout=120)[1] for launcher in going_on]
    assert [launcher.returncode for launcher in going_on] == [0, 0], outputs
    assert roots(trial) == on_one_machine
    wait_until(lambda: not cluster.job_ids(trial.run_name))
