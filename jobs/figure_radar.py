"""Several methods on several axes, as a radar: one polygon each; knows numbers and names only."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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

_RADIUS_PX = 250
_INNER = 0.12
"""Part of the radius that the least value of an axis has: a polygon of losers is still seen."""
_LABEL_PX = 16
_SMOOTH = 3
"""Lines are drawn so many times larger, and scaled down."""
_GRID = (215, 215, 215)
_RINGS = 4
_LEGEND_LINE_PX = 36
_OURS = (200, 30, 30)
_OTHERS = (
    (150, 150, 150),
    (166, 118, 29),
    (117, 112, 179),
    (102, 166, 30),
    (31, 120, 180),
    (20, 60, 120),
)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class RadarAxis:
    """One axis, from the middle outwards."""

    title: str
    worst: str
    """What is at the inner ring, as text; and at the outer one."""
    best: str

    @property
    def range(self) -> str:
        """Both, for people."""
        return f"{self.worst} to {self.best}"


@dataclass(frozen=True)
class RadarPolygon:
    """One method."""

    name: str
    parts: Sequence[float | None]
    """On each axis, 0 the inner ring and 1 the outer one; None where there is no value."""
    is_ours: bool = False


@dataclass(frozen=True)
class Radar:
    """What is shown."""

    heading: Sequence[str]
    axes: Sequence[RadarAxis]
    polygons: Sequence[RadarPolygon]
    """The last one lies on top."""


def draw_radar(radar: Radar) -> bytes:
    """The picture as a PNG file."""
    label_px = text_width(*(text for axis in radar.axes for text in (axis.title, axis.range)))
    legend_px = text_width(*(one.name for one in radar.polygons)) + _LEGEND_LINE_PX + 4 * GAP_PX
    top, reach = LINE_PX * len(radar.heading) + 3 * GAP_PX, _RADIUS_PX + _LABEL_PX
    middle = (label_px + 2 * GAP_PX + reach, top + 2 * LINE_PX + reach)
    width = max(2 * middle[0] + legend_px, text_width(*radar.heading) + 2 * GAP_PX)
    page, pen = blank_page(width, middle[1] + reach + 2 * LINE_PX + _LABEL_PX)
    page.paste(_web(radar), (middle[0] - reach, middle[1] - reach))
    for number, line in enumerate(radar.heading):
        pen.text((GAP_PX, GAP_PX + number * LINE_PX), line, TEXT, FONT)
    for axis, angle in zip(radar.axes, _angles(len(radar.axes)), strict=True):
        _label(pen, axis, _place(middle, angle, reach), angle)
    _legend(pen, radar, (2 * middle[0], top + LINE_PX))
    return png(page)


def _web(radar: Radar) -> Image.Image:
    """Rings, axes and polygons, with a margin of ``_LABEL_PX`` all around."""
    side = 2 * (_RADIUS_PX + _LABEL_PX)
    web = Image.new("RGB", (side * _SMOOTH, side * _SMOOTH), WHITE)
    pen, middle = ImageDraw.Draw(web), (side * _SMOOTH // 2, side * _SMOOTH // 2)
    angles = _angles(len(radar.axes))
    for ring in range(_RINGS + 1):
        radius = _radius(ring / _RINGS)
        corners = [_place(middle, angle, radius) for angle in angles]
        pen.line([*corners, corners[0]], _GRID, _SMOOTH)
    for angle in angles:
        pen.line([middle, _place(middle, angle, _radius(1))], _GRID, _SMOOTH)
    for polygon, colour in _coloured(radar):
        _draw_polygon(pen, polygon, colour, middle)
    return web.resize((side, side), Image.Resampling.LANCZOS)


def _draw_polygon(
    pen: ImageDraw.ImageDraw, polygon: RadarPolygon, colour: Colour, middle: tuple[int, int]
) -> None:
    """Lines between neighbouring values, so that there is a gap where one is missing."""
    angles = _angles(len(polygon.parts))
    corners = [
        None if part is None else _place(middle, angle, _radius(part))
        for part, angle in zip(polygon.parts, angles, strict=True)
    ]
    width = (3 if polygon.is_ours else 2) * _SMOOTH
    for start, end in zip(corners, [*corners[1:], *corners[:1]], strict=True):
        if start is not None and end is not None:
            pen.line([start, end], colour, width)
    dot = (5 if polygon.is_ours else 3) * _SMOOTH
    for x, y in filter(None, corners):
        pen.ellipse((x - dot, y - dot, x + dot, y + dot), colour)


def _coloured(radar: Radar) -> Iterator[tuple[RadarPolygon, Colour]]:
    others = 0
    for polygon in radar.polygons:
        if polygon.is_ours:
            yield polygon, _OURS
        else:
            yield polygon, _OTHERS[others % len(_OTHERS)]
            others += 1


def _angles(number: int) -> list[float]:
    """Of the axes, in radians from the top, clockwise."""
    return [2 * math.pi * place / number for place in range(number)]


def _radius(part: float) -> float:
    """Pixels of the enlarged web."""
    return _SMOOTH * _RADIUS_PX * (_INNER + (1 - _INNER) * part)


def _place(middle: tuple[int, int], angle: float, radius: float) -> tuple[float, float]:
    return middle[0] + radius * math.sin(angle), middle[1] - radius * math.cos(angle)


def _label(
    pen: ImageDraw.ImageDraw, axis: RadarAxis, place: tuple[float, float], angle: float
) -> None:
    """Title and range of an axis beside its outer end."""
    side = round(math.sin(angle), 6)
    anchor = "m" if side == 0 else "l" if side > 0 else "r"
    x, y = place
    up = LINE_PX * (1 + math.cos(angle)) / 2
    pen.text((x, y - up), axis.title, TEXT, FONT, anchor=f"{anchor}m")
    pen.text((x, y - up + LINE_PX), axis.range, TEXT, FONT, anchor=f"{anchor}m")


def _legend(pen: ImageDraw.ImageDraw, radar: Radar, corner: tuple[int, int]) -> None:
    left, top = corner
    for number, (polygon, colour) in enumerate(_coloured(radar)):
        y = top + number * LINE_PX + LINE_PX // 2
        right = left + _LEGEND_LINE_PX - 2 * GAP_PX
        pen.line([(left, y), (right, y)], colour, 3 if polygon.is_ours else 2)
        pen.text((left + _LEGEND_LINE_PX, y), polygon.name, TEXT, FONT, anchor="lm")
