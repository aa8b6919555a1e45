"""Where a clip is cut out of its frames, as data, and the same cut of object masks.

One crop holds for all frames of a clip. ``convert`` cuts and resizes the frames themselves.
"""

from dataclasses import dataclass
from itertools import product
from math import exp, log, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from sigma_pipeline.data_prep.config import ClipConfig

_SCALES = (1.0, 0.875, 0.75, 0.66)
# Sides of a crop come from the same scale or from neighbouring ones ("max_distort 1").
_SCALE_PAIRS = [(i, j) for i, j in product(range(len(_SCALES)), repeat=2) if abs(i - j) <= 1]
# Top left corners in quarters of the free space: a 3 x 3 grid and the four points between.
_OFFSETS = [*product((0, 2, 4), repeat=2), *product((1, 3), repeat=2)]
# A side this close to the wanted size is taken at that size, which saves the resizing.
_SNAP_PX = 2
# Of random_resized_crop.
_AREA_SHARES = (0.25, 1.0)
_ASPECTS = (3 / 4, 4 / 3)
_SHAPE_TRIES = 10


@dataclass(frozen=True)
class Crop:
    """A rectangle of the frame, in pixels, mirrored left to right when ``is_flipped``.

    Those made here begin at even pixels, where frames with half the resolution in colour can be cut
    without a shift of colours.
    """

    top: int
    left: int
    height: int
    width: int
    is_flipped: bool = False


def whole_frame(height: int, width: int) -> Crop:
    """All of the frame; its aspect is lost when it is resized to a square."""
    return Crop(0, 0, height, width)


def centre_square(height: int, width: int) -> Crop:
    """The largest square in the middle: the short side resized, then cut, in one step."""
    side = min(height, width)
    return Crop(even((height - side) // 2), even((width - side) // 2), side, side)


def multi_scale_crop(
    height: int, width: int, frame_size_px: int, generator: np.random.Generator
) -> Crop:
    """A random crop of SIGMA's pre-training: one of 10 shapes at one of 13 places (protocols 1.1).

    Args:
        height: of the frame, pixels.
        width: of the frame, pixels.
        frame_size_px: side of the square it will be resized to; sides within 2 pixels snap to it.
        generator: two draws are taken.
    """
    short_side = min(height, width)
    sides = [_snapped(max(1, int(short_side * s)), frame_size_px, short_side) for s in _SCALES]
    high, wide = _SCALE_PAIRS[generator.integers(len(_SCALE_PAIRS))]
    down, right = _OFFSETS[generator.integers(len(_OFFSETS))]
    top = even((height - sides[high]) // 4 * down)
    left = even((width - sides[wide]) // 4 * right)
    return Crop(top, left, sides[high], sides[wide])


def random_resized_crop(height: int, width: int, generator: np.random.Generator) -> Crop:
    """A random part of the frame, resized later: the crop of fine-tuning (protocols 2).

    A quarter to all of the area at an aspect of 3:4 to 4:3, at any place; where no drawn shape
    fits, the largest in the middle whose aspect is allowed.

    Args:
        height: of the frame, pixels.
        width: of the frame, pixels.
        generator: four draws are taken for each shape that is tried.
    """
    for _ in range(_SHAPE_TRIES):
        area = generator.uniform(*_AREA_SHARES) * height * width
        aspect = exp(generator.uniform(log(_ASPECTS[0]), log(_ASPECTS[1])))
        high, wide = round(sqrt(area / aspect)), round(sqrt(area * aspect))
        down, right = generator.random(2)
        if 0 < high <= height and 0 < wide <= width:
            top, left = int(down * (height - high + 1)), int(right * (width - wide + 1))
            return Crop(even(top), even(left), high, wide)
    wide = min(width, round(height * _ASPECTS[1]))
    high = min(height, round(wide / _ASPECTS[0]))
    return Crop(even((height - high) // 2), even((width - wide) // 2), high, wide)


def training_crop(
    height: int, width: int, frame_size_px: int, clip: ClipConfig, generator: np.random.Generator
) -> Crop:
    """The crop of one training clip, as ``clip`` asks for it."""
    if clip.crop == "multi_scale":
        crop = multi_scale_crop(height, width, frame_size_px, generator)
    elif clip.crop == "random_resized":
        crop = random_resized_crop(height, width, generator)
    else:
        crop = whole_frame(height, width)
    is_flipped = bool(generator.random() < clip.flip_probability)
    return Crop(crop.top, crop.left, crop.height, crop.width, is_flipped)


def cut_masks(
    masks: UInt8[np.ndarray, "frames height width"], crop: Crop, frame_size_px: int
) -> UInt8[Tensor, "frames size size"]:
    """The crop of all masks, resized to a square by taking the nearest pixel's object."""
    images = torch.from_numpy(masks)[
        :, None, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width
    ]
    # nearest-exact uses pixel centres, as the resizing of the frames does
    resized = F.interpolate(images, size=(frame_size_px, frame_size_px), mode="nearest-exact")
    return _mirrored(resized, crop)[:, 0]


def _mirrored(images: Tensor, crop: Crop) -> Tensor:
    return images.flip(-1) if crop.is_flipped else images


def even(offset: int) -> int:
    """The even number at or below an offset in pixels."""
    return offset - offset % 2


def _snapped(side: int, frame_size_px: int, short_side: int) -> int:
    is_close = abs(side - frame_size_px) <= _SNAP_PX and frame_size_px <= short_side
    return frame_size_px if is_close else side
