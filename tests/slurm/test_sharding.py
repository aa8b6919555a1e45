"""Sharding by arrays on a real SLURM: undisturbed, with a node that dies, stopped, two at once."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.shard import plan_dataset, shard_dataset

if TYPE_CHECKING:
    from tests.slurm.conftest import Cluster

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("shard_on_slurm_once.py")
NUM_VIDEOS = 40

Launch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small videos, and one that is broken."""
    folder = tmp_path_factory.mktemp("source")
    noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), dtype=np.uint8)
    for number in range(NUM_VIDEOS):
        write_video(folder / f"{number}.mp4", np.roll(noise, number, axis=2), 10, 20, 8)
    (folder / "bad.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(40))
    return folder


@pytest.fixture(scope="module")
def on_one_machine(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Root hashes by split of a run without SLURM."""
    folder, shard = tmp_path_factory.mktemp("local"), ShardConfig(samples_per_shard=2)
    manifests = shard_dataset(
        plan_dataset("set", DatasetConfig(source=str(source)), shard, folder / "scratch"),
        storage=open_storage(f"{folder}/store"),
        shard=shard,
        workers=2,
        journal=None,
        attempt="local",
        force=False,
    )
    return {split: manifest["root_hash"] for split, manifest in manifests.items()}


@pytest.fixture
def launch(source: Path, tmp_path: Path) -> Iterator[Launch]:
    """Starts launchers, and ends those that a failed test left behind."""
    started: list[subprocess.Popen[str]] = []

    def start(*, tasks: int) -> "subprocess.Popen[str]":
        command = [sys.executable, "-P", SCRIPT, source, tmp_path, str(tasks)]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.communicate()


def roots(folder: Path) -> dict[str, str]:
    found = folder.glob("store/datasets/*/*/*/manifest.json")
    manifests = [json.loads(path.read_text()) for path in found]
    return {manifest["split"]: manifest["root_hash"] for manifest in manifests}


def wait_until(is_true: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline_s, "waited too long"
        time.sleep(0.1)


@pytest.mark.usefixtures("cluster")
def test_the_command_makes_what_one_machine_makes(
    source: Path, tmp_path: Path, on_one_machine: dict[str, str]
) -> None:
    recipe = {
        "run_name": "trial",
        "root_uri": str(tmp_path / "store"),
        "datasets": {"set": {"source": str(source)}},
        "shard": {"samples_per_shard": 2},
        "launch": {"cluster": "slurm", "shard": {"tasks": 4, "workers": 1, "cpus_per_task": 4}},
        "train": {"dataset": "set"},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = Path(sys.executable).with_name("sigma-pipeline")

    done = subprocess.run(
        [command, "run", "--stage", "shard", "--config", tmp_path / "recipe.yaml"],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "of 4 tasks with 1 workers each makes 21 shards" in done.stderr
    assert roots(tmp_path) == on_one_machine
    logs = [path.read_text() for path in tmp_path.glob("store/work/submitit/shard-set/*/*.err")]
    assert sum("shards are this task's own" in log for log in logs) == 4


def test_the_others_make_up_for_a_node_that_dies(
    cluster: "Cluster", tmp_path: Path, launch: Launch, on_one_machine: dict[str, str]
) -> None:
    launcher = launch(tasks=3)
    wait_until(lambda: [state for state, _ in cluster.tasks()] == ["RUNNING"] * 3)

    cluster.crash("n2")

    try:
        errors = launcher.communicate(timeout=60)[1]
        assert launcher.returncode == 0, errors
        assert roots(tmp_path) == on_one_machine
        logs = [path.read_text() for path in tmp_path.glob("work/submitit/shard-set/*/*.err")]
        assert any("this task helps" in log for log in logs)
    finally:
        cluster.start("n2")


def test_a_stopped_launcher_takes_its_tasks_along_and_two_at_once_go_on(
    cluster: "Cluster", tmp_path: Path, launch: Launch, on_one_machine: dict[str, str]
) -> None:
    stopped = launch(tasks=2)
    wait_until(lambda: list(tmp_path.glob("store/datasets/*/*/*/parts/*.json")))

    stopped.send_signal(signal.SIGTERM)

    errors = stopped.communicate(timeout=60)[1]
    assert stopped.returncode == 75, errors
    assert "the same command goes on from here" in errors
    assert roots(tmp_path) == {}
    going_on = [launch(tasks=2), launch(tasks=2)]
    outputs = [launcher.communicate(timeout=60)[1] for launcher in going_on]
    assert [launcher.returncode for launcher in going_on] == [0, 0], outputs
    assert roots(tmp_path) == on_one_machine
    wait_until(lambda: not cluster.tasks())
