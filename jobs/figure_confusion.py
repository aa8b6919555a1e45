"""Which class is taken for which, as a picture; knows numbers and names only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sigma_pipeline.jobs.benchmarks.figures import Confusion
from sigma_pipeline.jobs.page import (
    FONT,
    GAP_PX,
    LINE_PX,
    TEXT,
    WHITE,
    blank_page,
    fitted,
    png,
    text_width,
)

MAX_NAMED_CLASSES = 30
"""With more of them, the most confused pairs stand in a list beside the matrix."""
_LONGEST_NAME_PX = 190
_PAIRS_LISTED = 25
_PAIR_PX = 560
_MATRIX_PX = 720
_CELL_PX = (26, 44)
_LEGEND_SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
_LEGEND_PX = 44
_MIN_LEGEND_WIDTH_PX = 320
# From white to dark blue, for square roots of shares: one mistake in a hundred is seen, too.
_STOPS = np.array([0, 0.35, 0.7, 1])
_COLOURS = np.array([[255, 255, 255], [158, 202, 225], [49, 130, 189], [8, 48, 107]])

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ConfusionMatrix:
    """Counts of (true, predicted) over the classes that are either."""

    names: tuple[str, ...]
    counts: Counts
    """[classes, classes]: a row per true class."""

    @classmethod
    def of(cls, confusion: Confusion, classes: Sequence[str]) -> "ConfusionMatrix":
        """Counts samples; ``classes`` are the names of all labels."""
        labels, predictions = (
            np.asarray(column, dtype=np.int64)
            for column in (confusion.labels, confusion.predictions)
        )
        present, places = np.unique(np.concatenate([labels, predictions]), return_inverse=True)
        counts = np.zeros((len(present), len(present)), dtype=np.int64)
        np.add.at(counts, (places[: len(labels)], places[len(labels) :]), 1)
        return cls(tuple(classes[label] for label in present.tolist()), counts)

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """Each row divided by its sum; 0 for classes without a sample."""
        shares: npt.NDArray[np.float64] = self.counts / np.maximum(
            self.counts.sum(axis=1, keepdims=True), 1
        )
        return shares

    @property
    def heading(self) -> list[str]:
        """What the picture shows, in two lines."""
        total, right = int(self.counts.sum()), int(np.trace(self.counts))
        num_true = int((self.counts.sum(axis=1) > 0).sum())
        return [
            f"{total} samples of {num_true} classes, {right} right ({right / max(total, 1):.1%})",
            "a row per true class, a column per predicted one; colour: share of the row",
        ]

    def confused_pairs(self) -> list[tuple[str, str, int, float]]:
        """(true, predicted, samples, share of the true class), the most samples first."""
        mistakes = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-mistakes, axis=None, kind="stable")[: int((mistakes > 0).sum())]
        rows, columns = np.unravel_index(order, mistakes.shape)
        shares = self.shares
        return [
            (self.names[i], self.names[j], int(mistakes[i, j]), float(shares[i, j]))
            for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        ]


def draw_confusion(confusion: Confusion, classes: Sequence[str]) -> bytes:
    """The confusion matrix as a PNG file; ``classes`` are the names of all labels."""
    matrix = ConfusionMatrix.of(confusion, classes)
    is_named = len(matrix.names) <= MAX_NAMED_CLASSES
    return png(_named_page(matrix) if is_named else _listed_page(matrix))


def share_colour(share: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Colours [..., 3] of shares [...] from 0 to 1."""
    roots = np.sqrt(np.asarray(share, dtype=np.float64))
    channels = [np.interp(roots, _STOPS, _COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _named_page(matrix: ConfusionMatrix) -> Image.Image:
    """Every cell with its count, every row and column with its name."""
    cell = int(np.clip(_MATRIX_PX // len(matrix.names), *_CELL_PX))
    totals = matrix.counts.sum(axis=1).tolist()
    rows = [
        f"{fitted(name, _LONGEST_NAME_PX)} ({total})"
        for name, total in zip(matrix.names, totals, strict=True)
    ]
    columns = [fitted(name, _LONGEST_NAME_PX) for name in matrix.names]
    left, top = text_width(*rows) + 2 * GAP_PX, 2 * LINE_PX + text_width(*columns) + 4 * GAP_PX
    side = cell * len(matrix.names)
    legend_width = max(side, _MIN_LEGEND_WIDTH_PX)
    width = max(left + legend_width, text_width(*matrix.heading)) + 2 * GAP_PX
    page, pen = blank_page(width, top + side + _LEGEND_PX)
    _write_lines(pen, (GAP_PX, GAP_PX), matrix.heading)
    page.paste(_cells(matrix, cell), (left, top))
    pen.rectangle((left - 1, top - 1, left + side, top + side), outline=TEXT)
    for number, (row, column) in enumerate(zip(rows, columns, strict=True)):
        middle = number * cell + cell // 2
        pen.text((left - GAP_PX, top + middle), row, TEXT, FONT, anchor="rm")
        _write_upwards(page, (left + middle, top - GAP_PX), column)
    _draw_counts(pen, matrix, (left, top), cell)
    _draw_legend(pen, (left, top + side + GAP_PX), legend_width)
    return page


def _listed_page(matrix: ConfusionMatrix) -> Image.Image:
    """All cells without names; what is confused most stands beside them."""
    cell = max(1, _MATRIX_PX // len(matrix.names))
    side, top = cell * len(matrix.names), 2 * LINE_PX + 2 * GAP_PX
    pairs = matrix.confused_pairs()
    lines = [f"the {min(_PAIRS_LISTED, len(pairs))} most confused of {len(pairs)} pairs:"]
    lines += [_pair_line(*pair) for pair in pairs[:_PAIRS_LISTED]]
    height = max(side + _LEGEND_PX, LINE_PX * len(lines))
    page, pen = blank_page(side + text_width(*lines) + 6 * GAP_PX, top + height)
    _write_lines(pen, (GAP_PX, GAP_PX), matrix.heading)
    page.paste(_cells(matrix, cell), (GAP_PX, top))
    pen.rectangle((GAP_PX - 1, top - 1, GAP_PX + side, top + side), outline=TEXT)
    _write_lines(pen, (side + 5 * GAP_PX, top), lines)
    _draw_legend(pen, (GAP_PX, top + side + GAP_PX), side)
    return page


def _pair_line(true: str, predicted: str, samples: int, share: float) -> str:
    half = _PAIR_PX // 2
    return f"{samples} ({share:.0%})  {fitted(true, half)} taken for {fitted(predicted, half)}"


def _cells(matrix: ConfusionMatrix, cell: int) -> Image.Image:
    colours = share_colour(matrix.shares)
    return Image.fromarray(colours.repeat(cell, axis=0).repeat(cell, axis=1))


def _draw_counts(
    pen: ImageDraw.ImageDraw, matrix: ConfusionMatrix, corner: tuple[int, int], cell: int
) -> None:
    """The number of samples in each cell that has any."""
    shares = matrix.shares
    for row, column in np.argwhere(matrix.counts).tolist():
        middle = (corner[0] + column * cell + cell // 2, corner[1] + row * cell + cell // 2)
        colour = WHITE if shares[row, column] > 0.3 else TEXT
        count = str(matrix.counts[row, column])
        if FONT.getlength(count) < cell:
            pen.text(middle, count, colour, FONT, anchor="mm")


def _draw_legend(pen: ImageDraw.ImageDraw, corner: tuple[int, int], width: int) -> None:
    """A bar of all colours with the shares they stand for."""
    left, top = corner
    for x, colour in enumerate(share_colour(np.linspace(0, 1, width) ** 2).tolist()):
        pen.line((left + x, top, left + x, top + 12), tuple(colour))
    pen.rectangle((left, top, left + width - 1, top + 12), outline=TEXT)
    for share in _LEGEND_SHARES:
        x = left + round((width - 1) * share**0.5)
        anchor = {0.0: "lt", 1.0: "rt"}.get(share, "mt")
        pen.text((x, top + 16), f"{share:.0%}", TEXT, FONT, anchor=anchor)


def _write_lines(pen: ImageDraw.ImageDraw, corner: tuple[int, int], lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        pen.text((corner[0], corner[1] + number * LINE_PX), line, TEXT, FONT)


def _write_upwards(page: Image.Image, foot: tuple[int, int], text: str) -> None:
    """``text`` turned by a right angle, its beginning at ``foot``."""
    line, pen = blank_page(text_width(text) + 2, LINE_PX)
    pen.text((0, LINE_PX // 2), text, TEXT, FONT, anchor="lm")
    turned = line.transpose(Image.Transpose.ROTATE_90)
    page.paste(turned, (foot[0] - LINE_PX // 2, foot[1] - turned.height))
