"""Where Ray comes from, and what is left of it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.jobs import ray_cluster
from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.ray_cluster import FoundCluster, OwnCluster
from sigma_pipeline.jobs.ray_workers import RayWorkers

START_AND_STOP = """
import signal
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.ray_cluster import OwnCluster
handler = lambda number, frame: None
signal.signal(signal.SIGTERM, handler)
cluster = OwnCluster(EvaluateLaunchConfig(cpus=1))
cluster.start()
cluster.stop()
print("same handler" if signal.getsignal(signal.SIGTERM) is handler else "another handler")
"""

WAIT_IN_A_GANG = """
import subprocess
from sigma_pipeline.jobs.backlog import Task, TaskLimits
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.ray_cluster import OwnCluster
from sigma_pipeline.jobs.ray_workers import RayWorkers
def wait(place):
    subprocess.run(["sleep", "600"])
def lead(gang):
    gang.run(wait)
with RayWorkers(OwnCluster(EvaluateLaunchConfig(cpus=1)), retries=0) as workers:
    task = Task("task", "a task", lead, (), limits=TaskLimits(cpus=0.5, processes=2))
    assert workers.has_room(task)
    workers.submit(task)
    print(flush=True)
    workers.finished(600)
"""


class SlowRay:
    """Comes up only after a number of attempts."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.num_shutdowns = 0
        self.called = Mock()

    def init(self, **settings: object) -> None:
        """Fails as Ray does when the machine is busy."""
        self.failures -= 1
        if self.failures >= 0:
            raise Exception("The current node timed out during startup.")

    def shutdown(self) -> None:
        """Counted."""
        self.num_shutdowns += 1

    def remote(self, function: object) -> Mock:
        """Runs nothing."""
        del function
        return self.called

    def nodes(self) -> list[dict[str, Any]]:
        """A machine without GPUs."""
        resources = {"CPU": 2.0, "memory": 4.0 * 2**30}
        return [{"NodeID": "a", "NodeName": "here", "Alive": True, "Resources": resources}]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """The folder for temporary files of a process; Ray wants a short one."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    yield folder
    folder.rmdir()  # fails if anything is left


def environment(temporary: Path, home: Path) -> dict[str, str]:
    """Of a process that knows nothing of other Ray clusters."""
    home.mkdir()
    variables = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return variables | {"HOME": str(home), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}


def using(folder: Path) -> list[int]:
    """Numbers of processes that name a folder in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("failures", "is_up"), [(0, True), (2, True), (3, False)])
def test_ray_is_given_three_attempts_to_come_up(
    failures: int, is_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = SlowRay(failures)
    monkeypatch.setattr(ray_cluster, "import_ray", lambda: ray)
    expected = nullcontext() if is_up else pytest.raises(StageError, match="timed out during")

    with expected, RayWorkers(OwnCluster(EvaluateLaunchConfig()), retries=0) as workers:
        workers.start()

    assert ray.num_shutdowns == failures + is_up
    num_ready = ray.called.options.return_value.remote.call_count
    assert num_ready == (2 if is_up else 0)  # workers that have loaded what tasks need


def test_gpus_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "import_ray", lambda: SlowRay(0))
    planned = {"knn on squares": TaskLimits(gpus=0.5)}

    cluster = OwnCluster(EvaluateLaunchConfig())
    refused = pytest.raises(ConfigError, match=r"knn on squares asks for 0.5 GPUs.* than 0")

    with RayWorkers(cluster, retries=0, planned=planned) as workers, refused:
        workers.start()


@pytest.mark.slow
def test_ray_leaves_the_process_and_the_machine_as_it_found_them(
    tmp_path: Path, temporary: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", START_AND_STOP],
        env=environment(temporary, tmp_path / "home"),
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "same handler\n", "")
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.slow
def test_all_of_ray_ends_when_its_driver_is_killed(tmp_path: Path, temporary: Path) -> None:
    variables = environment(temporary, tmp_path / "home")
    driver = subprocess.Popen(
        [sys.executable, "-P", "-c", WAIT_IN_A_GANG], env=variables, stdout=subprocess.PIPE
    )
    assert driver.stdout is not None
    driver.stdout.readline()
    deadline_s = time.monotonic() + 120
    while sum(b"sleep" in _command(pid) for pid in using(temporary)) < 2:
        assert time.monotonic() < deadline_s, "the task does not begin"
        time.sleep(0.1)

    driver.kill()

    driver.communicate()
    deadline_s = time.monotonic() + 90
    while left := using(temporary):
        assert time.monotonic() < deadline_s, [_command(pid) for pid in left]
        time.sleep(0.5)
    again = subprocess.run([sys.executable, "-P", "-c", START_AND_STOP], env=variables)
    assert again.returncode == 0  # and took away the folder that the first had left


@pytest.mark.parametrize("address", ["127.0.0.1:9", "no-port"])
def test_a_cluster_that_does_not_answer_is_refused_at_once(address: str) -> None:
    refused = pytest.raises(ConfigError, match=rf"ray_address={address} cannot be used: .+ Run")

    with RayWorkers(FoundCluster(address), retries=0) as workers, refused:
        workers.start()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
