"""Scores of counts."""

import pytest

from sigma_pipeline.jobs.benchmarks.cycle_result import (
    counting_result,
    mean_count_note,
    shown_videos,
)


def test_errors_are_relative_to_the_true_count_and_one_off_is_close() -> None:
    result = counting_result(["a", "b", "c", "d"], [2, 4, 10, 5], [3, 4, 12, 0], ["remark"])

    mae, obo = result.scores
    assert (mae.name, mae.value, mae.higher_is_better) == ("mae", (0.5 + 0 + 0.2 + 1) / 4, False)
    assert (obo.name, obo.value, obo.higher_is_better) == ("obo", 0.5, True)
    assert mae.low < mae.value < mae.high
    assert obo.low < obo.value < obo.high
    assert result.outcomes == {
        "key": ["a", "b", "c", "d"],
        "count": [2, 4, 10, 5],
        "prediction": [3, 4, 12, 0],
        "mae": [0.5, 0, 0.2, 1],
        "obo": [True, True, False, False],
    }
    assert result.notes == ("remark",)


def test_the_mean_count_of_training_is_something_to_hold_scores_against() -> None:
    assert mean_count_note([2, 4, 6], [2, 8]) == (
        "who always says 4, the mean count of the training split, has an mae of 0.750"
    )


@pytest.mark.parametrize(
    ("wanted", "shown"), [(0, []), (1, [1]), (3, [1, 2, 3]), (9, [1, 0, 2, 4, 3])]
)
def test_videos_are_shown_from_the_best_counted_to_the_worst(wanted: int, shown: list[int]) -> None:
    assert shown_videos([0.1, 0.0, 0.2, 0.9, 0.5], wanted) == shown
