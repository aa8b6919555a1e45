"""Random erasing (Zhong et al., 2020; protocols 2): a box of noise through all frames of a clip."""

from math import exp, log, sqrt

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

_AREA = (0.02, 1 / 3)
"""Of the frame."""
_ASPECT = (0.3, 1 / 0.3)
_TRIES = 10
# The noise is standard normal once the device has normalized the clip.
_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1, 1) * 255
_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1, 1) * 255


def erase(
    clip: UInt8[Tensor, "3 frames height width"],
    probability: float,
    generator: np.random.Generator,
) -> None:
    """Fills, with ``probability``, one box of the clip with noise, in place.

    The box is the same in all frames ("cube"); every pixel of every frame is drawn by itself.
    """
    if generator.random() >= probability:
        return
    box = draw_box(clip.shape[-2], clip.shape[-1], generator)
    if box is None:
        return
    top, left, height, width = box
    hole = clip[:, :, top : top + height, left : left + width]
    noise = torch.from_numpy(generator.standard_normal(hole.shape, dtype=np.float32))
    hole.copy_((noise * _STD + _MEAN).round_().clamp_(0, 255))


def draw_box(
    height: int, width: int, generator: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) in pixels; None when no drawn shape fits."""
    for _ in range(_TRIES):
        area = generator.uniform(*_AREA) * height * width
        aspect = exp(generator.uniform(log(_ASPECT[0]), log(_ASPECT[1])))
        high, wide = round(sqrt(area * aspect)), round(sqrt(area / aspect))
        if 0 < high < height and 0 < wide < width:
            top = int(generator.integers(height - high + 1))
            left = int(generator.integers(width - wide + 1))
            return top, left, high, wide
    return None
