"""Where a clip is cut out of its frames, as data, and the cutting itself.

One crop holds for all frames of a clip. Resizing is bilinear with the filter widened when it
shrinks (as pillow does), in uint8: integer arithmetic, so the bytes don't depend on batch size or
thread count, and several times faster than a detour over floating point.
"""

from dataclasses import dataclass
from itertools import product

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


@dataclass(frozen=True)
class Crop:
    """A rectangle of the frame, in pixels, mirrored left to right when ``is_flipped``."""

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
    return Crop((height - side) // 2, (width - side) // 2, side, side)


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
    top = (height - sides[high]) // 4 * down
    left = (width - sides[wide]) // 4 * right
    return Crop(top, left, sides[high], sides[wide])


def training_crop(
    height: int, width: int, frame_size_px: int, clip: ClipConfig, generator: np.random.Generator
) -> Crop:
    """The crop of one training clip, as ``clip`` asks for it."""
    if clip.crop == "multi_scale":
        crop = multi_scale_crop(height, width, frame_size_px, generator)
    else:
        crop = whole_frame(height, width)
    is_flipped = bool(generator.random() < clip.flip_probability)
    return Crop(crop.top, crop.left, crop.height, crop.width, is_flipped)


def cut(
    frames: UInt8[np.ndarray, "frames height width 3"], crop: Crop, frame_size_px: int
) -> UInt8[Tensor, "3 frames size size"]:
    """The crop of all frames, resized to a square; may share memory with ``frames``."""
    images = torch.from_numpy(frames)[
        :, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width
    ].permute(0, 3, 1, 2)  # channels stay innermost in memory: the quick layout for resizing
    if images.shape[-2:] != (frame_size_px, frame_size_px):
        images = F.interpolate(
            images, size=(frame_size_px, frame_size_px), mode="bilinear", antialias=True
        )
    return _mirrored(images, crop).transpose(0, 1)


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


def _snapped(side: int, frame_size_px: int, short_side: int) -> int:
    is_close = abs(side - frame_size_px) <= _SNAP_PX and frame_size_px <= short_side
    return frame_size_px if is_close else side
