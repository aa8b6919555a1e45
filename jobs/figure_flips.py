"""What each class gained and lost from one side to the other, as bars; knows numbers and names."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from sigma_pipeline.jobs.compare_flips import ClassFlips
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

MAX_CLASSES = 40
"""Those with most flips; the others are counted in a line."""
_NAME_PX = 260
_HALF_PX = 260
_GAINED = (49, 130, 189)
_LOST = (230, 122, 46)


def draw_flips(flips: Sequence[ClassFlips], heading: str) -> bytes:
    """The bars as a PNG file: to the right what was gained, to the left what was lost.

    Args:
        flips: at least one, those with most flips first; shown from the most gained downwards.
        heading: which sides and which trial.
    """
    shown = sorted(flips[:MAX_CLASSES], key=lambda one: (-one.net, one.name))
    rest, digits = flips[MAX_CLASSES:], _digits(flips)
    won, lost = (sum(getattr(one, name) for one in flips) for name in ("gained", "lost"))
    lines = [
        heading,
        f"blue: wrong with B, right with A ({won:.{digits}f}); orange: "
        f"right with B, wrong with A ({lost:.{digits}f})",
    ]
    if rest:
        total = sum(one.total for one in rest)
        lines.append(
            f"{len(rest)} classes with fewer flips are left out: {total:.{digits}f} together"
        )
    return png(_page(lines, shown, digits))


def _page(lines: Sequence[str], shown: Sequence[ClassFlips], digits: int) -> Image.Image:
    labels = [f"{fitted(one.name, _NAME_PX)} ({one.samples})" for one in shown]
    most = max(max(one.gained, one.lost) for one in shown) or 1.0
    number_px = text_width(f"{most:.{digits}f}") + 2 * GAP_PX
    middle = text_width(*labels) + 3 * GAP_PX + number_px + _HALF_PX
    top = len(lines) * LINE_PX + 3 * GAP_PX
    width = max(middle + _HALF_PX + number_px + GAP_PX, text_width(*lines) + 2 * GAP_PX)
    page, pen = blank_page(width, top + len(shown) * LINE_PX + GAP_PX)
    for number, line in enumerate(lines):
        pen.text((GAP_PX, GAP_PX + number * LINE_PX), line, TEXT, FONT)
    for number, (label, one) in enumerate(zip(labels, shown, strict=True)):
        y = top + number * LINE_PX
        pen.text((text_width(*labels) + GAP_PX, y), label, TEXT, FONT, anchor="ra")
        for value, way in ((one.gained, 1), (one.lost, -1)):
            length = way * round(_HALF_PX * value / most)
            _draw_bar(pen, (middle, y), length, f"{value:.{digits}f}" if value else "")
    pen.line((middle, top, middle, top + len(shown) * LINE_PX), TEXT)
    return page


def _draw_bar(pen: ImageDraw.ImageDraw, foot: tuple[int, int], length: int, text: str) -> None:
    """From the middle line, to the left where ``length`` is below 0, with its number at the end."""
    if not text:
        return
    middle, top = foot
    left, right = sorted((middle, middle + length))
    pen.rectangle((left, top, right, top + LINE_PX - GAP_PX), _GAINED if length > 0 else _LOST)
    x, anchor = (right + GAP_PX, "la") if length > 0 else (left - GAP_PX, "ra")
    pen.text((x, top), text, TEXT, FONT, anchor=anchor)


def _digits(flips: Sequence[ClassFlips]) -> int:
    """Whole numbers as such; one digit for all where any is a mean over runs and seeds."""
    values = [value for one in flips for value in (one.gained, one.lost)]
    return int(any(abs(value - round(value)) >= 0.05 for value in values))
