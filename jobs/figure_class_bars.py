"""One number of each class as bars, the lowest first; knows numbers and names only."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from sigma_pipeline.jobs.benchmarks.figures import ClassBars
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

MAX_BARS = 60
"""Of more classes, the lowest and the highest half as many are shown."""
_NAME_PX = 260
_BAR_PX = 400
_COLOUR = (49, 130, 189)
_BACK = (236, 236, 236)


class _Bar(NamedTuple):
    name: str
    value: float
    samples: int


def draw_class_bars(figure: ClassBars, names: Sequence[str]) -> bytes:
    """The bars as a PNG file; ``names`` are those of all labels."""
    order = np.argsort(figure.values, kind="stable").tolist()
    bars = [_Bar(names[figure.classes[i]], figure.values[i], figure.samples[i]) for i in order]
    mean = sum(bar.value for bar in bars) / max(1, len(bars))
    heading = f"{figure.title}: {len(bars)} classes, their mean is {mean:.3f}"
    return png(_page(heading, _shown(bars)))


def _shown(bars: Sequence[_Bar]) -> list[_Bar | str]:
    """Bars from top to bottom, and a line of text for those that are left out."""
    if len(bars) <= MAX_BARS:
        return [*bars]
    half = MAX_BARS // 2
    between = bars[half:-half]
    text = f"{len(between)} more, {between[0].value:.3f} to {between[-1].value:.3f}"
    return [*bars[:half], text, *bars[-half:]]


def _page(heading: str, rows: Sequence[_Bar | str]) -> Image.Image:
    names = [_label(row) for row in rows if isinstance(row, _Bar)]
    left = text_width(*names) + 3 * GAP_PX
    width = max(left + _BAR_PX + text_width("0.000") + 3 * GAP_PX, text_width(heading) + 2 * GAP_PX)
    page, pen = blank_page(width, (len(rows) + 1) * LINE_PX + 3 * GAP_PX)
    pen.text((GAP_PX, GAP_PX), heading, TEXT, FONT)
    for number, row in enumerate(rows, start=1):
        top = 2 * GAP_PX + number * LINE_PX
        if isinstance(row, str):
            pen.text((left, top), row, TEXT, FONT)
        else:
            _draw_bar(pen, (left, top), row)
    return page


def _draw_bar(pen: ImageDraw.ImageDraw, corner: tuple[int, int], bar: _Bar) -> None:
    left, top = corner
    bottom = top + LINE_PX - GAP_PX
    length = round(_BAR_PX * min(1.0, max(0.0, bar.value)))
    pen.text((left - GAP_PX, top), _label(bar), TEXT, FONT, anchor="ra")
    pen.rectangle((left, top, left + _BAR_PX, bottom), _BACK)
    if length:
        pen.rectangle((left, top, left + length, bottom), _COLOUR)
    pen.text((left + _BAR_PX + GAP_PX, top), f"{bar.value:.3f}", TEXT, FONT)


def _label(bar: _Bar) -> str:
    """Name of a class, cut where it is long, with its number of samples."""
    samples = f" ({bar.samples})"
    return fitted(bar.name, _NAME_PX - text_width(samples)) + samples
