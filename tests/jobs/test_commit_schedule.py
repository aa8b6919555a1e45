"""A commit that is due stays due until it begins, and no step waits for the one under way."""

from typing import Any, cast

import pytest

from sigma_pipeline.jobs.commit_schedule import CommitSchedule


class Commits:
    """As a schedule sees them."""

    def __init__(self) -> None:
        self.is_quick = False
        self.calls: list[str] = []

    def ends_within(self, wait_s: float) -> bool:
        """A wait."""
        self.calls.append("wait")
        return self.is_quick and wait_s > 0

    def settle(self) -> None:
        """The end of all commits."""
        self.calls.append("settle")


@pytest.fixture
def commits() -> Commits:
    return Commits()


def begun(commits: Commits, told: list[Any], every: int = 1000, bad: tuple[int, ...] = ()) -> Any:
    """Steps after which commits begin; ``told``: bell and busy, by step from 1."""
    schedule = CommitSchedule(cast(Any, commits), every)
    steps = []
    for step, (rings, is_busy) in enumerate(told, 1):
        schedule.hear([rings, 0, is_busy])
        if schedule.begins_after(step, is_good=step not in bad):
            steps.append(step)
    return steps


def test_a_due_commit_is_put_off_until_all_know_that_the_other_is_over(
    commits: Commits, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    busy = [(0, 0), (0, 0), (0, 0), (0, 1), (0, 1), (0, 1), (0, 0), (0, 0)]

    assert begun(commits, busy, every=2) == [2, 7]
    assert commits.calls == ["wait", "wait"]  # once after step 4, once after step 8
    assert caplog.messages[0] == (
        "The commit after step 4 is put off: that of step 2 is still being written"
    )
    assert len(caplog.messages) == 2


def test_on_a_quick_store_commits_lie_at_the_steps_they_were_asked_for(commits: Commits) -> None:
    commits.is_quick = True

    assert begun(commits, [(0, 0), (0, 0), (0, 1), (0, 1)], every=1) == [1, 2, 3, 4]


@pytest.mark.parametrize(("told", "every"), [([(1, 0), (0, 0), (0, 0)], 1000), ([(0, 0)] * 3, 1)])
def test_a_commit_that_meets_bad_steps_follows_them(
    commits: Commits, told: list[Any], every: int
) -> None:
    assert begun(commits, told, every, bad=(1, 2)) == [3]


def test_a_bell_from_before_a_commit_begins_no_second_one(commits: Commits) -> None:
    assert begun(commits, [(0, 0), (0, 0), (1, 0), (0, 0), (1, 0)], every=2) == [2, 4]
    assert begun(commits, [(1, 0), (1, 0), (0, 0), (1, 0)]) == [1, 4]


def test_when_there_will_be_no_more_commits_all_settle(commits: Commits) -> None:
    CommitSchedule(cast(Any, commits), 4).hear([0, 1, 0])

    assert commits.calls == ["settle"]
