"""RandAugment: the same for all frames, as strong as its magnitude says."""

import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.data_prep.config import AugmentConfig
from sigma_pipeline.data_prep.draws import generator
from sigma_pipeline.data_prep.rand_augment import _OPERATIONS, draw_operations, rand_augment

FINE_TUNING = AugmentConfig(operations=4)


def clip(seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 256, (3, 24, 32, 3), dtype=np.uint8)
    values[:, 8:16, 8:24] //= 4  # something with a place, for what moves it
    return values


def test_a_clip_without_operations_is_returned_as_it_is() -> None:
    frames = clip()

    assert rand_augment(frames, AugmentConfig(), generator(0, 0, 0, "augment")) is frames


def test_the_same_draws_give_the_same_clip_and_others_another() -> None:
    results = [
        rand_augment(clip(), FINE_TUNING, generator(0, 0, position, "augment"))
        for position in (1, 1, 2, 3, 4, 5)
    ]

    assert np.array_equal(results[0], results[1])
    assert any(not np.array_equal(results[0], other) for other in results[2:])


def test_all_frames_of_a_clip_go_through_the_same_operations() -> None:
    still = np.repeat(clip()[:1], 3, axis=0)

    for position in range(20):
        result = rand_augment(still, FINE_TUNING, generator(0, 0, position, "augment"))
        assert np.array_equal(result[0], result[1])
        assert np.array_equal(result[0], result[2])


@pytest.mark.parametrize("name", _OPERATIONS)
def test_each_operation_keeps_the_shape_and_changes_the_picture(name: str) -> None:
    frame = Image.fromarray(clip()[0])

    result = np.asarray(_OPERATIONS[name](0.7, -1.0)(frame))

    assert result.shape == (24, 32, 3)
    assert not np.array_equal(result, np.asarray(frame)) or name == "auto_contrast"


def test_automatic_contrast_spreads_what_is_grey() -> None:
    grey = Image.fromarray(np.linspace(100, 140, 768).reshape(16, 16, 3).astype(np.uint8))

    result = np.asarray(_OPERATIONS["auto_contrast"](0.0, 1.0)(grey))

    assert (result.min(), result.max()) == (0, 255)


def test_each_operation_is_done_half_of_the_time() -> None:
    counts = [
        len(draw_operations(FINE_TUNING, generator(0, 0, position, "augment")))
        for position in range(2000)
    ]

    assert np.mean(counts) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("name", ["rotate", "shear_x", "translate_y", "brightness", "color"])
def test_a_higher_level_changes_more(name: str) -> None:
    frame = Image.fromarray(clip()[0] // 2 + 60)

    weak, strong = (
        np.abs(np.asarray(_OPERATIONS[name](level, 1.0)(frame)).astype(int) - np.asarray(frame))
        for level in (0.05, 0.9)
    )

    assert weak.mean() < strong.mean()
