"""Which classes apply to which frames of a sample, where an annotation says so by frame or second.

The forms that the catalogue ``charades`` writes: ``frame_labels`` ([first frame, frame after the
last, labels] of each run of frames, ``fps`` of them a second) and ``actions`` ([label, first
second, last second]). Without either, what applies to a sample applies to all of its frames.
"""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.data_prep.rows import SampleRow

_ROUNDING_FRAMES = 1e-6


class LabelRun(NamedTuple):
    """Frames [first, end) of a sample, counted from its first, that are of one class."""

    label: int
    first: int
    end: int


def all_labels(row: SampleRow) -> tuple[int, ...] | None:
    """Every class that applies somewhere in a sample, or its only one; None: nobody has looked.

    An annotation without a single action says that none applies.
    """
    if row.labels:
        return row.labels
    if row.label is not None:
        return (row.label,)
    annotation = _parsed(row)
    return () if "frame_labels" in annotation or "actions" in annotation else None


def label_runs(row: SampleRow) -> Iterator[LabelRun]:
    """The runs of frames of each class of a sample, in no order.

    Where the rates differ (frames were listed at 24 a second, of a video of 30), a frame has the
    labels of the listed one that is nearest in time. An action holds in frames shown from its first
    second to its last. A run may be empty: its action falls between two frames.
    """
    annotation = _parsed(row)
    if "frame_labels" in annotation:
        listed_fps = float(annotation.get("fps", 0))
        scale = row.fps / listed_fps if row.media == "video" and row.fps and listed_fps else 1.0
        for first, end, labels in annotation["frame_labels"]:
            start, stop = (math.ceil((listed - 0.5) * scale) for listed in (first, end))
            yield from (LabelRun(label, start, stop) for label in labels)
    elif "actions" in annotation and row.fps:
        for label, start_s, end_s in annotation["actions"]:
            start = math.ceil(start_s * row.fps - _ROUNDING_FRAMES)
            yield LabelRun(label, start, math.floor(end_s * row.fps + _ROUNDING_FRAMES) + 1)
    else:
        yield from (LabelRun(label, 0, row.frames) for label in all_labels(row) or ())


class SpanLabels:
    """The classes in any stretch of many samples. Picklable, a few numbers for each run."""

    def __init__(self, rows: Iterable[SampleRow], num_classes: int) -> None:
        """Takes the annotations of ``rows``; samples are numbered as these are."""
        self._num_classes = num_classes
        runs = [list(label_runs(row)) for row in rows]
        self._starts = np.cumsum([0, *map(len, runs)])
        flat = [run for of_sample in runs for run in of_sample]
        self._runs = np.asarray(flat, dtype=np.int64).reshape(-1, len(LabelRun._fields))

    def between(self, sample: int, first: int, last: int) -> NDArray[np.float32]:
        """Multi-hot [classes]: those of any frame from ``first`` to ``last``, both included.

        As in training on Charades (protocols 5.2): frames that the clip skips count, too, and so
        does an action between two frames.
        """
        runs = self._runs[self._starts[sample] : self._starts[sample + 1]]
        meets = (runs[:, 1] <= last) & (runs[:, 2] > first)
        target = np.zeros(self._num_classes, dtype=np.float32)
        target[runs[meets, 0]] = 1.0
        return target


def _parsed(row: SampleRow) -> dict[str, Any]:
    value = None if row.annotation is None else json.loads(row.annotation)
    return value if isinstance(value, dict) else {}
