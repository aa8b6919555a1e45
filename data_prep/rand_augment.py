"""RandAugment of clips, as fine-tuning uses it (Cubuk et al., 2020; protocols 2).

The policy ``rand-m7-n4-mstd0.5-inc1``: operations drawn with replacement, each then done with
probability 0.5, all of them stronger with a higher magnitude. What is drawn holds for all frames
of the clip; what an operation measures (a histogram, a mean) it measures on each frame.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from sigma_pipeline.data_prep.config import AugmentConfig

Frame = Image.Image
Operation = Callable[[Frame], Frame]

_PROBABILITY = 0.5
_MAX_MAGNITUDE = 10.0
_FILL = (124, 116, 104)
"""ImageNet's mean, where a frame was moved away."""


def rand_augment(
    frames: UInt8[np.ndarray, "frames height width 3"],
    augment: AugmentConfig,
    generator: np.random.Generator,
) -> UInt8[np.ndarray, "frames height width 3"]:
    """The frames of one clip after the drawn operations; ``frames`` itself when none was drawn."""
    operations = draw_operations(augment, generator)
    if not operations:
        return frames
    return np.stack([_through(operations, Image.fromarray(frame)) for frame in frames])


def draw_operations(augment: AugmentConfig, generator: np.random.Generator) -> list[Operation]:
    """The operations of one clip, in the order they are done."""
    chosen = generator.integers(len(_OPERATIONS), size=augment.operations)
    is_done = generator.random(augment.operations) < _PROBABILITY
    levels = generator.normal(augment.magnitude, augment.magnitude_std, augment.operations)
    levels = np.clip(levels, 0, _MAX_MAGNITUDE) / _MAX_MAGNITUDE
    signs = np.where(generator.random(augment.operations) < 0.5, -1.0, 1.0)
    makers = list(_OPERATIONS.values())
    return [
        makers[number](float(level), float(sign))
        for number, done, level, sign in zip(chosen, is_done, levels, signs, strict=True)
        if done
    ]


def _through(operations: list[Operation], frame: Frame) -> NDArray[np.uint8]:
    for operation in operations:
        frame = operation(frame)
    return np.asarray(frame)


def _rotate(degrees: float, frame: Frame) -> Frame:
    return frame.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=_FILL)


def _affine(matrix: tuple[float, ...], frame: Frame) -> Frame:
    return frame.transform(
        frame.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=_FILL
    )


def _translate(right: float, down: float, frame: Frame) -> Frame:
    """By fractions of the frame's width and height."""
    return _affine((1, 0, right * frame.width, 0, 1, down * frame.height), frame)


def _solarize_add(amount: int, frame: Frame) -> Frame:
    table = [min(255, value + amount) if value < 128 else value for value in range(256)]
    return frame.point(table * 3)


def _enhance(enhancer: Callable[[Frame], Any], by: float, frame: Frame) -> Frame:
    enhanced: Frame = enhancer(frame).enhance(max(0.1, 1 + 0.9 * by))
    return enhanced


# Each takes a level in [0, 1] and a sign.
_OPERATIONS: Mapping[str, Callable[[float, float], Operation]] = {
    "auto_contrast": lambda _level, _sign: ImageOps.autocontrast,
    "equalize": lambda _level, _sign: ImageOps.equalize,
    "invert": lambda _level, _sign: ImageOps.invert,
    "rotate": lambda level, sign: partial(_rotate, 30 * level * sign),
    "posterize": lambda level, _sign: partial(ImageOps.posterize, bits=max(1, 4 - int(4 * level))),
    "solarize": lambda level, _sign: partial(ImageOps.solarize, threshold=256 - int(256 * level)),
    "solarize_add": lambda level, _sign: partial(_solarize_add, int(110 * level)),
    "color": lambda level, sign: partial(_enhance, ImageEnhance.Color, level * sign),
    "contrast": lambda level, sign: partial(_enhance, ImageEnhance.Contrast, level * sign),
    "brightness": lambda level, sign: partial(_enhance, ImageEnhance.Brightness, level * sign),
    "sharpness": lambda level, sign: partial(_enhance, ImageEnhance.Sharpness, level * sign),
    "shear_x": lambda level, sign: partial(_affine, (1, 0.3 * level * sign, 0, 0, 1, 0)),
    "shear_y": lambda level, sign: partial(_affine, (1, 0, 0, 0.3 * level * sign, 1, 0)),
    "translate_x": lambda level, sign: partial(_translate, 0.45 * level * sign, 0.0),
    "translate_y": lambda level, sign: partial(_translate, 0.0, 0.45 * level * sign),
}
