"""Objects laid over frames, each in the colour that DAVIS's palette gives its number."""

import numpy as np
import numpy.typing as npt

from sigma_pipeline.jobs.benchmarks.benchmark import VOID_ID
from sigma_pipeline.jobs.davis_palette import DAVIS_PALETTE

OVERLAY_ALPHA = 0.5
"""How much of a pixel is its object's colour; at an object's border it is all."""

Pixels = npt.NDArray[np.uint8]


def overlaid(frames: Pixels, objects: Pixels) -> Pixels:
    """Frames [frames, height, width, 3] with ``objects`` [frames, height, width] laid over.

    Background (0) and what is not annotated (``VOID_ID``) stay as they are.
    """
    colours = DAVIS_PALETTE[objects].astype(np.float32)
    alpha = np.where(_borders(objects), np.float32(1), np.float32(OVERLAY_ALPHA))[..., None]
    is_object = ((objects > 0) & (objects != VOID_ID))[..., None]
    blended = frames * (1 - alpha) + colours * alpha
    return np.where(is_object, blended.round(), frames).astype(np.uint8)


def resized_objects(objects: Pixels, height: int, width: int) -> Pixels:
    """Ids [..., height, width] of the nearest pixels of ``objects`` [..., rows, columns]."""
    rows = ((np.arange(height) + 0.5) * objects.shape[-2] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * objects.shape[-1] / width).astype(np.int64)
    nearest: Pixels = objects[..., rows[:, None], columns]
    return nearest


def _borders(objects: Pixels) -> npt.NDArray[np.bool_]:
    """Pixels whose neighbour to the left or above is of another object, or which is that one."""
    borders = np.zeros(objects.shape, dtype=np.bool_)
    down = objects[..., 1:, :] != objects[..., :-1, :]
    right = objects[..., :, 1:] != objects[..., :, :-1]
    borders[..., 1:, :] |= down
    borders[..., :-1, :] |= down
    borders[..., :, 1:] |= right
    borders[..., :, :-1] |= right
    return borders
