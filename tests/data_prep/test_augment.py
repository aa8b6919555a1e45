"""Crops: rectangles of a frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_pipeline.data_prep.augment import (
    Crop,
    centre_square,
    multi_scale_crop,
    random_resized_crop,
    training_crop,
    whole_frame,
)
from sigma_pipeline.data_prep.config import ClipConfig
from sigma_pipeline.data_prep.draws import generator


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 300), st.integers(0, 10**6))
def test_a_multi_scale_crop_lies_in_the_frame(
    height: int, width: int, frame_size_px: int, position: int
) -> None:
    crop = multi_scale_crop(height, width, frame_size_px, generator(0, 0, position, "crop"))

    assert crop.height >= 1
    assert crop.width >= 1
    assert 0 <= crop.top <= height - crop.height
    assert 0 <= crop.left <= width - crop.width
    assert (crop.top % 2, crop.left % 2) == (0, 0)


def test_multi_scale_crops_have_the_shapes_and_places_of_the_paper() -> None:
    draws = generator(0, 0, 0, "crop")
    crops = [multi_scale_crop(240, 320, 224, draws) for _ in range(3000)]

    assert {(c.height, c.width) for c in crops} == {
        *[(240, 240), (240, 210), (210, 240), (210, 210), (210, 180)],
        *[(180, 210), (180, 180), (180, 158), (158, 180), (158, 158)],
    }
    squares = {(c.top, c.left) for c in crops if (c.height, c.width) == (180, 180)}
    grid = {(top, left) for top in (0, 30, 60) for left in (0, 70, 140)}
    between = {(top, left) for top in (14, 44) for left in (34, 104)}  # even, of 15, 45, 35, 105
    assert squares == grid | between


def test_sides_close_to_the_wanted_size_snap_to_it() -> None:
    draws = generator(0, 0, 0, "crop")
    crops = [multi_scale_crop(256, 256, 222, draws) for _ in range(200)]

    assert {c.height for c in crops} == {256, 222, 192, 168}  # 224 became 222


def test_a_side_never_snaps_to_more_than_the_frame_has() -> None:
    draws = generator(0, 0, 0, "crop")

    assert max(multi_scale_crop(47, 64, 48, draws).height for _ in range(100)) == 47


@pytest.mark.parametrize(("probability", "flips"), [(0.0, {False}), (1.0, {True})])
def test_clips_are_flipped_as_often_as_wanted(probability: float, flips: set[bool]) -> None:
    clip = ClipConfig(flip_probability=probability)
    crops = [training_crop(48, 48, 48, clip, generator(0, 0, p, "crop")) for p in range(50)]

    assert {crop.is_flipped for crop in crops} == flips


def test_resize_takes_the_whole_frame() -> None:
    crop = training_crop(30, 40, 16, ClipConfig(crop="resize"), generator(0, 0, 0, "crop"))

    assert crop == whole_frame(30, 40) == Crop(0, 0, 30, 40)


def test_the_centre_square_is_as_large_as_fits() -> None:
    assert centre_square(30, 42) == Crop(0, 6, 30, 30)
    assert centre_square(41, 30) == Crop(4, 0, 30, 30)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 10**6))
def test_a_random_resized_crop_lies_in_the_frame(height: int, width: int, position: int) -> None:
    crop = random_resized_crop(height, width, generator(0, 0, position, "crop"))

    assert crop.height >= 1
    assert crop.width >= 1
    assert 0 <= crop.top <= height - crop.height
    assert 0 <= crop.left <= width - crop.width


def test_random_resized_crops_spread_over_the_published_areas_and_aspects() -> None:
    draws = generator(0, 0, 0, "crop")
    crops = [random_resized_crop(240, 320, draws) for _ in range(3000)]
    areas = np.array([crop.height * crop.width for crop in crops]) / (240 * 320)
    aspects = np.array([crop.width / crop.height for crop in crops])

    assert (areas.min(), areas.max()) == pytest.approx((0.25, 1.0), abs=0.02)
    assert (aspects.min(), aspects.max()) == pytest.approx((3 / 4, 4 / 3), abs=0.02)
    assert len({(crop.top, crop.left) for crop in crops}) > 1000


def test_a_frame_too_long_for_any_shape_is_cut_in_the_middle() -> None:
    crop = random_resized_crop(10, 1000, generator(0, 0, 0, "crop"))

    assert (crop.height, crop.width) == (10, 13)
    assert crop.left == 492


def test_training_crops_are_those_the_settings_name() -> None:
    shapes = set()
    for position in range(50):
        clip = ClipConfig(crop="random_resized")
        crop = training_crop(240, 320, 224, clip, generator(0, 0, position, "crop"))
        shapes.add((crop.height, crop.width))

    assert len(shapes) > 40
