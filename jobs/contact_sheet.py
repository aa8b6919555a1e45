"""A sample at a glance: frames spread over it, each with its number and time, masks laid over."""

from math import ceil

import numpy as np
from PIL import Image

from sigma_pipeline.data_prep.augment import whole_frame
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.masks import load_masks
from sigma_pipeline.data_prep.rows import SampleRow
from sigma_pipeline.data_prep.verdicts import BadSample
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.object_overlay import overlaid
from sigma_pipeline.jobs.page import FONT, GAP_PX, LINE_PX, TEXT, blank_page, png, text_width

_COLUMNS = 4
_MAX_FRAMES = 16
_TILE_PX = 240
"""The longer side of a frame."""


def draw_sample(storage: Storage, index: Index, sample: int) -> bytes:
    """A PNG file that shows one sample.

    Raises:
        StageError: the sample cannot be read or decoded.
    """
    row = index.row(sample)
    numbers = np.unique(np.linspace(0, row.frames - 1, _MAX_FRAMES).round().astype(np.int64))
    crop = whole_frame(row.height, row.width)
    try:
        clip = FrameReader(storage, index).clips(sample, numbers, [crop], _TILE_PX)[0]
    except BadSample as error:
        raise StageError(
            f"{error}. Mend it with: sigma-pipeline shards repair {index.ref.name}/"
            f"{index.ref.split} (the same --config and --set)"
        ) from error
    frames = clip.permute(1, 2, 3, 0).numpy()
    masks = _masks(storage, index, sample, numbers.tolist())
    if masks is not None:
        frames = overlaid(frames, masks)
    return _sheet(row, numbers.tolist(), frames)


def _masks(storage: Storage, index: Index, sample: int, numbers: list[int]) -> np.ndarray | None:
    """Object ids [frames, size, size], or None where the sample has no masks."""
    if not index.row(sample).mask_members:
        return None
    return load_masks(storage, index, sample, numbers, frame_size_px=_TILE_PX, crop="resize")


def _sheet(row: SampleRow, numbers: list[int], frames: np.ndarray) -> bytes:
    scale = _TILE_PX / max(row.width, row.height)
    width, height = max(1, round(row.width * scale)), max(1, round(row.height * scale))
    columns = min(_COLUMNS, len(numbers))
    heading = _heading(row)
    page_width = max(columns * (width + GAP_PX) + GAP_PX, text_width(*heading) + 2 * GAP_PX)
    top = LINE_PX * len(heading) + GAP_PX
    step = height + LINE_PX + GAP_PX
    page, pen = blank_page(page_width, top + step * ceil(len(numbers) / columns))
    for number, line in enumerate(heading):
        pen.text((GAP_PX, GAP_PX + number * LINE_PX), line, TEXT, FONT)
    for place, (number, frame) in enumerate(zip(numbers, frames, strict=True)):
        left = GAP_PX + place % columns * (width + GAP_PX)
        down = top + place // columns * step
        page.paste(Image.fromarray(frame).resize((width, height)), (left, down))
        pen.text((left, down + height + 2), _caption(row, number), TEXT, FONT)
    return png(page)


def _heading(row: SampleRow) -> list[str]:
    rate = f" at {row.fps:g} frames/s" if row.fps else ""
    return [
        f"{row.key}    class: {row.class_name or 'none'}    {row.frames} frame(s){rate}, "
        f"{row.width} x {row.height}",
        f"from {row.source}",
    ]


def _caption(row: SampleRow, number: int) -> str:
    return f"{number}  {number / row.fps:.2f} s" if row.fps else str(number)
