"""Boxes by second, as the catalogue ``ava`` writes them into annotations."""

import json
import pickle
from typing import Any

import pytest

from sigma_pipeline.data_prep.marked_seconds import (
    MarkedSecond,
    MarkedSeconds,
    has_boxes,
    marked_seconds,
    shown,
)
from tests.jobs.benchmarks.movies import LEFT, MIDDLE, RIGHT, index_of, movie

BOXES: Any = {
    903: [(RIGHT, 3, 1)],
    902: [(LEFT, 5, 0), (RIGHT, 2, 1), (LEFT, 2, 0)],
    904: [(LEFT, 1, 0)],
}


def seconds_of(kind: Any, min_score: float = 0.0, **changes: Any) -> list[MarkedSecond]:
    index = index_of(movie(0, BOXES, **changes))
    (annotation,) = index.annotations()
    return marked_seconds(annotation, index.source(0), kind, min_score)


def test_a_person_who_does_several_things_has_one_box_with_all_of_them() -> None:
    first, second, _ = seconds_of("boxes")

    assert (first.second, first.frame) == (902, 20)
    assert first.boxes == {LEFT: (1, 4), RIGHT: (1,)}
    assert (second.second, second.frame, second.boxes) == (903, 30, {RIGHT: (2,)})


def test_excluded_seconds_and_unsure_boxes_are_left_out() -> None:
    predicted = {902: [(LEFT, None, 0.95), (MIDDLE, None, 0.5)], 903: [(LEFT, None, 0.89)]}

    found = seconds_of("predicted_boxes", 0.9, predicted_boxes=predicted)

    assert [second.second for second in seconds_of("boxes", excluded=[902, 950])] == [903, 904]
    assert [(second.second, second.boxes) for second in found] == [(902, {LEFT: ()})]


def test_seconds_before_the_first_or_after_the_last_frame_are_not_shown() -> None:
    index = index_of(movie(0, BOXES, frames=40, start_s=902.5))
    (annotation,) = index.annotations()
    seconds = marked_seconds(annotation, index.source(0), "boxes")

    assert [second.frame for second in seconds] == [-5, 5, 15]
    assert [second.frame for second in shown(seconds, index.source(0))] == [5, 15]
    assert shown(seconds, index.source(0)._replace(frames=15)) == seconds[1:2]


def test_a_video_goes_by_its_own_rate() -> None:
    index = index_of(movie(0, BOXES))
    (annotation,) = index.annotations()
    source = index.source(0)._replace(media="video", fps=24.0)

    assert marked_seconds(annotation, source, "boxes")[0].frame == 48


def test_boxes_of_two_lists_stand_together_and_the_first_says_what_is_done() -> None:
    true = MarkedSecond(902, 20, {LEFT: (1,)})
    found = MarkedSecond(902, 20, {MIDDLE: (), LEFT: (3,)})

    joined = true.with_boxes(found)

    assert joined.boxes == {LEFT: (1,), MIDDLE: ()}
    assert list(joined.boxes) == [LEFT, MIDDLE]


def test_seconds_of_many_movies_are_kept_as_they_are() -> None:
    movies = [seconds_of("boxes"), [], [MarkedSecond(950, 7, {MIDDLE: (), RIGHT: (0, 79)})]]

    kept = pickle.loads(pickle.dumps(MarkedSeconds(movies)))

    assert [kept.count(number) for number in range(3)] == [3, 0, 1]
    for number, seconds in enumerate(movies):
        assert [kept.get(number, place) for place in range(len(seconds))] == seconds


@pytest.mark.parametrize(
    ("annotation", "is_there"),
    [
        (None, False),
        ("[]", False),
        ('{"boxes": {}}', False),
        ('{"boxes": {"902": []}}', False),
        ('{"boxes": [[0, 0, 1, 1]]}', False),
        (json.dumps({"boxes": {"902": [[0, 0, 1, 1, 12, 0]]}}), True),
    ],
)
def test_only_boxes_by_second_are_boxes(annotation: str | None, is_there: bool) -> None:
    assert has_boxes(annotation) == is_there
