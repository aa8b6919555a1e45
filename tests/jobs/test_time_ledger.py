"""Where the time of a run went: every second once, over attempts that stop, die and wait."""

import pytest

from sigma_pipeline.jobs.time_ledger import (
    Life,
    TimeLedger,
    describe_ledger,
    duration,
    ledger_metrics,
    spent_before,
)


class _Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def spend(self, ledger: TimeLedger, purpose: str, seconds: float) -> None:
        with ledger.spent_on(purpose):
            self.now_s += seconds

    @property
    def now_ms(self) -> int:
        return round(1000 * self.now_s)


def begin(clock: _Clock) -> TimeLedger:
    return TimeLedger(clock=clock, began_ms=clock.now_ms)


def test_three_attempts_of_which_one_died_add_up_to_the_time_since_the_submission() -> None:
    clock, submitted_ms = _Clock(1000.0), [1_000_000]
    clock.now_s += 60  # in the queue
    first = begin(clock)
    clock.now_s += 20
    first.begin(spent_before({}, [], submitted_ms, first.began_ms, is_queued=True))
    clock.spend(first, "data_wait_s", 5)
    clock.spend(first, "productive_s", 100)
    clock.spend(first, "commit_wait_s", 3)
    clock.now_s += 2  # said to be spent on nothing
    commit = first.seconds
    clock.spend(first, "productive_s", 40)  # then it dies
    lives = [Life(first.began_ms, clock.now_ms, is_orderly=False, is_queued=True)]

    clock.now_s += 300
    second = begin(clock)
    clock.now_s += 30
    second.begin(spent_before(commit, lives, submitted_ms, second.began_ms, is_queued=True))
    clock.spend(second, "productive_s", 200)
    commit = second.seconds
    clock.now_s += 4  # the commit at its end, and ending
    lives.append(Life(second.began_ms, clock.now_ms, is_orderly=True, is_queued=True))

    clock.now_s += 1000  # over the weekend, then submitted again
    submitted_ms.append(clock.now_ms)
    clock.now_s += 50
    third = begin(clock)
    clock.now_s += 10
    third.begin(spent_before(commit, lives, submitted_ms, third.began_ms, is_queued=True))

    assert third.seconds == pytest.approx(
        {
            "queue_s": 60 + 300 + 50,
            "start_s": 20,
            "restart_s": 30 + 4 + 10,
            "data_wait_s": 5,
            "productive_s": 100 + 200,
            "commit_wait_s": 3,
            "other_s": 2,
            "lost_s": 40,
            "idle_s": 1000,
        }
    )
    assert sum(third.seconds.values()) == pytest.approx(clock.now_s - 1000)


def test_all_of_an_attempt_without_a_commit_is_lost() -> None:
    lives = [Life(10_000, 50_000, is_orderly=False), Life(60_000, 70_000, is_orderly=False)]

    spent = spent_before({"start_s": 5, "productive_s": 15}, lives, [], 75_000)

    assert spent == {"start_s": 5, "productive_s": 15, "lost_s": 20 + 10, "idle_s": 10 + 5}


def test_clocks_that_disagree_never_give_negative_times() -> None:
    lives = [Life(10_000, 90_000, is_orderly=False, is_queued=True)]

    spent = spent_before({"productive_s": 5}, lives, [8_000, 99_000], 60_000, is_queued=True)

    assert all(seconds >= 0 for seconds in spent.values())
    assert sum(spent.values()) == 60 - 8


def test_time_inside_belongs_to_the_inner_purpose_alone_also_when_the_block_fails() -> None:
    clock = _Clock(0)
    ledger = begin(clock)
    ledger.begin({})

    def fail() -> None:
        clock.now_s += 1
        raise ValueError("x")

    with ledger.spent_on("productive_s"):
        clock.now_s += 4
        with pytest.raises(ValueError, match="x"), ledger.spent_on("commit_wait_s"):
            fail()

    assert ledger.seconds == {"start_s": 0, "productive_s": 4, "commit_wait_s": 1, "other_s": 0}


def test_going_back_to_a_commit_loses_the_work_after_it_and_no_other_time() -> None:
    clock = _Clock(0)
    ledger = begin(clock)
    ledger.begin({})
    clock.spend(ledger, "productive_s", 10)
    committed = ledger.seconds
    clock.spend(ledger, "productive_s", 7)
    clock.now_s += 2
    clock.spend(ledger, "restart_s", 3)

    ledger.fall_back(committed)

    assert ledger.seconds == committed | {
        "lost_s": 7 + 2,
        "restart_s": 3,
        "data_wait_s": 0,
        "commit_wait_s": 0,
    }


def test_metrics_have_all_purposes_and_shares_without_evaluation() -> None:
    metrics = ledger_metrics({"productive_s": 30.0, "queue_s": 10.0, "evaluation_s": 500.0})

    assert metrics["time/productive_share"] == 0.75
    assert metrics["time/lost_s"] == metrics["time/lost_share"] == 0
    assert metrics["time/evaluation_s"] == 500
    assert "time/evaluation_share" not in metrics


def test_a_ledger_is_described_from_the_largest_on_with_evaluation_apart() -> None:
    lines = describe_ledger({"queue_s": 900.0, "productive_s": 2700.0, "evaluation_s": 75.0})

    assert [line.split() for line in lines] == [
        ["45", "min", "00", "s", "75.0", "%", "steps"],
        ["15", "min", "00", "s", "25.0", "%", "in", "the", "queue"],
        ["1", "h", "00", "min", "100.0", "%", "since", "the", "first", "submission"],
        ["1", "min", "15", "s", "evaluation,", "beside", "training"],
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 min 00 s"), (75, "1 min 15 s"), (3660 * 25, "25 h 25 min")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
