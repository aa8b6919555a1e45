"""From scores of boxes to frame mAP, its interval, and what is kept beside it."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sigma_pipeline.jobs.benchmarks.detection_result import Detected, detection_result
from sigma_pipeline.jobs.benchmarks.scored_seconds import scored_seconds
from tests.jobs.benchmarks.movies import CLASSES, LEFT, RIGHT, index_of, movie

TRUE: Any = {902: [(LEFT, 2, 0), (RIGHT, 3, 1)], 904: [(RIGHT, 5, 1)]}
SCORES = np.array(  # of LEFT and RIGHT at 902, RIGHT at 904
    [[0.9, 0.8, 0.1, 0, 0.3], [0.9, 0.2, 0.7, 0, 0.9], [0.9, 0.1, 0.2, 0, 0.6]]
)


def detected(scores: NDArray[np.float64], *movies: Any, **changes: Any) -> Detected:
    index = index_of(*(movie(number, boxes) for number, boxes in enumerate(movies)))
    given = {"labels": (1, 2, 4), "classes": CLASSES} | changes
    keys = [row.key for row in index.rows]
    return Detected(scored_seconds(index, 0.9, with_predicted=True), scores, keys=keys, **given)


def test_the_mean_is_over_the_classes_that_count() -> None:
    result = detection_result(detected(SCORES, TRUE), seed=0)

    (mean,) = result.scores
    assert (mean.name, mean.samples) == ("frame_map", 1)
    assert mean.value == pytest.approx((1 + 1 + 0.5) / 3)  # "walk" was found a box too early
    assert result.files["average_precision.csv"].decode().splitlines() == [
        "number,class,boxes,average_precision",
        '2,"sit",1,1.000000',
        '3,"stand",1,1.000000',
        '5,"walk",1,0.500000',
    ]


def test_outcomes_say_what_each_movie_adds() -> None:
    scores = np.concatenate([SCORES, SCORES, 1 - SCORES])

    result = detection_result(detected(scores, TRUE, {}, TRUE, TRUE), seed=0)

    outcomes = result.outcomes
    assert len(set(outcomes["key"])) == 3  # of four, one without a second
    assert outcomes["seconds"] == [2, 2, 2]
    assert np.mean(outcomes["frame_map"]) == pytest.approx(result.scores[0].value)
    assert outcomes["frame_map"][0] == pytest.approx(outcomes["frame_map"][1])
    assert outcomes["frame_map"][2] < outcomes["frame_map"][1]


def test_what_was_left_out_and_whose_boxes_they_are_is_said() -> None:
    result = detection_result(detected(SCORES, TRUE, labels=(0, 1, 2, 4)), 0, ["a note"])

    assert result.notes == (
        "a note",
        "boxes are the true ones, so that only actions had to be told: an upper bound of what a "
        "detector's boxes give",
        "mean over 3 classes: of 5, 4 count and 3 have a true box",
        "one movie: no interval",
    )
    (bars,) = result.figures
    assert (bars.classes, bars.samples) == ([1, 2, 4], [1, 1, 1])


def test_the_interval_is_that_of_other_movies() -> None:
    good, bad = SCORES, 1 - SCORES
    result = detection_result(detected(np.concatenate([good, bad] * 3), *[TRUE] * 6), seed=0)
    alone = detection_result(detected(good, TRUE), seed=0).scores[0]

    mean = result.scores[0]

    assert mean.low < mean.value - 0.05 < mean.value + 0.05 < mean.high
    assert (alone.low, alone.high) == pytest.approx((alone.value, alone.value))


@pytest.mark.parametrize(
    ("scores", "changes", "message"),
    [
        (SCORES, {"labels": (0, 3)}, "no second of the test split has a true box of a class"),
        (np.where(SCORES == 0, np.nan, SCORES), {}, "the model's scores are not finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    scores: NDArray[np.float64], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        detection_result(detected(scores, TRUE, **changes), seed=0)
