"""Who is to blame when training does not move; real processes are in test_stall_processes."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, field
from types import SimpleNamespace

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs import watchdog as watchdog_module
from sigma_pipeline.jobs.blame import Beat, judge
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.rank_notes import RankNotes
from sigma_pipeline.jobs.watchdog import LEAVE_LIMIT_S, Watchdog, ended_after
from tests.jobs.fake_ranks import fake_ranks

TIMEOUT_S = 0.6
HOSTS = ("n1", "n2", "n3")


def beat(count: int, phase: str = "step", step: int = 5) -> Beat:
    return Beat(count, phase, step, lasted_s=12.0)


def test_a_rank_whose_signs_of_life_have_ended_is_to_blame() -> None:
    first = {0: beat(4), 1: beat(7, "data", 4), 2: beat(4)}
    second = {0: beat(6), 1: beat(7, "data", 4), 2: beat(5)}

    blame = judge(first, second, HOSTS)

    assert blame.silent == (1,)
    assert blame.reason == ("no sign of life from rank 1 on n2 (last 'data' after step 4)")


def test_a_rank_that_never_gave_a_sign_of_life_is_to_blame() -> None:
    looks = {0: beat(4), 1: beat(5)}, {0: beat(5), 1: beat(6)}

    assert judge(*looks, HOSTS).silent == (2,)


@pytest.mark.parametrize(("phase", "step"), [("data", 5), ("step", 4), ("commit", 5)])
def test_when_all_live_the_one_furthest_behind_is_to_blame(phase: str, step: int) -> None:
    second = {0: beat(6), 1: beat(6), 2: beat(6, phase, step)}

    blame = judge({}, second, HOSTS)

    assert blame.silent == ()
    assert blame.reason == f"rank 2 on n3 furthest behind, at '{phase}' after step {step} for 12 s"


def test_when_all_wait_at_one_place_it_is_the_network() -> None:
    assert "the network between them" in judge({}, dict.fromkeys(range(3), beat(6)), HOSTS).reason


def test_a_rank_that_is_done_is_not_silent() -> None:
    done = beat(7, "end")

    blame = judge({0: beat(4), 1: done, 2: done}, {0: beat(5), 1: done, 2: done}, HOSTS)

    assert blame.reason.startswith("rank 0 on n1 furthest behind")


def test_a_rank_that_left_with_an_error_is_to_blame_not_those_who_wait_for_it() -> None:
    failed = beat(7, "failed")
    looks = {0: beat(4), 1: failed, 2: beat(4, "data")}, {0: beat(6), 1: failed, 2: beat(6, "data")}

    blame = judge(*looks, HOSTS)

    assert blame.silent == ()
    assert blame.reason == "rank 1 on n2 left with an error after step 5, see the log there"


@dataclass
class Ended:
    """What became of a watched rank."""

    statuses: list[int] = field(default_factory=list)
    told: list[tuple[str, tuple[str, ...], int]] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def end(self, status: int) -> None:
        """Instead of ending the process."""
        self.statuses.append(status)
        self.is_over.set()

    def tell(self, reason: str, bad_nodes: tuple[str, ...], step: int) -> None:
        """Keeps what would be recorded."""
        self.told.append((reason, bad_nodes, step))


@contextmanager
def watched(context: RankContext, ended: Ended, tell: object = None) -> Iterator[Watchdog]:
    with (
        ended_after(60),
        Watchdog(context, TIMEOUT_S, tell or ended.tell, subject="a", end=ended.end) as watchdog,
    ):
        yield watchdog


class Clock:
    """Goes as a test has it go, for however long the machine pauses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, watched: RankContext) -> None:
        self.now_s = 0.0
        self._beats = RankNotes(watched.store, "beat/a")
        clock = SimpleNamespace(monotonic=lambda: self.now_s, sleep=time.sleep)
        monkeypatch.setattr(watchdog_module, "time", clock)

    def go_on(self, seconds: float) -> None:
        """Until the watchdog has seen this time."""
        self.now_s += seconds
        count = self._count()
        while self._count() < count + 2:
            time.sleep(0.005)

    def _count(self) -> int:
        return self._beats.read([0]).get(0, [0])[0]  # type: ignore[no-any-return]


def test_nothing_happens_while_training_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    (alone,), ended = fake_ranks("n1"), Ended()
    clock = Clock(monkeypatch, alone)

    with watched(alone, ended) as watchdog:
        for step in range(3):
            watchdog.at("step", step)
            clock.go_on(TIMEOUT_S * 0.6)
        assert not ended.is_over.is_set()
        clock.now_s += TIMEOUT_S  # the same clock ends it
        assert ended.is_over.wait(10)


