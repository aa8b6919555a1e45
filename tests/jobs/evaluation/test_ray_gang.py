"""Tasks that work with a gang, on a cluster of two nodes: placed, begun again, and ended."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sigma_pipeline.jobs.backlog import Outcome, Task, TaskLimits
from sigma_pipeline.jobs.ray_cluster import import_ray
from sigma_pipeline.jobs.ray_folder import RayFolder
from sigma_pipeline.jobs.ray_shortage import NodeShape
from sigma_pipeline.jobs.ray_workers import RayWorkers
from tests.jobs.evaluation import gang_work
from tests.jobs.evaluation.gang_work import told

pytestmark = pytest.mark.slow

OVER_BOTH = TaskLimits(cpus=1, memory_gib=0.1, processes=2, deadline_s=120)
LIMIT_S = 180


class Nodes:
    """A head that takes no tasks, and nodes of one processor each."""

    is_shared = False

    def __init__(self) -> None:
        self._ray = import_ray()
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        self._folders: list[RayFolder] = []
        self._add(0, 0, _system_config={"health_check_period_ms": 1000})
        for _ in range(2):
            self.add()

    def expected(self) -> tuple[NodeShape, ...]:
        """See ``RayCluster``."""
        return ()

    def start(self) -> ModuleType:
        """See ``RayCluster``."""
        self._ray.init(address=self._cluster.address, logging_level="error", log_to_driver=False)
        return self._ray

    def stop(self) -> None:
        """See ``RayCluster``."""
        self._ray.shutdown()

    def add(self) -> None:
        """One more node, which is said to have two GPUs."""
        self._add(1, 2)

    def _add(self, cpus: int, gpus: int, **more: Any) -> None:
        self._folders.append(RayFolder())
        self._cluster.add_node(
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=False,
            object_store_memory=100 << 20,
            temp_dir=str(self._folders[-1].path),
            **more,
        )

    def lose(self) -> None:
        """Kills a node."""
        self._cluster.remove_node(next(iter(self._cluster.worker_nodes)), allow_graceful=False)

    def end(self) -> None:
        """Ends all of it."""
        self._cluster.shutdown()
        for folder in self._folders:
            folder.remove()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # Ray counts no more GPUs than these
        nodes = Nodes()
        yield nodes
    nodes.end()


@pytest.fixture
def workers(nodes: Nodes) -> Iterator[RayWorkers]:
    with RayWorkers(nodes, retries=2) as workers:
        yield workers


def gang_task(folder: Path, work: gang_work.Work, limits: TaskLimits = OVER_BOTH) -> Task:
    folder.mkdir(exist_ok=True)
    return Task(folder.name, folder.name, gang_work.run, (folder, work), limits=limits)


def begin(workers: RayWorkers, task: Task) -> None:
    """Submits a task as soon as there is room."""
    deadline_s = time.monotonic() + LIMIT_S
    while not workers.has_room(task):
        assert time.monotonic() < deadline_s, "no room"
        assert workers.finished(0.1) == []
    workers.submit(task)


def next_end(workers: RayWorkers) -> Outcome:
    """How the next task ends."""
    deadline_s = time.monotonic() + LIMIT_S
    while not (outcomes := workers.finished(0.1)):
        assert time.monotonic() < deadline_s, "no task ends"
    return outcomes[0]


def wait_for(workers: RayWorkers, is_so: Callable[[], bool]) -> None:
    """Lets tasks go on, of which none ends, until something is so."""
    deadline_s = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        assert workers.finished(0.1) == []


def done(workers: RayWorkers, task: Task) -> Outcome:
    """How a task ends that begins when there is room."""
    begin(workers, task)
    return next_end(workers)


def are_gone(folder: Path) -> bool:
    """Whether no process is left, now or in a moment."""
    pids = [one["pid"] for one in told(folder)]
    assert pids
    deadline_s = time.monotonic() + 2
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.05)
    return not left


def results(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())


def test_a_gang_over_two_nodes_adds_up_what_each_has(workers: RayWorkers, tmp_path: Path) -> None:
    ended = done(workers, gang_task(tmp_path / "sum", gang_work.add_up))

    assert ended.error is None, ended.traceback
    assert results(tmp_path / "sum") == [[0, 2, 3.0], [1, 2, 3.0]]
    assert [one["gpus"] for one in told(tmp_path / "sum")] == ["", ""]
    assert are_gone(tmp_path / "sum")


def test_each_process_sees_its_own_gpu_alone_beside_an_ordinary_task(
    workers: RayWorkers, tmp_path: Path
) -> None:
    limits = replace(OVER_BOTH, cpus=0.5, gpus=1)  # so that one node holds both
    ordinary = Task("beside", "beside", (tmp_path / "beside").write_text, ("done",))

    begin(workers, gang_task(tmp_path / "own", gang_work.return_rank, limits))
    begin(workers, ordinary)
    ends = [next_end(workers).error for _ in range(2)]

    assert ends == [None, None]
    assert results(tmp_path / "own") == [0, 1]
    assert sorted(one["gpus"] for one in told(tmp_path / "own")) == ["0", "1"]


def test_a_gang_ends_as_one_and_begins_again_after_a_death_alone(
    workers: RayWorkers, tmp_path: Path
) -> None:
    ended = done(workers, gang_task(tmp_path / "failed", gang_work.die_then_fail))

    assert ended.error == "ValueError: wrong"
    assert "gang_work.py" in ended.traceback
    assert len(told(tmp_path / "failed")) == 4
    assert are_gone(tmp_path / "failed")


def test_past_its_deadline_a_gang_is_gone_and_its_room_is_free(
    workers: RayWorkers, tmp_path: Path
) -> None:
    folder = tmp_path / "late"
    begin(workers, gang_task(folder, gang_work.wait))
    assert not workers.has_room(Task("beside", "beside", print, ()))
    wait_for(workers, lambda: len(told(folder)) == 2)

    workers._running["late"].deadline_at_s = 0
    ended = next_end(workers)

    assert ended.error is not None
    assert ended.error.startswith("stopped after 2 min")
    assert are_gone(folder)
    assert done(workers, Task("next", "next", print, ())).error is None


def test_a_gang_ends_with_the_command(nodes: Nodes, tmp_path: Path) -> None:
    folder = tmp_path / "left"

    with RayWorkers(nodes, retries=2) as workers:
        begin(workers, gang_task(folder, gang_work.wait))
        wait_for(workers, lambda: len(told(folder)) == 2)

    assert are_gone(folder)


def test_a_gang_that_loses_a_node_begins_again_when_there_is_another(
    nodes: Nodes, workers: RayWorkers, tmp_path: Path
) -> None:
    folder = tmp_path / "lost"
    begin(workers, gang_task(folder, gang_work.wait_once))
    wait_for(workers, lambda: len(told(folder)) == 2)

    nodes.lose()
    wait_for(workers, lambda: are_gone(folder))
    nodes.add()

    ended = next_end(workers)
    assert ended.error is None, ended.traceback
    assert results(folder) == [0, 1]
