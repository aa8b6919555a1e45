"""Crops and what is cut with them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sigma_pipeline.data_prep.augment import (
    Crop,
    centre_square,
    cut,
    cut_masks,
    multi_scale_crop,
    training_crop,
    whole_frame,
)
from sigma_pipeline.data_prep.config import ClipConfig
from sigma_pipeline.data_prep.draws import generator


def some_frames(height: int, width: int, frames: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(frames, height, width, 3), dtype=np.uint8)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 300), st.integers(0, 10**6))
def test_a_multi_scale_crop_lies_in_the_frame(
    height: int, width: int, frame_size_px: int, position: int
) -> None:
    crop = multi_scale_crop(height, width, frame_size_px, generator(0, 0, position, "crop"))

    assert crop.height >= 1
    assert crop.width >= 1
    assert 0 <= crop.top <= height - crop.height
    assert 0 <= crop.left <= width - crop.width


def test_multi_scale_crops_have_the_shapes_and_places_of_the_paper() -> None:
    draws = generator(0, 0, 0, "crop")
    crops = [multi_scale_crop(240, 320, 224, draws) for _ in range(3000)]

    assert {(c.height, c.width) for c in crops} == {
        *[(240, 240), (240, 210), (210, 240), (210, 210), (210, 180)],
        *[(180, 210), (180, 180), (180, 158), (158, 180), (158, 158)],
    }
    squares = {(c.top, c.left) for c in crops if (c.height, c.width) == (180, 180)}
    grid = {(top, left) for top in (0, 30, 60) for left in (0, 70, 140)}
    between = {(top, left) for top in (15, 45) for left in (35, 105)}
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
    assert centre_square(30, 40) == Crop(0, 5, 30, 30)
    assert centre_square(41, 30) == Crop(5, 0, 30, 30)


def test_a_crop_of_the_wanted_size_keeps_its_pixels() -> None:
    frames = some_frames(20, 30)

    clip = cut(frames, Crop(3, 5, 16, 16), 16)

    assert clip.shape == (3, 3, 16, 16)
    assert np.array_equal(clip.permute(1, 2, 3, 0).numpy(), frames[:, 3:19, 5:21])


@pytest.mark.parametrize("frame_size_px", [8, 48])
def test_frames_are_resized_as_pillow_does_it(frame_size_px: int) -> None:
    frames = some_frames(40, 50)

    clip = cut(frames, Crop(1, 2, 30, 20), frame_size_px)

    cropped = Image.fromarray(frames[1]).crop((2, 1, 22, 31))
    expected = cropped.resize((frame_size_px, frame_size_px), Image.Resampling.BILINEAR)
    difference = clip[:, 1].permute(1, 2, 0).int().numpy() - np.asarray(expected).astype(int)
    assert np.abs(difference).max() <= 1


def test_a_flipped_crop_is_mirrored_left_to_right() -> None:
    frames = some_frames(20, 20)

    straight = cut(frames, Crop(0, 0, 20, 20), 16)
    mirrored = cut(frames, Crop(0, 0, 20, 20, is_flipped=True), 16)

    assert torch.equal(mirrored, straight.flip(-1))


def test_masks_are_cut_where_the_frames_are() -> None:
    ids = np.zeros((2, 40, 60), dtype=np.uint8)
    ids[:, 10:20, 30:50] = 7
    frames = np.repeat(ids[..., None], 3, axis=3) * 30

    crop = Crop(4, 12, 32, 32, is_flipped=True)
    masks, clip = cut_masks(ids, crop, 16), cut(frames, crop, 16)

    assert set(masks.unique().tolist()) == {0, 7}
    assert torch.equal(masks == 7, clip[0] > 105)
