"""Pixels and masks of the demo's clips."""

import numpy as np
import pytest

from sigma_pipeline.data_prep.demo_motions import MOTIONS, Motion
from sigma_pipeline.data_prep.demo_scene import Clip, render_clip

EVERY_MOTION = pytest.mark.parametrize("motion", MOTIONS, ids=lambda motion: motion.name)


def rendered(motion: Motion, seed: int, size_px: int = 32) -> Clip:
    return render_clip(motion, np.random.Generator(np.random.Philox(key=seed)), 8, size_px)


@EVERY_MOTION
def test_a_clip_is_a_function_of_its_draws(motion: Motion) -> None:
    one, again, other = rendered(motion, 1), rendered(motion, 1), rendered(motion, 2)

    assert np.array_equal(one.frames, again.frames)
    assert np.array_equal(one.masks, again.masks)
    assert not np.array_equal(one.frames, other.frames)


@EVERY_MOTION
def test_pixels_without_an_object_are_a_background_that_rests(motion: Motion) -> None:
    clip = rendered(motion, 3)

    edges = clip.masks > 0
    for axis in (1, 2):  # an object's soft edge reaches a pixel beyond its mask
        edges = edges | np.roll(edges, 1, axis) | np.roll(edges, -1, axis)
    background = np.ma.masked_array(clip.frames, np.repeat(edges[..., None], 3, axis=3))
    assert (~edges).mean() > 0.05
    assert (np.ma.max(background, axis=0) == np.ma.min(background, axis=0)).all()


@EVERY_MOTION
def test_objects_change_from_frame_to_frame(motion: Motion) -> None:
    clip = rendered(motion, 4)

    inside = (clip.masks[1:] > 0) & (clip.masks[:-1] > 0)
    change = np.abs(np.diff(clip.frames.astype(int), axis=0)).max(axis=3)
    assert change[inside].mean() > 4


def test_some_clips_have_several_objects_and_all_have_one() -> None:
    clips = [rendered(MOTIONS[0], seed) for seed in range(20)]

    assert {clip.num_objects for clip in clips} == {1, 2}
    assert all(set(np.unique(clip.masks)) <= {0, 1, 2} for clip in clips)
    assert all(1 in clip.masks for clip in clips if clip.num_objects == 1)
    assert any(2 in clip.masks for clip in clips)


def test_a_larger_frame_shows_the_same_scene() -> None:
    small, large = rendered(MOTIONS[0], 5, size_px=32), rendered(MOTIONS[0], 5, size_px=64)

    shrunk = large.frames.reshape(8, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert np.abs(shrunk - small.frames).mean() < 6
