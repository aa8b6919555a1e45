"""Predicted counts against true ones, and how a video's cycles look to an encoder; arrays only."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sigma_pipeline.jobs.benchmarks.figures import Counts, SelfSimilarity
from sigma_pipeline.jobs.page import (
    FONT,
    GAP_PX,
    LINE_PX,
    TEXT,
    WHITE,
    blank_page,
    fitted_end,
    png,
    text_width,
)

THUMBNAILS = 8
"""Frames of a video above its similarities."""
SIDE_PX = 448
"""Of either picture without what stands around it."""
# Told apart by people who do not tell red from green (Okabe and Ito).
TRUE = (0, 114, 178)
FOUND = (213, 94, 0)
_CLOSE = (226, 236, 244)
_TICK_PX = 14
_SMOOTH = 3
"""Dots are drawn so many times larger, and scaled down."""
_MOST_MARKS = 11
# Of cosines from -1 over 0 to 1.
_COLOURS = np.array([[179, 88, 6], [255, 255, 255], [8, 48, 107]])

Pixels = npt.NDArray[np.uint8]


def draw_counts(counts: Counts) -> bytes:
    """A dot per pair of true and predicted count, as large as videos have it, as a PNG file."""
    top_count = max(*counts.true, *counts.predicted, 1) + 1
    marks = _marks(top_count)
    left, top = text_width(*map(str, marks)) + LINE_PX + 4 * GAP_PX, 2 * LINE_PX + 3 * GAP_PX
    heading = _counts_heading(counts)
    width = max(left + SIDE_PX, text_width(*heading)) + 4 * GAP_PX
    page, pen = blank_page(width, top + SIDE_PX + 2 * LINE_PX + 4 * GAP_PX)
    _write_lines(pen, heading)
    page.paste(_dots(counts, top_count), (left, top))
    pen.rectangle((left - 1, top - 1, left + SIDE_PX, top + SIDE_PX), outline=TEXT)
    for mark in marks:
        along = round(SIDE_PX * mark / top_count)
        below = top + SIDE_PX + 2 * GAP_PX
        pen.text((left + along, below), str(mark), TEXT, FONT, anchor="mt")
        place = (left - 2 * GAP_PX, top + SIDE_PX - along)
        pen.text(place, str(mark), TEXT, FONT, anchor="rm")
    middle = (left + SIDE_PX // 2, top + SIDE_PX + LINE_PX + 2 * GAP_PX)
    pen.text(middle, "true count", TEXT, FONT, anchor="mt")
    _write_upwards(page, (GAP_PX, top + SIDE_PX // 2), "predicted count")
    return png(page)


@dataclass(frozen=True)
class ShownCycles:
    """One video, and how alike its moments are."""

    source: str
    """Path of the video."""
    figure: SelfSimilarity
    thumbnails: Pixels
    """[THUMBNAILS, height, width, 3] frames, spread evenly over the part that is shown."""


def draw_cycles(shown: ShownCycles) -> bytes:
    """The matrix of similarities between true and found boundaries of cycles, as a PNG file."""
    figure = shown.figure
    tile_px = SIDE_PX // THUMBNAILS
    left, top = 4 * GAP_PX + _TICK_PX, 3 * LINE_PX + tile_px + _TICK_PX + 4 * GAP_PX
    lines = _cycles_heading(shown)
    width = max(left + SIDE_PX + _TICK_PX, text_width(*lines)) + 4 * GAP_PX
    page, pen = blank_page(width, top + SIDE_PX + _TICK_PX + LINE_PX + 3 * GAP_PX)
    _write_lines(pen, lines, (TEXT, TRUE, FOUND))
    for number, thumbnail in enumerate(shown.thumbnails):
        tile = Image.fromarray(thumbnail).resize((tile_px, tile_px), Image.Resampling.BICUBIC)
        page.paste(tile, (left + number * tile_px, top - _TICK_PX - 2 * GAP_PX - tile_px))
    matrix = Image.fromarray(cosine_colours(figure.similarity))
    page.paste(matrix.resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST), (left, top))
    pen.rectangle((left - 1, top - 1, left + SIDE_PX, top + SIDE_PX), outline=TEXT)
    scale = SIDE_PX / figure.boundaries[-1]
    for boundary in (figure.boundaries * scale).round().astype(int).tolist():
        pen.line((left + boundary, top - _TICK_PX, left + boundary, top), TRUE, 3)
        pen.line((left - _TICK_PX, top + boundary, left, top + boundary), TRUE, 3)
    end = top + SIDE_PX
    for boundary in (figure.found_boundaries * scale).clip(max=SIDE_PX).round().astype(int):
        pen.line((left + boundary, end, left + boundary, end + _TICK_PX), FOUND, 3)
        right = left + SIDE_PX
        pen.line((right, top + boundary, right + _TICK_PX, top + boundary), FOUND, 3)
    frames = round(float(figure.boundaries[-1]))
    pen.text((left + SIDE_PX // 2, end + _TICK_PX + GAP_PX), f"{frames} frames", TEXT, FONT, "mt")
    return png(page)


def thumbnail_frames(figure: SelfSimilarity) -> list[int]:
    """Which frames of the part that is shown stand above it."""
    middles = (np.arange(THUMBNAILS) + 0.5) / THUMBNAILS
    frames: list[int] = (middles * figure.boundaries[-1]).round().astype(int).tolist()
    return frames


def cosine_colours(cosines: npt.ArrayLike) -> Pixels:
    """Colours [..., 3] of cosines [...]: brown -1, white 0, dark blue 1."""
    values = np.asarray(cosines, dtype=np.float64)
    channels = [np.interp(values, (-1, 0, 1), _COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _counts_heading(counts: Counts) -> list[str]:
    pairs = list(zip(counts.true, counts.predicted, strict=True))
    error = fmean(abs(found - true) / true for true, found in pairs)
    close = fmean(abs(found - true) <= 1 for true, found in pairs)
    return [
        f"{len(pairs)} videos, MAE {error:.3f} of the true count, {close:.0%} off by one at most",
        "a dot per pair of counts, its area for the videos; shaded: off by one at most",
    ]


def _cycles_heading(shown: ShownCycles) -> list[str]:
    figure = shown.figure
    return [
        fitted_end(shown.source, SIDE_PX),
        f"above and at the left: {len(figure.boundaries) - 1} true cycles",
        f"below and at the right: {figure.count} found, shown as if the first began there too",
    ]


def _dots(counts: Counts, top_count: int) -> Image.Image:
    """Shade, diagonal and dots."""
    side = SIDE_PX * _SMOOTH
    unit = side / top_count
    page = Image.new("RGB", (side, side), WHITE)
    pen = ImageDraw.Draw(page)
    pen.polygon([(0, side), (0, side - unit), (side, -unit), (side, unit), (unit, side)], _CLOSE)
    pen.line([(0, side), (side, 0)], TEXT, _SMOOTH)
    pairs = Counter(zip(counts.true, counts.predicted, strict=True))
    largest = min(0.5 * unit, 0.03 * side)
    for (true, predicted), videos in pairs.items():
        x, y = true * unit, side - predicted * unit
        radius = max(largest * (videos / max(pairs.values())) ** 0.5, 2.5 * _SMOOTH)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), TRUE)
    return page.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)


def _marks(top_count: int) -> list[int]:
    steps = (step * power for power in (1, 10, 100, 1000, 10_000) for step in (1, 2, 5))
    step = next(step for step in steps if top_count / step <= _MOST_MARKS)
    return list(range(0, top_count + 1, step))


def _write_lines(
    pen: ImageDraw.ImageDraw,
    lines: Sequence[str],
    colours: Sequence[tuple[int, int, int]] = (TEXT, TEXT),
) -> None:
    for number, (line, colour) in enumerate(zip(lines, colours, strict=True)):
        pen.text((GAP_PX, GAP_PX + number * LINE_PX), line, colour, FONT)


def _write_upwards(page: Image.Image, middle: tuple[int, int], text: str) -> None:
    """``text`` turned by a right angle, ``middle`` at its left."""
    line, pen = blank_page(text_width(text) + 2, LINE_PX)
    pen.text((0, LINE_PX // 2), text, TEXT, FONT, anchor="lm")
    turned = line.transpose(Image.Transpose.ROTATE_90)
    page.paste(turned, (middle[0], middle[1] - turned.height // 2))
