"""Curves: what is drawn of odd numbers and crowded axes."""

import io
from typing import Any

import pytest
from PIL import Image, ImageDraw

from sigma_pipeline.jobs.figure_curve import Curve, CurvePoint, Curves, draw_curves


def curves(values: dict[float, float], **texts: float) -> Curves:
    points = [CurvePoint(size, value, None, value, value) for size, value in values.items()]
    sizes = [(size, text) for text, size in texts.items()]
    return Curves(["knn on demo: top1"], "samples", sizes, [Curve("step 9", points)])


def test_numbers_that_are_none_leave_the_others_as_they_are() -> None:
    sizes = {"few": 10.0, "all": 100.0}

    odd = draw_curves(curves({10: 0.2, 50: float("nan"), 70: float("inf"), 100: 0.4}, **sizes))

    assert odd == draw_curves(curves({10: 0.2, 100: 0.4}, **sizes))


def test_without_any_number_the_frame_is_drawn() -> None:
    with Image.open(io.BytesIO(draw_curves(curves({10: float("nan")}, few=10.0)))) as picture:
        assert picture.width > 500


def test_marks_of_sizes_do_not_cover_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes: dict[str, tuple[float, ...]] = {}
    text = ImageDraw.ImageDraw.text

    def noted(pen: ImageDraw.ImageDraw, place: Any, words: str, *more: Any, **named: Any) -> None:
        boxes[words] = pen.textbbox(place, words, *more[1:], **named)
        text(pen, place, words, *more, **named)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)

    draw_curves(curves({10: 0.2, 1010: 0.4}, ten=10.0, thousand=1000.0, all=1010.0))

    assert boxes["ten"][1] == pytest.approx(boxes["thousand"][1], abs=4)
    assert boxes["thousand"][3] <= boxes["all"][1]
    assert boxes["all"][3] <= boxes["samples"][1]
