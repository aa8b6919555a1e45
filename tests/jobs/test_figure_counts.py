"""Pictures of counting: where dots and boundaries stand."""

import io

import numpy as np
from PIL import Image

from sigma_pipeline.jobs.benchmarks.figures import Counts, SelfSimilarity
from sigma_pipeline.jobs.figure_counts import (
    FOUND,
    SIDE_PX,
    THUMBNAILS,
    TRUE,
    ShownCycles,
    cosine_colours,
    draw_counts,
    draw_cycles,
    thumbnail_frames,
)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def has_colour(page: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """[height, width]"""
    is_it: np.ndarray = (page == np.array(colour, dtype=np.uint8)).all(axis=-1)
    return is_it


def cycles() -> SelfSimilarity:
    return SelfSimilarity(
        key="swing-1",
        similarity=np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4),
        first=7,
        boundaries=np.array([0.0, 16, 32]),
        found_boundaries=np.array([0.0, 8, 16, 24]),
        count=4,
    )


def test_a_dot_stands_over_its_true_count_and_beside_what_was_said() -> None:
    right, wrong = (pixels(draw_counts(Counts([4], [said]))) for said in (4, 1))

    (right_y, right_x), (wrong_y, wrong_x) = (
        np.argwhere(has_colour(page, TRUE)).mean(axis=0) for page in (right, wrong)
    )
    assert right_x == wrong_x
    assert wrong_y - right_y > SIDE_PX * 3 / 5 - 2


def test_dots_are_larger_for_more_videos() -> None:
    true, said = [2, 20, 20, 20, 20], [20, 2, 2, 2, 2]

    dots = has_colour(pixels(draw_counts(Counts(true, said))), TRUE)

    columns = np.flatnonzero(dots.any(axis=0))
    rare, common = np.split(columns, [int(np.flatnonzero(np.diff(columns) > 1)[0]) + 1])
    assert len(common) > len(rare)


def test_boundaries_stand_beside_the_moments_that_they_part() -> None:
    thumbnails = np.zeros((THUMBNAILS, 8, 8, 3), dtype=np.uint8)

    page = pixels(draw_cycles(ShownCycles("val/swing/1.mp4", cycles(), thumbnails)))

    true, found = has_colour(page, TRUE), has_colour(page, FOUND)
    above, below = np.flatnonzero(true[-SIDE_PX - 52]), np.flatnonzero(found[-40])
    runs = [1 + int((np.diff(ticks) > 1).sum()) for ticks in (above, below)]
    assert runs == [3, 4]
    assert np.ptp(above) == SIDE_PX + 2
    assert np.ptp(below) == SIDE_PX * 24 / 32 + 2


def test_colours_tell_alike_from_unlike() -> None:
    unlike, neither, alike = cosine_colours([-1, 0, 1]).astype(int)

    assert neither.tolist() == [255, 255, 255]
    assert alike[2] > alike[0]
    assert unlike[0] > unlike[2]


def test_thumbnails_are_spread_over_the_part() -> None:
    assert thumbnail_frames(cycles()) == [2, 6, 10, 14, 18, 22, 26, 30]
