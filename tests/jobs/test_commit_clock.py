"""When commits are due by time, and how long training may go on without one."""

from typing import Any

import pytest

from sigma_pipeline.jobs.commit_clock import CommitClock
from sigma_pipeline.jobs.config import TrainConfig


class Time:
    """A clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


def make_clock(time: Time, **train: Any) -> CommitClock:
    return CommitClock(TrainConfig(dataset="d", **train), time)


def test_a_commit_is_due_when_the_interval_has_passed_and_asked_for_once(time: Time) -> None:
    clock = make_clock(time, commit_every_min=10)
    heard = []

    for now_s in (1000, 1599, 1600, 1601, 3000):
        time.now_s = now_s
        heard.append(clock.rings())
    clock.begin()
    time.now_s = 3600

    assert heard == [False, False, True, False, False]
    assert clock.rings()


def test_without_an_interval_none_is_due_by_time(time: Time) -> None:
    clock = make_clock(time)
    time.now_s = 1e9

    assert not clock.rings()


@pytest.mark.parametrize(("every_min", "retry_s"), [(None, 60), (10, 60), (0.5, 30)])
def test_a_commit_that_failed_is_tried_again_soon(
    time: Time, every_min: float | None, retry_s: float
) -> None:
    clock = make_clock(time, commit_every_min=every_min)
    clock.begin()
    clock.fail()

    time.now_s += retry_s - 1
    too_early = clock.rings()
    time.now_s += 1

    assert (too_early, clock.rings(), clock.retry_s) == (False, True, retry_s)


def test_the_grace_counts_from_the_first_try_that_failed(time: Time) -> None:
    clock = make_clock(time, commit_grace_min=60)
    left_s = []
    clock.begin()
    clock.succeed()

    for wait_s in (9000, 600, 4000):  # hours between commits are no failure
        time.now_s += wait_s
        clock.begin()
        time.now_s += 100
        left_s.append(clock.fail())

    assert left_s == [3500, 2800, 0]


def test_a_commit_that_is_written_gives_the_whole_grace_again(time: Time) -> None:
    clock = make_clock(time, commit_grace_min=60)
    clock.begin()
    clock.fail()
    time.now_s += 3000
    clock.begin()
    clock.succeed()
    time.now_s += 3000
    clock.begin()

    assert clock.fail() == 3600
