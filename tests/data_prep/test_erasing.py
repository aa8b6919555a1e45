"""Random erasing: one box through all frames, as often as asked for."""

import numpy as np
import pytest
import torch

from sigma_pipeline.data_prep.draws import generator
from sigma_pipeline.data_prep.erasing import draw_box, erase


def changed(position: int, probability: float = 1.0) -> torch.Tensor:
    """Which pixels of a black clip were drawn on, [frames, height, width]."""
    clip = torch.zeros(3, 4, 32, 32, dtype=torch.uint8)
    erase(clip, probability, generator(0, 0, position, "erase"))
    return (clip != 0).any(0)


def test_the_box_is_the_same_in_all_frames_and_within_its_bounds() -> None:
    for position in range(50):
        box = changed(position).any(0)
        rows, columns = box.any(1).nonzero(), box.any(0).nonzero()
        area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)

        assert box.sum() > 0.9 * area  # a drawn pixel may be black by chance
        assert 0.01 < float(area) / 32**2 < 0.37


def test_noise_differs_from_pixel_to_pixel_and_from_frame_to_frame() -> None:
    clip = torch.zeros(3, 2, 32, 32, dtype=torch.uint8)
    erase(clip, 1.0, generator(0, 0, 3, "erase"))

    drawn = clip[:, :, (clip != 0).any(0).any(0)]
    assert len(drawn.unique()) > 20
    assert not torch.equal(clip[:, 0], clip[:, 1])


def test_the_given_share_of_clips_is_erased() -> None:
    erased = sum(bool(changed(position, 0.25).any()) for position in range(400))

    assert erased / 400 == pytest.approx(0.25, abs=0.06)


def test_the_same_draws_erase_the_same() -> None:
    assert torch.equal(changed(7), changed(7))


def test_boxes_fit_into_frames_of_any_shape() -> None:
    for position in range(200):
        box = draw_box(10, 60, np.random.default_rng(position))
        if box is not None:
            top, left, height, width = box
            assert top + height <= 10
            assert left + width <= 60
