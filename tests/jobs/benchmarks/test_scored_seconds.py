"""Which boxes are scored, and what there is to be found."""

from typing import Any

from sigma_pipeline.jobs.benchmarks.scored_seconds import ScoredSeconds, scored_seconds
from tests.jobs.benchmarks.movies import LEFT, MIDDLE, RIGHT, index_of, movie

TRUE: Any = {902: [(LEFT, 2, 0), (LEFT, 3, 0), (RIGHT, 3, 1)], 904: [(RIGHT, 5, 1)]}


def marked(scored: ScoredSeconds) -> list[tuple[int, tuple[float, ...], int]]:
    marks = scored.marks
    corners = map(tuple, marks.corners.tolist())
    return list(zip(marks.seconds.tolist(), corners, marks.labels.tolist(), strict=True))


def test_without_predicted_boxes_the_true_ones_are_scored_once_each() -> None:
    index = index_of(movie(0, {}), movie(1, TRUE), movie(2, {901: [(MIDDLE, 1, 0)]}))

    scored = scored_seconds(index, 0.9, with_predicted=True)

    boxes = scored.boxes
    assert (boxes.samples.tolist(), boxes.seconds.tolist()) == ([1, 1, 2], [902, 904, 901])
    assert (boxes.frames.tolist(), boxes.box_seconds.tolist()) == ([20, 40, 10], [0, 0, 1, 2])
    assert [tuple(box) for box in boxes.corners.tolist()] == [LEFT, RIGHT, RIGHT, MIDDLE]
    assert marked(scored) == [
        (0, LEFT, 1),
        (0, LEFT, 2),
        (0, RIGHT, 2),
        (1, RIGHT, 4),
        (2, MIDDLE, 0),
    ]
    assert not scored.is_predicted


def test_predicted_boxes_are_scored_where_there_is_nothing_to_be_found_too() -> None:
    predicted = {902: [(MIDDLE, None, 0.9), (LEFT, None, 0.5)], 903: [(LEFT, None, 0.99)]}
    index = index_of(movie(0, TRUE, predicted_boxes=predicted), movie(1, TRUE))

    scored = scored_seconds(index, 0.9, with_predicted=True)

    assert scored.is_predicted
    assert scored.boxes.seconds.tolist() == [902, 903, 904, 902, 904]
    assert scored.boxes.box_seconds.tolist() == [0, 1]  # the others count as missed
    assert [tuple(box) for box in scored.boxes.corners.tolist()] == [MIDDLE, LEFT]
    assert sorted({second for second, _, _ in marked(scored)}) == [0, 2, 3, 4]


def test_predicted_boxes_may_be_left_alone() -> None:
    index = index_of(movie(0, TRUE, predicted_boxes={902: [(MIDDLE, None, 0.9)]}))

    scored = scored_seconds(index, 0.9, with_predicted=False)

    assert not scored.is_predicted
    assert len(scored.boxes) == 3


def test_annotated_seconds_that_no_frame_shows_are_counted() -> None:
    predicted = {903: [(MIDDLE, None, 0.9)], 909: [(MIDDLE, None, 0.9)]}
    index = index_of(movie(0, TRUE, frames=30, predicted_boxes=predicted))

    scored = scored_seconds(index, 0.9, with_predicted=True)

    assert (scored.boxes.seconds.tolist(), scored.num_hidden) == ([902], 1)
