"""Objects over frames: which pixels change, and to what."""

import numpy as np

from sigma_pipeline.jobs.davis_palette import DAVIS_PALETTE
from sigma_pipeline.jobs.object_overlay import overlaid, resized_objects


def test_the_palette_is_that_of_pascal_voc() -> None:
    first = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]

    assert [tuple(colour) for colour in DAVIS_PALETTE[:5].tolist()] == first
    assert len(np.unique(DAVIS_PALETTE, axis=0)) == 256


def test_an_object_is_tinted_in_its_colour_and_outlined_with_it() -> None:
    frames = np.full((1, 9, 9, 3), 100, dtype=np.uint8)
    objects = np.zeros((1, 9, 9), dtype=np.uint8)
    objects[0, 2:7, 2:7] = 2

    shown = overlaid(frames, objects)[0]

    assert shown[4, 4].tolist() == [50, 114, 50]
    assert shown[2, 4].tolist() == DAVIS_PALETTE[2].tolist()
    assert shown[1, 4].tolist() == [100, 100, 100]


def test_background_and_what_is_not_annotated_stay_as_they_are() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    objects = np.array([0, 255], dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)

    assert np.array_equal(overlaid(frames, objects), frames)


def test_resizing_takes_the_nearest_pixel_and_makes_no_new_ids() -> None:
    objects = np.array([[[1, 1, 9], [1, 1, 9]]], dtype=np.uint8)

    large = resized_objects(objects, 4, 6)

    assert large[0, 0].tolist() == [1, 1, 1, 1, 9, 9]
    assert np.array_equal(resized_objects(large, 2, 3), objects)
