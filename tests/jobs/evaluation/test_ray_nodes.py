"""Tasks, and the nodes of a cluster that they are on, come back to, or wait for. No Ray runs."""

import re
import time
from typing import Any
from unittest.mock import MagicMock

import pytest

from sigma_pipeline.jobs import ray_workers
from sigma_pipeline.jobs.backlog import Task, TaskLimits
from sigma_pipeline.jobs.ray_shortage import NodeShape
from sigma_pipeline.jobs.ray_workers import RayWorkers


class DiedError(Exception):
    """As Ray tells of a process."""


class RaisedError(DiedError):
    """As Ray tells of what a process raised."""


class TwoNodes:
    """A cluster of two nodes, of which only the second has a GPU; nothing runs on them."""

    is_shared = False

    def __init__(self) -> None:
        self.ray = MagicMock()
        self.ray.wait.return_value = [], []
        self.ray.nodes.return_value = [_node("a", CPU=1.0), _node("b", CPU=1.0, GPU=1.0)]
        self.ray.remote().options().remote.side_effect = self._begin
        self.ray.get.side_effect = self._get
        self.ray.exceptions.RayError = DiedError
        self.ray.exceptions.RayTaskError = RaisedError
        self.ray.util.placement_group().id.hex.return_value = "of-the-gang"
        self.num_begun = 0
        self._newest: object = None
        self._error: Exception | None = None

    def expected(self) -> tuple[NodeShape, ...]:
        """Nothing is known beforehand."""
        return ()

    def start(self) -> MagicMock:
        """Is up at once."""
        return self.ray

    def stop(self) -> None:
        """Nothing to end."""

    def end_one(self, error: Exception | None = None) -> None:
        """The task that was begun last ends."""
        self.ray.wait.return_value = [self._newest], []
        self._error = error

    def hold(self, *names: str) -> None:
        """What is told to be left of a node."""
        per_node = self.ray._private.state.available_resources_per_node
        per_node.return_value = {"a": dict.fromkeys(names, 1.0)}

    def _begin(self, *_: object) -> object:
        self.num_begun += 1
        self._newest = object()
        self.ray.wait.return_value = [], []
        return self._newest

    def _get(self, _: object) -> None:
        if self._error is not None:
            raise self._error

    def add(self, name: str, **resources: float) -> None:
        """One more node is there."""
        self.ray.nodes.return_value.append(_node(name, **resources))

    def lose(self, name: str) -> None:
        """Takes a node away."""
        for node in self.ray.nodes.return_value:
            node["Alive"] &= node["NodeName"] != name


def _node(name: str, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "NodeName": name, "Alive": True, "Resources": resources}


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> TwoNodes:
    monkeypatch.setattr(ray_workers, "_LOOK_INTERVAL_S", -1.0)
    return TwoNodes()


def test_no_more_tasks_are_begun_than_run_at_once(two_nodes: TwoNodes) -> None:
    first, second, third = (Task(name, name, print, ()) for name in ("1", "2", "3"))

    with RayWorkers(two_nodes, retries=0) as workers:
        for task in (first, second):
            assert workers.has_room(task)
            workers.submit(task)

        assert not workers.has_room(third)


def test_a_node_that_is_lost_gives_its_task_to_another_with_a_new_deadline(
    two_nodes: TwoNodes,
) -> None:
    task = Task("1", "knn", print, (), limits=TaskLimits(deadline_s=0.3))

    with RayWorkers(two_nodes, retries=1) as workers:
        workers.has_room(task)
        workers.submit(task)
        time.sleep(0.2)
        two_nodes.lose("a")
        assert not workers.finished(0.0)
        time.sleep(0.2)
        assert not workers.finished(0.0)
        time.sleep(0.2)
        (outcome,) = workers.finished(0.0)

    assert outcome.error is not None
    assert "deadline_min" in outcome.error


