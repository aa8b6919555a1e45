"""Frame mAP: hand-made cases, and a slow reference that follows the definition box by box."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from sigma_pipeline.jobs.benchmarks.frame_map import (
    Detections,
    TrueBoxes,
    average_precision,
    drawn_mean_precisions,
    mean_precision,
    movie_values,
    ranked_hits,
    surest_of_frames,
)

Box = tuple[float, float, float, float]
LEFT, RIGHT = (0.0, 0.0, 0.4, 1.0), (0.5, 0.0, 0.9, 1.0)


def truth(*boxes: tuple[int, Box]) -> TrueBoxes:
    return TrueBoxes(
        np.array([frame for frame, _ in boxes], dtype=np.int64),
        np.array([box for _, box in boxes]).reshape(-1, 4),
    )


def detections(*boxes: tuple[int, Box, float]) -> Detections:
    return Detections(
        np.array([frame for frame, _, _ in boxes], dtype=np.int64),
        np.array([box for _, box, _ in boxes]).reshape(-1, 4),
        np.array([score for _, _, score in boxes]),
    )


def precision(found: Detections, there: TrueBoxes) -> float:
    return average_precision(ranked_hits(found, there))


def test_all_boxes_found_before_any_mistake_is_one() -> None:
    found = detections((0, LEFT, 0.9), (1, RIGHT, 0.8), (1, LEFT, 0.1))

    assert precision(found, truth((0, LEFT), (1, RIGHT))) == 1


def test_a_mistake_that_is_surer_costs_precision_at_all_recalls_after_it() -> None:
    found = detections((2, LEFT, 0.9), (0, LEFT, 0.8), (1, RIGHT, 0.7))

    # Precisions 0/1, 1/2, 2/3; the best at recall 1/2 or more, and at 1, is 2/3.
    assert precision(found, truth((0, LEFT), (1, RIGHT))) == pytest.approx(2 / 3)


def test_boxes_that_nothing_found_count() -> None:
    found = detections((0, LEFT, 0.9))

    assert precision(found, truth((0, LEFT), (1, RIGHT), (5, LEFT), (6, LEFT))) == 0.25


def test_a_box_is_found_once_and_a_second_detection_of_it_is_a_mistake() -> None:
    found = detections((0, LEFT, 0.9), (0, LEFT, 0.8), (1, RIGHT, 0.7))

    assert precision(found, truth((0, LEFT), (1, RIGHT))) == pytest.approx((1 + 2 / 3) / 2)


def test_a_detection_is_held_against_the_box_that_it_overlaps_most_alone() -> None:
    there = truth((0, (0, 0, 1, 1)), (0, (0, 0, 1, 0.8)))
    found = detections((0, (0, 0, 1, 1), 0.9), (0, (0, 0, 1, 0.95), 0.8))

    hits = ranked_hits(found, there)

    assert hits.is_hit.tolist() == [True, False]  # though 0.8 / 0.95 with the other one is free


@pytest.mark.parametrize(("height", "is_hit"), [(0.5, True), (0.499, False)])
def test_half_an_overlap_is_enough(height: float, is_hit: bool) -> None:
    hits = ranked_hits(detections((0, (0, 0, 1, height), 0.9)), truth((0, (0, 0, 1, 1))))

    assert hits.is_hit.tolist() == [is_hit]


def test_a_box_without_area_is_no_detection() -> None:
    found = detections((0, (0.4, 0, 0.4, 1), 0.9), (0, LEFT, 0.8))

    assert precision(found, truth((0, LEFT))) == 1


def test_a_class_with_truth_and_no_detection_has_zero_and_one_without_truth_is_left_out() -> None:
    nothing, missed = detections(), truth((0, LEFT))
    classes = [
        ranked_hits(nothing, missed),
        ranked_hits(detections((0, LEFT, 0.9)), missed),
        ranked_hits(detections((0, LEFT, 0.9)), truth()),
    ]

    assert [average_precision(hits) for hits in classes[:2]] == [0, 1]
    assert math.isnan(average_precision(classes[2]))
    assert mean_precision(classes) == 0.5
    assert math.isnan(mean_precision(classes[2:]))


def test_the_surest_boxes_of_each_frame_are_kept_whatever_their_class() -> None:
    frames, scores = np.array([3, 1, 3, 1, 3]), np.array([0.2, 0.9, 0.8, 0.1, 0.8])

    assert surest_of_frames(frames, scores, 2).tolist() == [1, 2, 3, 4]
    assert surest_of_frames(frames, scores, 1).tolist() == [1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_any_boxes_score_as_the_definition_says(seed: int) -> None:
    there, found = random_boxes(seed)

    assert precision(found, there) == pytest.approx(slow_precision(found, there), abs=1e-12)


def test_a_movie_that_is_drawn_twice_counts_as_two_copies() -> None:
    there, found = random_boxes(11)
    movies, weights = np.arange(12) % 4, np.array([[2, 0, 1, 3], [1, 1, 1, 1], [0, 0, 0, 0]])
    hits = ranked_hits(found, there)

    drawn = drawn_mean_precisions([hits], movies, weights)

    # Copies of one detection stand side by side, as its weight does.
    copies = [(i, copy) for i, f in enumerate(found.frames) for copy in range(weights[0, f % 4])]
    copied = Detections(
        np.array([found.frames[i] + 12 * copy for i, copy in copies]),
        found.corners[[i for i, _ in copies]],
        found.scores[[i for i, _ in copies]],
    )
    boxes = [
        (int(frame) + 12 * copy, tuple(box))
        for frame, box in zip(there.frames, there.corners, strict=True)
        for copy in range(weights[0, frame % 4])
    ]
    expected = [slow_precision(copied, truth(*boxes)), slow_precision(found, there)]
    assert drawn[:2] == pytest.approx(expected, abs=1e-12)
    assert math.isnan(drawn[2])


def test_draws_without_any_box_of_a_class_leave_it_out() -> None:
    one = ranked_hits(detections((0, LEFT, 0.9)), truth((0, LEFT)))
    other = ranked_hits(detections(), truth((1, LEFT)))

    drawn = drawn_mean_precisions(
        [one, other], np.array([0, 1]), np.array([[1, 1], [2, 0], [0, 2]])
    )

    assert drawn.tolist() == [0.5, 1, 0]


def test_what_movies_add_is_by_how_much_the_score_falls_without_each() -> None:
    there, found = random_boxes(5)
    movies = np.arange(12) // 3
    hits = ranked_hits(found, there)

    values = movie_values([hits], movies)

    assert values.mean() == pytest.approx(mean_precision([hits]))
    without = [slow_precision_without(movie, movies, found, there) for movie in range(4)]
    assert np.diff(values) == pytest.approx(-3 * np.diff(without))


def test_the_only_movie_adds_all() -> None:
    hits = ranked_hits(detections((0, LEFT, 0.9), (1, RIGHT, 0.8)), truth((0, LEFT), (2, LEFT)))

    assert movie_values([hits], np.zeros(3, dtype=np.int64)).tolist() == [0.5]


def random_boxes(seed: int) -> tuple[TrueBoxes, Detections]:
    """Boxes in 12 frames, and detections of most of them, moved a little, among others."""
    generator = np.random.default_rng(seed)
    boxes = random_corners(generator, 40)
    frames = generator.integers(10, size=40)
    moved = boxes[:30] + generator.normal(0, 0.04, (30, 4))
    corners = np.concatenate([moved, moved[:10], random_corners(generator, 30)])
    of_frames = np.concatenate([frames[:30], frames[:10], generator.integers(12, size=30)])
    scores = generator.integers(20, size=70) / 20  # some are as sure as others
    return TrueBoxes(frames, boxes), Detections(of_frames, corners, scores)


def random_corners(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    starts = generator.random((count, 2)) * 0.5
    return np.concatenate([starts, starts + 0.1 + generator.random((count, 2)) * 0.4], axis=1)


def slow_precision(found: Detections, there: TrueBoxes) -> float:
    taken: set[int] = set()
    hits: list[bool] = []
    for i in sorted(range(len(found.scores)), key=lambda i: -found.scores[i]):
        x1, y1, x2, y2 = found.corners[i]
        if x2 <= x1 or y2 <= y1:
            continue
        rivals = [j for j, frame in enumerate(there.frames) if frame == found.frames[i]]
        best = max(
            rivals, key=lambda j: slow_overlap(found.corners[i], there.corners[j]), default=-1
        )
        is_near = best >= 0 and slow_overlap(found.corners[i], there.corners[best]) >= 0.5
        hits.append(is_near and best not in taken)
        taken |= {best} if is_near else set()
    return area(hits, len(there.frames))


def slow_precision_without(
    movie: int, movies: NDArray[np.int64], found: Detections, there: TrueBoxes
) -> float:
    is_left = movies[there.frames] != movie
    others = TrueBoxes(there.frames[is_left], there.corners[is_left])
    return slow_precision(found.part(movies[found.frames] != movie), others)


def slow_overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return float(width * height / (areas - width * height))


def area(hits: Sequence[bool], num_boxes: int) -> float:
    points = [
        (sum(hits[: n + 1]) / num_boxes, sum(hits[: n + 1]) / (n + 1)) for n in range(len(hits))
    ]
    recalls = sorted({0.0, *(recall for recall, _ in points)})
    return sum(
        (high - low) * max(precision for recall, precision in points if recall >= high)
        for low, high in pairwise(recalls)
    )
