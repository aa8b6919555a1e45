"""Scores over sizes, with their spread, a line per encoder; knows numbers and names only."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from sigma_pipeline.jobs.page import (
    FONT,
    GAP_PX,
    LINE_PX,
    TEXT,
    WHITE,
    blank_page,
    png,
    text_width,
)

_PLOT_PX = (560, 360)
_EDGE_PX = 40
"""Between the outermost sizes and the frame."""
_APART_PX = 9
"""Lines are moved sideways by so much, that their spreads do not cover each other."""
_SMOOTH = 3
"""Lines are drawn so many times larger, and scaled down."""
_GRID = (225, 225, 225)
_NUM_TICKS = 6
_LEGEND_LINE_PX = 36
_COLOURS = ((31, 120, 180), (200, 30, 30), (51, 140, 70), (230, 140, 20), (106, 61, 154), TEXT)

Place = tuple[float, float]


@dataclass(frozen=True)
class CurvePoint:
    """One size of one line."""

    size: float
    mean: float
    deviation: float | None
    """A thick bar up and down from the mean; None where there is a single value."""
    least: float
    """Of the values, as the greatest one: a thin bar joins them."""
    greatest: float


@dataclass(frozen=True)
class Curve:
    """One line."""

    name: str
    points: Sequence[CurvePoint]
    """By size."""


@dataclass(frozen=True)
class Curves:
    """What is shown."""

    heading: Sequence[str]
    size_title: str
    sizes: Sequence[tuple[float, str]]
    """Where the axis of sizes, a logarithmic one, has marks, and what they say; ascending."""
    curves: Sequence[Curve]


def draw_curves(curves: Curves) -> bytes:
    """The picture as a PNG file; points that are no finite numbers are left out."""
    kept = [replace(one, points=list(filter(_is_finite, one.points))) for one in curves.curves]
    curves = replace(curves, curves=kept)
    plot = _Plot.of(curves)
    levels = _levels(plot)
    left = text_width(*(text for _, text in plot.ticks)) + 3 * GAP_PX
    top = LINE_PX * len(curves.heading) + 3 * GAP_PX
    width, height = _PLOT_PX
    legend_px = text_width(*(curve.name for curve in curves.curves)) + _LEGEND_LINE_PX
    page, pen = blank_page(
        max(left + width + legend_px + 6 * GAP_PX, text_width(*curves.heading) + 2 * GAP_PX),
        top + height + (2 + max(levels)) * LINE_PX + 4 * GAP_PX,
    )
    page.paste(plot.drawn(), (left, top))
    for number, line in enumerate(curves.heading):
        pen.text((GAP_PX, GAP_PX + number * LINE_PX), line, TEXT, FONT)
    for value, text in plot.ticks:
        pen.text((left - GAP_PX, top + plot.down(value)), text, TEXT, FONT, anchor="rm")
    below = top + height + 2 * GAP_PX
    for (size, text), level in zip(curves.sizes, levels, strict=True):
        place = left + plot.right(size), below + level * LINE_PX
        pen.text(place, text, TEXT, FONT, anchor="mt")
    title = left + width // 2, below + (1 + max(levels)) * LINE_PX
    pen.text(title, curves.size_title, TEXT, FONT, anchor="mt")
    for number, curve in enumerate(curves.curves):
        y = top + number * LINE_PX + LINE_PX // 2
        start = left + width + 3 * GAP_PX
        pen.line([(start, y), (start + _LEGEND_LINE_PX - 2 * GAP_PX, y)], _colour(number), 3)
        pen.text((start + _LEGEND_LINE_PX, y), curve.name, TEXT, FONT, anchor="lm")
    return png(page)


@dataclass(frozen=True)
class _Plot:
    """The frame, and where values and sizes lie in it."""

    curves: Curves
    ticks: tuple[tuple[float, str], ...]
    """Values with marks, ascending; the outermost are the ends of the frame."""

    @classmethod
    def of(cls, curves: Curves) -> "_Plot":
        """The frame that holds all of the values."""
        points = [point for curve in curves.curves for point in curve.points]
        return cls(
            curves,
            tuple(
                _ticks(
                    min(map(_lowest, points), default=0.0), max(map(_highest, points), default=1.0)
                )
            ),
        )

    def down(self, value: float) -> float:
        """Pixels from the upper edge."""
        low, high = self.ticks[0][0], self.ticks[-1][0]
        return _PLOT_PX[1] * (high - value) / (high - low)

    def right(self, size: float) -> float:
        """Pixels from the left edge."""
        first, last = (math.log(self.curves.sizes[end][0]) for end in (0, -1))
        inner = _PLOT_PX[0] - 2 * _EDGE_PX
        part = 0.5 if first == last else (math.log(size) - first) / (last - first)
        return _EDGE_PX + inner * part

    def drawn(self) -> Image.Image:
        """Frame, marks and lines."""
        width, height = _PLOT_PX
        drawn = Image.new("RGB", (width * _SMOOTH, height * _SMOOTH), WHITE)
        pen = ImageDraw.Draw(drawn)
        for value, _ in self.ticks:
            self._line(pen, [(0, self.down(value)), (width, self.down(value))], _GRID, 1)
        for number, curve in enumerate(self.curves.curves):
            aside = _APART_PX * (number - (len(self.curves.curves) - 1) / 2)
            self._draw_curve(pen, curve, _colour(number), aside)
        edge = 1 / 2
        corners = [(edge, edge), (width - edge, edge), (width - edge, height - edge)]
        self._line(pen, [*corners, (edge, height - edge), (edge, edge)], TEXT, 1)
        return drawn.resize(_PLOT_PX, Image.Resampling.LANCZOS)

    def _draw_curve(
        self, pen: ImageDraw.ImageDraw, curve: Curve, colour: tuple[int, int, int], aside: float
    ) -> None:
        means = [(self.right(one.size) + aside, self.down(one.mean)) for one in curve.points]
        self._line(pen, means, colour, 2)
        for point, (x, y) in zip(curve.points, means, strict=True):
            ends = [(x, self.down(point.least)), (x, self.down(point.greatest))]
            self._line(pen, ends, colour, 1)
            if point.deviation is not None:
                above, below = point.mean + point.deviation, point.mean - point.deviation
                self._line(pen, [(x, self.down(above)), (x, self.down(below))], colour, 5)
            pen.ellipse([_SMOOTH * edge for edge in (x - 4, y - 4, x + 4, y + 4)], colour)

    def _line(
        self,
        pen: ImageDraw.ImageDraw,
        places: Sequence[Place],
        colour: tuple[int, int, int],
        width: int,
    ) -> None:
        enlarged = [(_SMOOTH * x, _SMOOTH * y) for x, y in places]
        pen.line(enlarged, colour, width * _SMOOTH)


def _levels(plot: _Plot) -> list[int]:
    """The line of each size's mark: a lower one where it would cover the mark before."""
    levels: list[int] = []
    ends: list[float] = []
    """Of the last mark of each line."""
    for size, text in plot.curves.sizes:
        middle, half = plot.right(size), text_width(text) / 2
        free = (level for level, end in enumerate(ends) if end < middle - half)
        level = next(free, len(ends))
        ends[level : level + 1] = [middle + half + GAP_PX]
        levels.append(level)
    return levels


def _is_finite(point: CurvePoint) -> bool:
    return all(map(math.isfinite, (point.mean, point.least, point.greatest, point.deviation or 0)))


def _lowest(point: CurvePoint) -> float:
    return min(point.least, point.mean - (point.deviation or 0))


def _highest(point: CurvePoint) -> float:
    return max(point.greatest, point.mean + (point.deviation or 0))


def _ticks(low: float, high: float) -> Iterator[tuple[float, str]]:
    """Round values from below ``low`` to above ``high``, with their texts."""
    wide = max(high - low, 1e-3) / _NUM_TICKS
    power = 10 ** math.floor(math.log10(wide))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= wide)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    for number in np.arange(first, max(last, first + 1) + 1):
        yield float(number * step), f"{number * step:.{digits}f}"


def _colour(number: int) -> tuple[int, int, int]:
    return _COLOURS[number % len(_COLOURS)]
