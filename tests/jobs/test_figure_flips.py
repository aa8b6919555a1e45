"""Flips of classes, counted and drawn."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sigma_pipeline.jobs.compare_flips import ClassFlips, class_flips, only_right
from sigma_pipeline.jobs.figure_flips import MAX_CLASSES, draw_flips

BLUE, ORANGE = (49, 130, 189), (230, 122, 46)


def drawn(flips: list[ClassFlips]) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(draw_flips(flips, "knn on demo"))) as picture:
        return np.asarray(picture)


def pixels(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(axis=-1).sum())


def test_flips_are_counted_by_class_the_most_first() -> None:
    gained = np.array([0, 1, 0, 0, 0.0, 1])
    lost = np.array([0, 0, 1, 0, 0.5, 0])

    found = class_flips([0, 0, 2, 2, 2, 3], gained, lost, ["run", "jump", "sit", "fall"])

    assert found == (
        ClassFlips("sit", 3, 0.0, 1.5),
        ClassFlips("run", 2, 1.0, 0.0),
        ClassFlips("fall", 1, 1.0, 0.0),
    )
    assert [(one.net, one.total) for one in found[:2]] == [(-1.5, 1.5), (1.0, 1.0)]


def test_runs_are_held_against_themselves_or_else_each_against_all() -> None:
    a = np.array([[[1, 1, 0]], [[0, 1, 0]]])  # two runs of one seed
    b = np.array([[[0, 1, 0]], [[1, 0, 0]]])

    assert only_right(a, b, is_same_runs=True).tolist() == [0.5, 0.5, 0]
    assert only_right(b, a, is_same_runs=True).tolist() == [0.5, 0, 0]
    assert only_right(a, b, is_same_runs=False).tolist() == [0.25, 0.5, 0]
    assert only_right(b, a, is_same_runs=False).tolist() == [0.25, 0, 0]


def test_numbers_of_bars_have_as_many_digits_as_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    text = ImageDraw.ImageDraw.text

    def noted(pen: ImageDraw.ImageDraw, place: Any, words: str, *more: Any, **named: Any) -> None:
        said.append(words)
        text(pen, place, words, *more, **named)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)

    drawn([ClassFlips("sit", 30, 6.0, 2.5), ClassFlips("run", 30, 2.0, 0.0)])
    drawn([ClassFlips("sit", 30, 6.0 + 1e-9, 2.0)])

    assert said[3:5] == ["6.0", "2.5"]
    assert said[-2:] == ["6", "2"]


def test_bars_are_as_long_as_what_was_gained_and_lost() -> None:
    picture = drawn([ClassFlips("sit", 30, 4.0, 2.0), ClassFlips("run", 30, 2.0, 0.0)])

    ratio = pixels(picture, BLUE) / pixels(picture, ORANGE)
    assert 2.9 < ratio < 3.1
    columns = {c: np.flatnonzero((picture == c).all(axis=-1).any(axis=0)) for c in (BLUE, ORANGE)}
    assert columns[ORANGE].max() <= columns[BLUE].min()


def test_of_many_classes_those_with_most_flips_are_drawn() -> None:
    many = [ClassFlips(f"class {n}", 9, 5.0, 0.0) for n in range(MAX_CLASSES)]
    few = [ClassFlips(f"rare {n}", 9, 0.0, 1.0) for n in range(100)]

    picture = drawn([*many, *few])

    assert pixels(picture, ORANGE) == 0
    assert picture.shape[0] < drawn(many).shape[0] + 30


def test_nothing_flipped_is_drawn_without_bars() -> None:
    picture = drawn([ClassFlips("sit", 30, 0.0, 0.0)])

    assert pixels(picture, BLUE) == pixels(picture, ORANGE) == 0
