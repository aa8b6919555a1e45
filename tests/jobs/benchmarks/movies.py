"""Rows of movies with boxes by second, as the catalogue ``ava`` annotates them; no frames."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.rows import SampleRow
from tests.jobs.evaluation.squares import sample_row

LEFT, RIGHT, MIDDLE = (0.0, 0.0, 0.5, 1.0), (0.5, 0.25, 1.0, 1.0), (0.25, 0.0, 0.75, 1.0)
CLASSES = ("action 1", "sit", "stand", "action 4", "walk")

Boxes = Mapping[int, Sequence[tuple[tuple[float, ...], int | None, Any]]]
"""By second: corners, an action from 1, and a person or a score."""


def movie(number: int, boxes: Boxes, *, frames: int = 100, **annotation: Any) -> SampleRow:
    """A movie of 10 frames a second, whose first frame shows second 900."""
    predicted = annotation.pop("predicted_boxes", None)
    value = {"boxes": _listed(boxes), "excluded": [], "fps": 10, "start_s": 900} | annotation
    if predicted is not None:
        value["predicted_boxes"] = _listed(predicted)
    row = sample_row("train", number, {"mp4": b""}, 0)
    return replace(
        row,
        media="frames",
        frames=frames,
        label=None,
        class_name=None,
        annotation=json.dumps(value),
    )


def index_of(*rows: SampleRow) -> Index:
    """An index of movies."""
    return Index(DatasetRef("ava", "train", "v1"), CLASSES, "0", rows)


def _listed(boxes: Boxes) -> dict[str, list[list[Any]]]:
    return {
        str(second): [[*corners, action, last] for corners, action, last in rows]
        for second, rows in boxes.items()
    }
