"""SLURM's time limit, and what else SLURM is about to do with a job."""

import threading
import time
from dataclasses import replace

import pytest

from sigma_pipeline.jobs import stop_wish
from sigma_pipeline.jobs.slurm import JobView, SlurmError
from sigma_pipeline.jobs.stop_wish import (
    StopWish,
    TimeLimit,
    stop_lead_s,
)


@pytest.fixture(autouse=True)
def _slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands are there."""
    monkeypatch.setattr(stop_wish, "slurm_is_here", lambda: True)


NOW_S = time.time()
RUNNING = JobView(
    job_id="7", state="RUNNING", start_time_s=NOW_S - 160_000, end_time_s=NOW_S + 40_000, restarts=1
)
LATER = replace(RUNNING, end_time_s=NOW_S + 400_000)
ENDING = replace(RUNNING, state="COMPLETING", end_time_s=NOW_S)


class Limit:
    """A time limit for which SLURM's answers are given, one after another, the last for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: JobView | SlurmError) -> None:
        self.done: list[str] = []
        self.wish = StopWish()
        self.is_asked, self._is_last = threading.Event(), threading.Event()
        self._pending = list(answers)
        monkeypatch.setattr(stop_wish, "job_view", self._answer)
        monkeypatch.setattr(stop_wish, "_WATCH_INTERVAL_S", 0.01)
        self.limit = TimeLimit(
            "7",
            self.wish,
            restart=1,
            on_cancel=lambda: self.done.append("cancelled"),
            on_taken=lambda: self.done.append("taken"),
            on_limit=lambda: self.done.append("limit"),
            end=lambda status: self.done.append(f"ended {status}"),
        )

    def settle(self) -> TimeLimit:
        """Waits until all answers were given, and a little more."""
        assert self._is_last.wait(10)
        time.sleep(0.1)
        self.limit.close()
        return self.limit

    def _answer(self, job_id: str) -> JobView:
        assert job_id == "7"
        self.is_asked.set()
        answer = self._pending.pop(0) if len(self._pending) > 1 else self._pending[0]
        if len(self._pending) == 1:
            self._is_last.set()
        if isinstance(answer, SlurmError):
            raise answer
        return answer


def test_the_time_limit_comes_near(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limit(monkeypatch, RUNNING).settle()

    assert not limit.is_near(30_000)
    assert limit.is_near(50_000)


def test_a_slow_save_takes_no_more_than_a_quarter_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = Limit(monkeypatch, replace(RUNNING, start_time_s=NOW_S)).settle()

    assert not limit.is_near(1e9)


@pytest.mark.parametrize(
    ("last", "is_near"),
    [
        (LATER, False),
        (replace(LATER, preempt_time_s=NOW_S), True),
        (SlurmError("no answer"), True),
        (ENDING, True),
    ],
)
def test_a_limit_may_be_moved_and_stays_where_slurm_says_nothing_new(
    monkeypatch: pytest.MonkeyPatch, last: JobView | SlurmError, is_near: bool
) -> None:
    monkeypatch.setattr(stop_wish, "_ASK_INTERVAL_S", 0.01)

    limit = Limit(monkeypatch, RUNNING, last).settle()

    assert limit.is_near(50_000) == is_near


def test_a_job_that_has_not_saved_in_time_ends_before_slurm_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Limit(monkeypatch, replace(RUNNING, end_time_s=NOW_S + 40))

    asked.settle()

    assert asked.done == ["limit", "ended 1"]


def test_a_store_that_does_not_answer_keeps_nobody_past_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stop_wish, "_TELL_S", 0.01)
    monkeypatch.setattr(stop_wish, "job_view", lambda _: replace(RUNNING, end_time_s=NOW_S))
    answers, ended = threading.Event(), threading.Event()

    TimeLimit(
        "7",
        StopWish(),
        restart=1,
        on_cancel=pytest.fail,
        on_taken=pytest.fail,
        on_limit=lambda: answers.wait(60),
        end=lambda _: ended.set(),
    )

    assert ended.wait(10)
    answers.set()


def test_a_limit_that_is_closed_while_slurm_is_asked_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_asked, answers, done = threading.Event(), threading.Event(), list[str]()

    def answer(_: str) -> JobView:
        is_asked.set()
        answers.wait(10)
        return replace(RUNNING, end_time_s=NOW_S)

    monkeypatch.setattr(stop_wish, "job_view", answer)
    limit = TimeLimit(
        "7",
        StopWish(),
        restart=1,
        on_cancel=pytest.fail,
        on_taken=pytest.fail,
        on_limit=lambda: done.append("limit"),
        end=lambda _: done.append("ended"),
    )
    assert is_asked.wait(10)
    limit.close()
    answers.set()
    for thread in threading.enumerate():
        if thread.name == "time-limit":
            thread.join(10)

    assert done == []


@pytest.mark.parametrize(
    ("ending", "done"),
    [
        (ENDING, ["cancelled"]),
        (replace(ENDING, restarts=2), ["taken"]),
        (replace(ENDING, reason="TimeLimit"), []),
        (replace(ENDING, preempt_time_s=1.0), ["taken"]),
        (replace(RUNNING, preempt_time_s=1.0), ["taken"]),
        (RUNNING, []),
    ],
)
def test_a_wish_to_stop_makes_it_ask_whether_the_job_was_cancelled(
    monkeypatch: pytest.MonkeyPatch, ending: JobView, done: list[str]
) -> None:
    asked = Limit(monkeypatch, RUNNING, ending)

    assert asked.is_asked.wait(10)
    asked.wish.wish("signal SIGTERM")

    asked.settle()
    assert asked.done == done


def test_an_end_that_began_before_it_first_asked_is_noticed_and_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stop_wish, "_ASK_INTERVAL_S", 0.01)

    asked = Limit(monkeypatch, replace(ENDING, restarts=2))

    asked.settle()
    assert asked.done == ["taken"]


def test_a_controller_that_does_not_answer_a_job_that_is_ended_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stop_wish, "_ENDING_ASK_INTERVAL_S", 0.01)
    asked = Limit(monkeypatch, RUNNING, SlurmError("no answer"), replace(ENDING, restarts=2))
    assert asked.is_asked.wait(10)

    asked.wish.wish("signal SIGTERM")

    asked.settle()
    assert asked.done == ["taken"]


def test_a_container_without_slurms_commands_is_told_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stop_wish, "slurm_is_here", lambda: False)

    limit = TimeLimit(
        "7",
        StopWish(),
        restart=0,
        on_cancel=pytest.fail,
        on_taken=pytest.fail,
        on_limit=pytest.fail,
    )

    assert not limit.is_near(1e12)
    assert "SLURM'S COMMANDS ARE NOT VISIBLE HERE" in caplog.text


def test_outside_slurm_there_is_no_time_limit() -> None:
    limit = TimeLimit(
        None,
        StopWish(),
        restart=0,
        on_cancel=pytest.fail,
        on_taken=pytest.fail,
        on_limit=pytest.fail,
    )

    assert not limit.is_near(1e12)


def test_a_stop_begins_early_enough_for_a_save_that_has_begun_and_one_of_its_own() -> None:
    assert stop_lead_s(longest_save_s=60, slowest_step_s=4) == 168