def test_a_task_waits_for_a_lost_node_that_it_needs_but_not_for_ever(
    two_nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task("1", "knn", print, (), limits=TaskLimits(gpus=1))
    with RayWorkers(two_nodes, retries=0) as workers:
        workers.start()
        two_nodes.lose("b")
        workers.finished(0.0)
        assert not workers.has_room(task)

        monkeypatch.setattr(ray_workers, "_NODE_GRACE_S", -1.0)
        error = workers.refusal(task)

    assert error is not None
    assert re.search(r"only node that could hold it was lost.* knn asks for 1 GPUs", error)


def test_each_task_waits_for_its_own_node_whatever_room_others_have(
    two_nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_workers, "_NODE_GRACE_S", 0.1)
    stays, waits = (Task(f"{n}", "knn", print, (), limits=TaskLimits(gpus=n)) for n in (0, 1))
    with RayWorkers(two_nodes, retries=0) as workers:
        workers.start()
        assert workers.refusal(waits) is None
        two_nodes.lose("b")
        workers.finished(0.0)
        assert workers.refusal(waits) is None
        time.sleep(0.2)

        assert workers.has_room(stays)
        assert workers.refusal(stays) is None
        assert workers.refusal(waits) is not None
        two_nodes.add("c", CPU=1.0, GPU=1.0)
        workers.finished(0.0)
        assert workers.has_room(waits)
        two_nodes.lose("c")
        workers.finished(0.0)
        assert workers.refusal(waits) is None  # it waits anew


def test_a_running_task_whose_only_node_is_lost_waits_no_longer_for_one_than_a_new_task(
    two_nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_workers, "_NODE_GRACE_S", 0.1)
    limits = TaskLimits(gpus=1, deadline_s=600)
    with RayWorkers(two_nodes, retries=1) as workers:
        task = Task("1", "knn", print, (), limits=limits)
        assert workers.has_room(task)
        workers.submit(task)
        two_nodes.lose("b")
        assert workers.finished(0.0) == []
        time.sleep(0.2)
        (outcome,) = workers.finished(0.0)

    assert outcome.error is not None
    assert "the only node that could hold it was lost" in outcome.error


def test_a_running_task_goes_on_when_a_node_comes_in_time_that_can_hold_it(
    two_nodes: TwoNodes,
) -> None:
    limits = TaskLimits(gpus=1, deadline_s=0.3)
    with RayWorkers(two_nodes, retries=1) as workers:
        task = Task("1", "knn", print, (), limits=limits)
        assert workers.has_room(task)
        workers.submit(task)
        two_nodes.lose("b")
        assert workers.finished(0.0) == []
        time.sleep(0.4)
        assert workers.finished(0.0) == []  # its deadline does not run meanwhile
        two_nodes.add("c", CPU=1.0, GPU=1.0)
        assert workers.finished(0.0) == []
        assert not workers.has_room(task)  # the new node is its own
        time.sleep(0.4)
        (outcome,) = workers.finished(0.0)

    assert outcome.error is not None
    assert "deadline_min" in outcome.error


def test_a_stopped_task_keeps_its_room_until_its_process_is_gone(two_nodes: TwoNodes) -> None:
    task = Task("1", "knn", print, (), limits=TaskLimits(gpus=1, deadline_s=-1.0))
    has_room: list[bool] = []

    with RayWorkers(two_nodes, retries=0) as workers:
        assert workers.has_room(task)
        workers.submit(task)

        def wait(*_: object, **__: object) -> tuple[list[object], list[object]]:
            has_room.append(workers.has_room(task))
            return [], []

        two_nodes.ray.wait.side_effect = wait
        workers.finished(0.0)
        has_room.append(workers.has_room(task))

    assert has_room == [False, False, True]  # when asked what is done; after cancelling; at the end


def test_gangs_that_want_the_same_nodes_have_them_one_after_the_other(two_nodes: TwoNodes) -> None:
    first, second = (Task(n, n, print, (), limits=TaskLimits(processes=2)) for n in ("1", "2"))

    with RayWorkers(two_nodes, retries=0) as workers:
        assert workers.has_room(first)
        workers.submit(first)
        assert not workers.has_room(second)
        assert not workers.has_room(Task("3", "3", print, ()))
        two_nodes.end_one()
        (outcome,) = workers.finished(0.0)

        assert outcome.task is first
        assert workers.has_room(second)


def test_a_gang_that_broke_begins_again_before_any_other_task(two_nodes: TwoNodes) -> None:
    gang = Task("gang", "gang", print, (), limits=TaskLimits(processes=2))
    other = Task("other", "other", print, ())

    with RayWorkers(two_nodes, retries=1) as workers:
        assert workers.has_room(gang)
        workers.submit(gang)
        two_nodes.hold("CPU_group_1_of-the-gang")
        two_nodes.end_one(DiedError("of itself"))
        assert workers.finished(0.0) == []
        assert not workers.has_room(other)
        assert two_nodes.num_begun == 1  # what it held is not free yet
        two_nodes.hold()
        assert workers.finished(0.0) == []

        assert two_nodes.num_begun == 2
        two_nodes.end_one(DiedError("of itself"))
        (outcome,) = workers.finished(0.0)
        assert outcome.error == "DiedError: of itself"
        assert workers.has_room(other)


def test_a_gang_that_waits_for_a_lost_node_lets_others_have_the_rest(
    two_nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    gang = Task("gang", "gang", print, (), limits=TaskLimits(processes=2, deadline_s=0.3))
    other = Task("other", "other", print, ())

    with RayWorkers(two_nodes, retries=1) as workers:
        assert workers.has_room(gang)
        workers.submit(gang)
        two_nodes.lose("b")
        assert workers.finished(0.0) == []
        two_nodes.ray.cancel.assert_called_once()  # Ray itself would go on with half of it
        two_nodes.end_one(DiedError("of itself"))
        time.sleep(0.4)
        assert workers.finished(0.0) == []  # its deadline does not run meanwhile
        assert workers.has_room(other)
        two_nodes.add("c", CPU=1.0)
        assert workers.finished(0.0) == []
        assert two_nodes.num_begun == 2
        assert not workers.has_room(other)
        two_nodes.lose("c")
        two_nodes.end_one(DiedError("of itself"))
        (outcome,) = workers.finished(0.0)

    assert outcome.error == "a node was lost that a process of its gang was on"
