"""Object masks of a sample: at the size they have, or cut as an evaluation view cuts its frames."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

from sigma_pipeline.data_prep.augment import Crop, centre_square, cut_masks, whole_frame
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.pictures import PICTURE_FAULTS, fault_text
from sigma_pipeline.data_prep.rows import SampleRow
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage

NO_MASK = 255
"""Object id where nobody said what is there (as in DAVIS)."""

_MAX_MASK_PIXELS = 1 << 26  # 8192 x 8192
_MAX_ASPECT_DIFFERENCE = 0.02


def load_whole_masks(
    storage: Storage, index: Index, sample: int
) -> Mapping[int, UInt8[np.ndarray, "height width"]]:
    """Object ids of each frame of the sample that has a mask, at the size that masks have.

    Raises:
        StageError: a mask is no 8-bit palette or grey PNG, or of another size than the first, or of
            another shape than the frames, or too large.
    """
    row = index.rows[sample]
    masks = {
        frame: _mask_ids(data, index, row, frame)
        for frame, data in index.read_masks(storage, sample)
    }
    shapes = {ids.shape for ids in masks.values()}
    if len(shapes) > 1:
        found = " and ".join(f"{width} x {height}" for height, width in sorted(shapes))
        raise StageError(f"masks of sample {row.key} (source {row.source}) are {found} pixels")
    return masks


def load_masks(
    storage: Storage,
    index: Index,
    sample: int,
    frames: Sequence[int],
    *,
    frame_size_px: int,
    crop: Literal["resize", "centre"],
) -> UInt8[np.ndarray, "frames size size"]:
    """Object ids of the sample's ``frames``, cropped as the view crops them.

    A frame without a mask is ``NO_MASK`` all over. Where all masks of a sample show nothing but 0
    and 255, they are those of DAVIS-2016, and 255 is an object: it comes as 1. Masks may be of
    another size than the frames (transcoded videos), but not of another shape.

    Raises:
        StageError: a mask is no 8-bit palette or grey PNG, or of the wrong shape, or too large.
    """
    row = index.rows[sample]
    size = frame_size_px
    wanted = set(frames)
    masks = {
        frame: _mask_ids(data, index, row, frame)
        for frame, data in index.read_masks(storage, sample)
        if frame in wanted
    }
    if _are_binary(masks) and _are_binary(load_whole_masks(storage, index, sample)):
        masks = {frame: (ids == NO_MASK).astype(np.uint8) for frame, ids in masks.items()}
    result = np.full((len(frames), size, size), NO_MASK, dtype=np.uint8)
    for slot, frame in enumerate(frames):
        if (mask := masks.get(frame)) is not None:
            rectangle = _scaled(_view_crop(row.height, row.width, crop), row, mask.shape)
            result[slot] = cut_masks(mask[None], rectangle, size)[0].numpy()
    return result


def _are_binary(masks: Mapping[int, NDArray[np.uint8]]) -> bool:
    """Whether 255 is there, and no other id but 0."""
    is_high = [ids == NO_MASK for ids in masks.values()]
    return any(high.any() for high in is_high) and all(
        (high | (ids == 0)).all() for high, ids in zip(is_high, masks.values(), strict=True)
    )


def _scaled(crop: Crop, row: SampleRow, mask_shape: tuple[int, ...]) -> Crop:
    """Where ``crop`` of a frame lies in a mask of this height and width."""
    down, right = mask_shape[0] / row.height, mask_shape[1] / row.width
    top, left = round(crop.top * down), round(crop.left * right)
    bottom, end = round((crop.top + crop.height) * down), round((crop.left + crop.width) * right)
    return Crop(top, left, bottom - top, end - left)


def _view_crop(height: int, width: int, crop: Literal["resize", "centre"]) -> Crop:
    return centre_square(height, width) if crop == "centre" else whole_frame(height, width)


def _mask_ids(data: bytes, index: Index, row: SampleRow, frame: int) -> NDArray[np.uint8]:
    """The ids of one PNG, its header checked before its pixels are unpacked."""
    place = f"mask of frame {frame} of sample {row.key} (source {row.source})"
    try:
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            _check_mask(image, row, place)
            return np.array(image)
    except PICTURE_FAULTS as error:
        raise StageError(
            f"the {place} cannot be read: {fault_text(error)}. Mend it with: sigma-pipeline shards "
            f"repair {index.ref.name}/{index.ref.split} (the same --config and --set)"
        ) from error


def _check_mask(image: Image.Image, row: SampleRow, place: str) -> None:
    """Refuses what is no map of 8-bit ids over the whole frame."""
    width, height = image.size
    if image.mode not in ("P", "L"):
        raise StageError(f"the {place} must be an 8-bit palette or grey PNG, not {image.mode}")
    if width * height > _MAX_MASK_PIXELS:
        raise StageError(
            f"the {place} has {width} x {height} pixels, above the limit of {_MAX_MASK_PIXELS}"
        )
    ratio = width * row.height / (height * row.width)
    if abs(ratio - 1) > _MAX_ASPECT_DIFFERENCE:
        raise StageError(
            f"the {place} is {width} x {height}, but the video {row.width} x {row.height}"
        )
