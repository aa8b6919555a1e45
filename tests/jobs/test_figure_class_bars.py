"""The bars of classes: as long as their numbers say, and the ends of many classes."""

import io

import numpy as np
from PIL import Image

from sigma_pipeline.jobs.benchmarks.figures import ClassBars
from sigma_pipeline.jobs.figure_class_bars import MAX_BARS, draw_class_bars

BLUE = (49, 130, 189)


def lengths(values: list[float]) -> list[int]:
    """Widths of the bars in pixels, from top to bottom."""
    names = [f"class {number}" for number in range(len(values))]
    figure = ClassBars(list(range(len(values))), values, [1] * len(values), "top-1 by class")
    pixels = np.asarray(Image.open(io.BytesIO(draw_class_bars(figure, names))))
    widths = (pixels == BLUE).all(axis=2).sum(axis=1)
    begins = np.flatnonzero((widths[1:] > 0) & (widths[:-1] == 0)) + 1
    return widths[begins].tolist()


def test_bars_are_as_long_as_their_numbers_the_lowest_first() -> None:
    assert lengths([1.0, 0.25, 0.5]) == [101, 201, 401]


def test_a_class_that_has_nothing_right_has_no_bar() -> None:
    assert lengths([0.0, 0.5]) == [201]


def test_of_many_classes_the_lowest_and_the_highest_are_shown() -> None:
    values = np.linspace(0.1, 0.9, 3 * MAX_BARS).tolist()

    shown = lengths(values)

    assert len(shown) == MAX_BARS
    assert shown == sorted(shown)
    assert shown[MAX_BARS // 2] - shown[MAX_BARS // 2 - 1] > 100  # nothing of the middle
