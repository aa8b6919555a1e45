"""Rate and position of training, from the numbers that it wrote."""

import pytest

from sigma_pipeline.infra.journal import Entry
from sigma_pipeline.pipeline.train_progress import read_progress, time_of_step

MINUTE_MS = 60_000


def entry(step: int, time_ms: int, **values: float) -> Entry:
    numbers = {f"train/{name}": value for name, value in {"loss": 7.0, **values}.items()}
    return Entry("metrics", "a1", time_ms, {"step": step, "values": numbers})


def test_the_rate_is_that_of_the_last_minutes() -> None:
    slow = [entry(step, step * MINUTE_MS) for step in range(5)]
    fast = [entry(5 + step, 60 * MINUTE_MS + step * 1000) for step in range(100)]

    progress = read_progress([*slow, *fast])

    assert progress is not None
    assert (progress.step, progress.step_s) == (104, 1.0)


def test_one_entry_gives_a_position_but_no_rate() -> None:
    timing = Entry("metrics", "a1", 9, {"step": 3, "values": {"time/productive_s": 1.0}})

    progress = read_progress([entry(3, 7, loss=6.5, slowest_rank=2.0), timing])

    assert progress is not None
    assert (progress.step, progress.time_ms, progress.loss) == (3, 7, 6.5)
    assert (progress.step_s, progress.slowest_rank, progress.slowest_lag) == (None, 2, None)
    assert read_progress([timing]) is None


@pytest.mark.parametrize(("step", "time_ms"), [(9, None), (10, 100), (14, 100), (20, 200)])
def test_a_step_was_taken_when_the_last_numbers_before_it_were_written(
    step: int, time_ms: int | None
) -> None:
    assert time_of_step([entry(10, 100), entry(20, 200)], step) == time_ms
