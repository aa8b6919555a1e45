"""Drawing of clips with their masks and assigned prototypes; knows arrays only.

A prototype has the same colour in every picture of every run.
"""

import colorsys
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from sigma_pipeline.jobs.page import (
    FONT,
    LINE_PX,
    TEXT,
    WHITE,
    blank_page,
    fitted_end,
    png,
    text_width,
)

_GAP_PX = 3
_CLIP_GAP_PX = 20
_LABEL_PX = 84
_HIDDEN_GREY = 128

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PictureContent:
    """What is shown of ``clips`` clips, side by side; a column per time slice."""

    heading: str
    titles: Sequence[str]
    """One per clip."""
    frames: Pixels
    """[clips, slices, height, width, 3]."""
    hidden: npt.NDArray[np.bool_]
    """[clips, rows, columns]."""
    assignments: Mapping[str, npt.NDArray[np.int64]]
    """By name of the branch: [clips, slices, rows, columns], -1 where a patch is visible."""


def draw_png(content: PictureContent) -> bytes:
    """The picture as a PNG file."""
    tile_px = 96 if content.frames.shape[1] <= 4 else 64
    columns = [_clip_column(content, clip, tile_px) for clip in range(len(content.frames))]
    height, width = columns[0].shape[:2]
    step = width + _CLIP_GAP_PX
    page_width = max(_LABEL_PX + step * len(columns), text_width(content.heading) + 9)
    page, pen = blank_page(page_width, 2 * LINE_PX + height + _GAP_PX)
    pen.text((_GAP_PX, _GAP_PX), content.heading, TEXT, font=FONT)
    for number, (title, column) in enumerate(zip(content.titles, columns, strict=True)):
        left = _LABEL_PX + number * step
        pen.text((left, LINE_PX + _GAP_PX), fitted_end(title, width), TEXT, font=FONT)
        page.paste(Image.fromarray(column), (left, 2 * LINE_PX))
    for row, name in enumerate(("input", "masked", *content.assignments)):
        middle = 2 * LINE_PX + row * (tile_px + _GAP_PX) + tile_px // 2
        pen.text((_GAP_PX, middle), name, TEXT, font=FONT, anchor="lm")
    return png(page)


def prototype_colour(prototype: int) -> tuple[int, int, int]:
    """A bright colour that depends on nothing but the prototype's number."""
    digest = hashlib.blake2b(str(prototype).encode(), digest_size=3).digest()
    hue, saturation, value = digest[0] / 256, 0.55 + digest[1] / 640, 0.6 + digest[2] / 640
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _clip_column(content: PictureContent, clip: int, tile_px: int) -> Pixels:
    """All rows of one clip: [height, width, 3]."""
    frames, hidden = content.frames[clip], content.hidden[clip]
    tiles = np.stack([_resized(frame, tile_px) for frame in frames])
    covered = _enlarged(hidden.astype(np.uint8), tile_px)[None, :, :, None] > 0
    rows = [tiles, np.where(covered, np.uint8(_HIDDEN_GREY), tiles)]
    faded = (tiles.mean(axis=-1, keepdims=True) * 0.35 + 255 * 0.65).astype(np.uint8)
    for maps in content.assignments.values():
        colours = np.stack([_enlarged(_coloured(part), tile_px) for part in maps[clip]])
        rows.append(np.where(covered, colours, faded))
    return _stacked([_stacked(list(row), axis=1) for row in rows], axis=0)


def _coloured(prototypes: npt.NDArray[np.int64]) -> Pixels:
    """[rows, columns, 3]; visible patches are white, and are covered by the caller."""
    colours = [
        WHITE if prototype < 0 else prototype_colour(prototype)
        for prototype in prototypes.ravel().tolist()
    ]
    return np.asarray(colours, dtype=np.uint8).reshape(*prototypes.shape, 3)


def _stacked(parts: Sequence[Pixels], axis: int) -> Pixels:
    """Parts side by side with white gaps."""
    shape = list(parts[0].shape)
    shape[axis] = _GAP_PX
    gap = np.full(shape, 255, dtype=np.uint8)
    spaced = [piece for part in parts for piece in (gap, part)][1:]
    return np.concatenate(spaced, axis=axis)


def _enlarged(grid: Pixels, tile_px: int) -> Pixels:
    """Each cell of [rows, columns, ...] as a block of pixels."""
    rows = np.arange(tile_px) * grid.shape[0] // tile_px
    columns = np.arange(tile_px) * grid.shape[1] // tile_px
    blocks: Pixels = grid[rows][:, columns]
    return blocks


def _resized(frame: Pixels, tile_px: int) -> Pixels:
    image = Image.fromarray(frame).resize((tile_px, tile_px), Image.Resampling.BICUBIC)
    return np.asarray(image)
