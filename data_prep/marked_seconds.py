"""Boxes of persons and what they do, one second of a movie after another.

The form that the catalogue ``ava`` writes into annotations: ``boxes`` and ``predicted_boxes``, by
second lists of [x1, y1, x2, y2, action, last], where ``last`` is a person or a score; ``excluded``
seconds; ``fps`` and ``start_s`` of the frames.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sigma_pipeline.data_prep.hot_columns import ClipSource

BoxKind = Literal["boxes", "predicted_boxes"]
"""Ground truth, or what a detector of persons has found."""
Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2: parts of the frame's width and height."""
_COLUMNS = 6


@dataclass(frozen=True)
class MarkedSecond:
    """One second of a movie, and the boxes of it."""

    second: int
    """As annotations count, from the begin of the movie."""
    frame: int
    """The one that shows it, counted from the sample's first; others are around it."""
    boxes: Mapping[Corners, tuple[int, ...]]
    """What is done in each, by label from 0, ascending; nothing that is known of, where empty."""

    def with_boxes(self, more: "MarkedSecond") -> "MarkedSecond":
        """The boxes of both, those of ``self`` first, which also says what is done in the same."""
        others = {box: done for box, done in more.boxes.items() if box not in self.boxes}
        return MarkedSecond(self.second, self.frame, {**self.boxes, **others})


class MarkedSeconds:
    """The marked seconds of many movies, by number. Picklable, a few numbers for each box."""

    def __init__(self, movies: Iterable[Sequence[MarkedSecond]]) -> None:
        """Takes those of each movie."""
        listed = [list(movie) for movie in movies]
        seconds = [second for movie in listed for second in movie]
        labels = [done for second in seconds for done in second.boxes.values()]
        corners = [box for second in seconds for box in second.boxes]
        self._first_second = np.cumsum([0, *map(len, listed)])
        self._first_box = np.cumsum([0, *(len(second.boxes) for second in seconds)])
        self._first_label = np.cumsum([0, *map(len, labels)])
        self._times = np.array([(s.second, s.frame) for s in seconds], np.int64).reshape(-1, 2)
        self._corners = np.array(corners, dtype=np.float64).reshape(-1, 4)
        self._labels = np.array([one for done in labels for one in done], dtype=np.int16)

    def count(self, movie: int) -> int:
        """How many there are of a movie."""
        return int(self._first_second[movie + 1] - self._first_second[movie])

    def get(self, movie: int, number: int) -> MarkedSecond:
        """The one of this number, from 0, of a movie."""
        place = int(self._first_second[movie]) + number
        second, frame = self._times[place].tolist()
        boxes: dict[Corners, tuple[int, ...]] = {}
        for box in range(self._first_box[place], self._first_box[place + 1]):
            x1, y1, x2, y2 = self._corners[box].tolist()
            labels = self._labels[self._first_label[box] : self._first_label[box + 1]]
            boxes[x1, y1, x2, y2] = tuple(labels.tolist())
        return MarkedSecond(second, frame, boxes)


def marked_seconds(
    annotation: str | None, source: ClipSource, kind: BoxKind, min_score: float = 0.0
) -> list[MarkedSecond]:
    """The seconds of a movie with boxes, in their order; without excluded ones.

    Seconds that no frame shows are among them: see ``shown``.

    Args:
        annotation: of the sample.
        source: the sample.
        kind: of boxes.
        min_score: predicted boxes with a lower one are left out.
    """
    value = _parsed(annotation)
    # A video knows its own rate; of frames in files, the annotation alone says it.
    fps = source.fps if source.media == "video" else float(value.get("fps", 0))
    excluded = set(value.get("excluded", ()))
    listed = value.get(kind)
    if not isinstance(listed, dict) or fps <= 0:
        return []
    found = []
    for second in sorted(int(second) for second in listed if int(second) not in excluded):
        rows = listed[str(second)]
        chosen = rows if kind == "boxes" else [row for row in rows if row[-1] >= min_score]
        if chosen:
            frame = round((second - float(value.get("start_s", 0))) * fps)
            found.append(MarkedSecond(second, frame, _by_box(chosen)))
    return found


def shown(seconds: Iterable[MarkedSecond], source: ClipSource) -> list[MarkedSecond]:
    """Those of a sample that one of its frames shows."""
    return [second for second in seconds if 0 <= second.frame < source.frames]


def has_boxes(annotation: str | None) -> bool:
    """Whether any second has true boxes."""
    boxes = _parsed(annotation).get("boxes")
    return isinstance(boxes, dict) and any(map(_is_listed, boxes.values()))


def _by_box(rows: Iterable[Sequence[Any]]) -> dict[Corners, tuple[int, ...]]:
    """What is done in each box: a row has one action, counted from 1, or none."""
    boxes: dict[Corners, set[int]] = {}
    for x1, y1, x2, y2, action, _ in rows:
        labels = boxes.setdefault((x1, y1, x2, y2), set())
        if action is not None:
            labels.add(action - 1)
    return {corners: tuple(sorted(labels)) for corners, labels in boxes.items()}


def _is_listed(rows: object) -> bool:
    return (
        isinstance(rows, list)
        and len(rows) > 0
        and all(isinstance(row, list) and len(row) == _COLUMNS for row in rows)
    )


def _parsed(annotation: str | None) -> dict[str, Any]:
    value = None if annotation is None else json.loads(annotation)
    return value if isinstance(value, dict) else {}
