"""Clips beside those that an encoder takes to be most like them; knows arrays only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sigma_pipeline.jobs.page import (
    FONT,
    GAP_PX,
    LINE_PX,
    TEXT,
    blank_page,
    fitted,
    png,
    text_width,
)

TILE_PX = 80
"""Side of a frame."""
# Told apart by people who do not tell red from green (Okabe and Ito).
SAME_CLASS = (0, 114, 178)
OTHER_CLASS = (213, 94, 0)
NO_CLASS = (150, 150, 150)
_BORDER_PX = 4
_ROW_GAP_PX = 12
_QUERY_GAP_PX = 24


@dataclass(frozen=True)
class ShownClip:
    """A clip at a glance."""

    frames: npt.NDArray[np.uint8]
    """[frames, TILE_PX, TILE_PX, 3]; a few of its frames, in their order."""
    class_name: str | None


@dataclass(frozen=True)
class ShownNeighbours:
    """A query and what was found for it, the most similar first."""

    query: ShownClip
    neighbours: Sequence[ShownClip]
    similarity: Sequence[float]
    """Cosine of each neighbour."""


def draw_neighbours(rows: Sequence[ShownNeighbours]) -> bytes:
    """One row per query as a PNG file: the query at the left, its neighbours to the right."""
    clips = [clip for row in rows for clip in (row.query, *row.neighbours)]
    width = max(len(clip.frames) for clip in clips) * TILE_PX + 2 * _BORDER_PX
    num_columns = max(len(row.neighbours) for row in rows)
    step = TILE_PX + 2 * _BORDER_PX + LINE_PX + _ROW_GAP_PX
    top = 2 * LINE_PX + 2 * GAP_PX
    page_width = GAP_PX + width + _QUERY_GAP_PX + num_columns * (width + GAP_PX)
    page, pen = blank_page(max(page_width, text_width(_heading(rows)) + 8), top + step * len(rows))
    pen.text((GAP_PX, GAP_PX), _heading(rows), TEXT, FONT)
    _write_legend(pen, (GAP_PX, GAP_PX + LINE_PX))
    for number, row in enumerate(rows):
        corner = (GAP_PX, top + number * step)
        _paste(page, row.query, corner, NO_CLASS)
        _caption(pen, row.query.class_name or "no class", corner, width)
        for place, (clip, cosine) in enumerate(zip(row.neighbours, row.similarity, strict=True)):
            left = GAP_PX + width + _QUERY_GAP_PX + place * (width + GAP_PX)
            _paste(page, clip, (left, corner[1]), _verdict(row.query, clip))
            caption = f"{cosine:.4f} {clip.class_name or 'no class'}"
            _caption(pen, caption, (left, corner[1]), width)
    return png(page)


def _verdict(query: ShownClip, neighbour: ShownClip) -> tuple[int, int, int]:
    if query.class_name is None or neighbour.class_name is None:
        return NO_CLASS
    return SAME_CLASS if query.class_name == neighbour.class_name else OTHER_CLASS


def _heading(rows: Sequence[ShownNeighbours]) -> str:
    found = [_verdict(row.query, clip) for row in rows for clip in row.neighbours]
    same, other = found.count(SAME_CLASS), found.count(OTHER_CLASS)
    share = f": {same} of {same + other} are of the query's class" if same + other else ""
    return f"{len(rows)} queries and their nearest training clips, with cosines{share}"


def _write_legend(pen: ImageDraw.ImageDraw, corner: tuple[int, int]) -> None:
    left, top = corner
    for colour, text in ((SAME_CLASS, "the query's class"), (OTHER_CLASS, "another class")):
        pen.rectangle((left, top + 3, left + 12, top + 15), colour)
        pen.text((left + 18, top), text, TEXT, FONT)
        left += 18 + text_width(text) + 16


def _paste(
    page: Image.Image, clip: ShownClip, corner: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """The frames of ``clip`` side by side, in a border of ``colour``."""
    strip = np.concatenate(list(clip.frames), axis=1)
    border = ((_BORDER_PX, _BORDER_PX), (_BORDER_PX, _BORDER_PX))
    channels = [
        np.pad(strip[..., channel], border, constant_values=value)
        for channel, value in enumerate(colour)
    ]
    page.paste(Image.fromarray(np.stack(channels, axis=-1)), corner)


def _caption(pen: ImageDraw.ImageDraw, text: str, corner: tuple[int, int], width: int) -> None:
    down = corner[1] + TILE_PX + 2 * _BORDER_PX
    pen.text((corner[0], down), fitted(text, width), TEXT, FONT)