def test_all_ranks_name_the_one_that_stays_behind() -> None:
    ranks, ends = fake_ranks(*HOSTS), [Ended() for _ in HOSTS]
    with ExitStack() as stack:
        dogs = [
            stack.enter_context(watched(rank, ended))
            for rank, ended in zip(ranks, ends, strict=True)
        ]
        for dog, phase in zip(dogs, ["step", "data", "step"], strict=True):
            dog.at(phase, 5)
        for ended in ends:
            assert ended.is_over.wait(10)

    assert [ended.statuses for ended in ends] == [[1]] * 3
    for host, ended in zip(HOSTS, ends, strict=True):
        (reason, bad_nodes, step), *_ = ended.told
        assert "rank 1 on n2 furthest behind, at 'data' after step 5" in reason
        assert f" on {host} has been in " in reason
        assert (bad_nodes, step) == ((), 5)


def test_nobody_is_to_blame_while_another_rank_waits_for_a_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (first, _), ended = fake_ranks("n1", "n2"), Ended()
    phases, looks = ["outage"], list[int]()

    def look(_: range) -> dict[int, Beat]:
        looks.append(len(looks))
        return {0: beat(len(looks)), 1: beat(len(looks), phases[-1])}

    with watched(first, ended) as watchdog:
        monkeypatch.setattr(watchdog, "_look", look)
        watchdog.at("step", 5)
        while len(looks) < 5:
            time.sleep(0.005)
        assert not ended.is_over.is_set()
        phases.append("data")
        assert ended.is_over.wait(10)

    assert "rank 1 on n2 furthest behind, at 'data'" in ended.told[0][0]


def test_silent_neighbours_are_killed_before_a_store_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (first, frozen), ended, done = fake_ranks("n1", "n1"), Ended(), list[str]()
    RankNotes(frozen.store, "beat/a").put(1, astuple(beat(7)))
    monkeypatch.setattr(Watchdog, "_kill_neighbours", lambda *_: done.append("killed"))

    with watched(first, ended, lambda *_: done.append("told")):
        assert ended.is_over.wait(10)

    assert done == ["killed", "told"]


def test_the_way_out_is_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    (alone,), limits = fake_ranks("n1"), list[float]()
    monkeypatch.setattr(watchdog_module, "wind_up", limits.append)

    with pytest.raises(StageError), watched(alone, Ended()):
        raise StageError("the loader failed")

    assert limits[-1] == LEAVE_LIMIT_S
    assert RankNotes(alone.store, "beat/a").read([0])[0][1] == "failed"


@pytest.mark.parametrize(("is_alone", "limits"), [(True, [9]), (False, [9, LEAVE_LIMIT_S])])
def test_a_rank_of_several_that_failed_has_to_end_soon(
    monkeypatch: pytest.MonkeyPatch, is_alone: bool, limits: list[float]
) -> None:
    seen = list[float]()
    monkeypatch.setattr(watchdog_module, "wind_up", seen.append)

    with pytest.raises(StageError), ended_after(9, is_alone=is_alone):
        raise StageError("the loader failed")

    assert seen == limits


def test_the_node_of_a_frozen_rank_is_to_be_avoided(caplog: pytest.LogCaptureFixture) -> None:
    (first, frozen), ended = fake_ranks("n1", "n2"), Ended()
    RankNotes(frozen.store, "beat/a").put(1, astuple(beat(7)))

    with watched(first, ended) as watchdog, caplog.at_level(logging.ERROR):
        watchdog.at("step", 5)
        assert ended.is_over.wait(10)

    assert ended.told[0][1] == ("n2",)
    (record,) = caplog.records
    assert "no sign of life from rank 1 on n2" in record.message
    assert "launch.train.stall_timeout_s=0.6" in record.message
    assert "test_the_node_of_a_frozen_rank" in record.message  # among the stacks


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_process_ends_even_if_the_reason_cannot_be_recorded() -> None:
    (alone,), ended = fake_ranks("n1"), Ended()

    def fail(*_: object) -> None:
        raise StageError("the store cannot be reached")

    with watched(alone, ended, fail):
        assert ended.is_over.wait(10)

    assert ended.statuses == [1]


def test_a_rank_that_goes_on_after_all_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    (alone,), ended = fake_ranks("n1"), Ended()
    with watched(alone, ended) as watchdog:
        find_blame = watchdog._find_blame

        def go_on_meanwhile() -> object:
            blame = find_blame()
            watchdog.at("step", 1)
            ended.is_over.set()
            return blame

        monkeypatch.setattr(watchdog, "_find_blame", go_on_meanwhile)
        assert ended.is_over.wait(10)

    assert ended.statuses == []
