"""Which of the errors of a gang's processes is told. No Ray runs."""

from collections.abc import Sequence
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

from sigma_pipeline.infra.errors import Interrupted, StageError, StoreUnreachable
from sigma_pipeline.jobs import ray_gang
from sigma_pipeline.jobs.backlog import Task, TaskLimits
from sigma_pipeline.jobs.ray_gang import GangBroken, RayGang
from sigma_pipeline.jobs.ray_handover import Submitted, may_pass, was_stopped
from sigma_pipeline.jobs.train_request import RankPlace


class TellsError(Exception):
    """Of Ray: a process died."""


class RaisedError(TellsError):
    """Of Ray: a process raised ``cause``."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"Traceback:\n  where\n{type(cause).__name__}: {cause}")
        self.cause = cause


LOST = RaisedError(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
DIED = TellsError("The actor died unexpectedly")
WRONG = RaisedError(ValueError("wrong"))


class FakeRay(MagicMock):
    """Calls of processes end in the order of their ranks, each as is told."""

    ends: Sequence[Any] = ()
    places: list[RankPlace]

    def begin(self, *ends: Any) -> None:
        """The next call ends so, by rank."""
        self.ends = ends
        self.places = []
        self.exceptions.RayError, self.exceptions.RayTaskError = TellsError, RaisedError
        self.remote().options().remote.side_effect = self._member
        self.get = self._get
        self.wait = lambda calls, num_returns=1, timeout=None: (
            calls[:num_returns],
            calls[num_returns:],
        )

    def _member(self) -> Mock:
        member = Mock()
        member.meeting_point.remote.return_value = "here"
        member.call.remote.side_effect = self._call
        return member

    def _call(self, _: Any, arguments: tuple[Any, ...], __: Any) -> int:
        place = arguments[0]
        self.places.append(place)
        return int(place.rank)

    def _get(self, call: Any) -> Any:
        if isinstance(call, list):
            return [self._get(each) for each in call]
        end = call if isinstance(call, str) else self.ends[call]
        if isinstance(end, Exception):
            raise end
        return end


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    ray = FakeRay()
    monkeypatch.setattr(ray_gang, "import_ray", lambda: ray)
    return ray


@pytest.fixture
def gang(ray: FakeRay) -> RayGang:
    return RayGang("group", TaskLimits(processes=2))


def test_results_come_by_rank_from_processes_that_can_find_each_other(
    gang: RayGang, ray: FakeRay
) -> None:
    ray.begin("a", "b")

    assert gang.run(print) == ["a", "b"]
    assert ray.places == [RankPlace(rank, 2, 0, "here") for rank in (0, 1)]
    assert ray.kill.call_count == 2


@pytest.mark.parametrize(
    ("ends", "kind", "said"),
    [
        ((LOST, DIED), GangBroken, "process 1 of the gang of 2 died: The actor died"),
        ((LOST, WRONG), ValueError, "wrong"),
        (("done", WRONG), ValueError, "wrong"),
        ((LOST, LOST), GangBroken, "process 0 of the gang of 2 lost the others: Runtime.* closed"),
    ],
)
def test_the_cause_is_told_and_not_what_it_led_to(
    gang: RayGang, ray: FakeRay, ends: tuple[Any, ...], kind: type[Exception], said: str
) -> None:
    ray.begin(*ends)

    with pytest.raises(kind, match=said):
        gang.run(print)

    assert ray.kill.call_count == 2


@pytest.mark.parametrize(
    ("error", "may"),
    [
        (DIED, True),
        (RaisedError(GangBroken("process 1 died")), True),
        (RaisedError(StoreUnreachable("no answer")), True),
        (RaisedError(ConnectionResetError()), True),
        (RaisedError(StageError("a sample cannot be read")), False),
        (WRONG, False),
    ],
)
def test_a_gang_is_tried_again_only_after_what_may_pass(
    ray: FakeRay, error: Exception, may: bool
) -> None:
    ray.begin()

    assert may_pass(ray, error) is may


def test_a_gang_that_was_asked_to_stop_waits_for_the_next_job_and_keeps_its_tries() -> None:
    gang = Submitted(Task("cell", "cell", print, ()), retries_left=1, deadline_at_s=5.0)

    assert was_stopped(RaisedError(Interrupted("stopped at step 3")))
    assert not any(map(was_stopped, (DIED, WRONG, RaisedError(GangBroken("process 1 died")))))
    gang.wait(was_stopped=True)

    assert (gang.retries_left, gang.is_waiting, gang.is_next) == (1, True, False)
    assert gang.deadline_at_s == float("inf")
    gang.paused_until_s = 0.0
    assert gang.is_next
    gang.wait(was_stopped=False)
    assert gang.retries_left == 0
