"""Which boxes of a test split are scored, and what there is to be found.

Axes: ``seconds`` of all movies, in the order of the index and of time, are what the metric calls
frames; ``boxes`` of all of them; ``marks`` are the true boxes, one for each action in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.marked_seconds import (
    BoxKind,
    MarkedSecond,
    marked_seconds,
    shown,
)


@dataclass(frozen=True, eq=False)
class GivenBoxes:
    """Boxes whose actions are to be told, as arrays that can be pickled."""

    samples: NDArray[np.int64]
    """[seconds] rows of the index."""
    seconds: NDArray[np.int64]
    """[seconds] as the annotation counts them."""
    frames: NDArray[np.int64]
    """[seconds]: the frame of the sample that shows each."""
    first_box: NDArray[np.int64]
    """[seconds + 1]: the boxes of a second are those from its entry on, up to the next one's."""
    corners: NDArray[np.float64]
    """[boxes, 4]."""

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.corners)

    @property
    def box_seconds(self) -> NDArray[np.int64]:
        """[boxes]: the number of the second of each."""
        return np.repeat(np.arange(len(self.seconds)), np.diff(self.first_box))


@dataclass(frozen=True, eq=False)
class Marks:
    """What there is to be found."""

    seconds: NDArray[np.int64]
    """[marks]: the number of the second of each."""
    corners: NDArray[np.float64]
    """[marks, 4]."""
    labels: NDArray[np.int64]
    """[marks]."""


@dataclass(frozen=True, eq=False)
class ScoredSeconds:
    """All that is scored of a split."""

    boxes: GivenBoxes
    marks: Marks
    is_predicted: bool
    """Whether the boxes are a detector's, and not the true ones."""
    num_hidden: int
    """Annotated seconds that no frame shows, which are left out."""


def scored_seconds(index: Index, min_score: float, *, with_predicted: bool) -> ScoredSeconds:
    """The seconds of a split with boxes that are not excluded, as far as its frames show them.

    Boxes are predicted ones, if the split has any; what is found in seconds without any true box
    counts as wrong. Else they are the true ones.

    Args:
        index: of the split.
        min_score: predicted boxes with a lower one are left out.
        with_predicted: whether to look for predicted boxes.
    """
    true = _by_movie(index, "boxes")
    predicted = _by_movie(index, "predicted_boxes", min_score) if with_predicted else []
    is_predicted = any(predicted)
    numbered: list[tuple[int, MarkedSecond, MarkedSecond]] = []
    num_hidden = 0
    for sample, there in enumerate(true):
        given = predicted[sample] if is_predicted else there
        for marked, boxes in _pairs(there, given):
            if shown([marked], index.source(sample)):
                numbered.append((sample, marked, boxes))
            elif marked.boxes:
                num_hidden += 1
    return ScoredSeconds(
        _given_boxes([(sample, given) for sample, _, given in numbered]),
        _marks([true for _, true, _ in numbered]),
        is_predicted,
        num_hidden,
    )


def _by_movie(index: Index, kind: BoxKind, min_score: float = 0.0) -> list[list[MarkedSecond]]:
    return [
        marked_seconds(annotation, index.source(sample), kind, min_score)
        for sample, annotation in enumerate(index.annotations())
    ]


def _pairs(
    true: Sequence[MarkedSecond], given: Sequence[MarkedSecond]
) -> list[tuple[MarkedSecond, MarkedSecond]]:
    """The seconds of either, with true boxes and with given ones; perhaps none of one kind."""
    by_second = {one.second: one for one in true}, {one.second: one for one in given}
    pairs = []
    for second in sorted({*by_second[0], *by_second[1]}):
        found = [of_kind.get(second) for of_kind in by_second]
        frame = next(one.frame for one in found if one is not None)
        one, other = (each or MarkedSecond(second, frame, {}) for each in found)
        pairs.append((one, other))
    return pairs


def _given_boxes(seconds: Sequence[tuple[int, MarkedSecond]]) -> GivenBoxes:
    corners = [box for _, second in seconds for box in second.boxes]
    return GivenBoxes(
        np.array([sample for sample, _ in seconds], dtype=np.int64),
        np.array([second.second for _, second in seconds], dtype=np.int64),
        np.array([second.frame for _, second in seconds], dtype=np.int64),
        np.cumsum([0, *(len(second.boxes) for _, second in seconds)]),
        np.array(corners, dtype=np.float64).reshape(-1, 4),
    )


def _marks(seconds: Sequence[MarkedSecond]) -> Marks:
    marks = [
        (number, corners, label)
        for number, second in enumerate(seconds)
        for corners, labels in second.boxes.items()
        for label in labels
    ]
    return Marks(
        np.array([number for number, _, _ in marks], dtype=np.int64),
        np.array([corners for _, corners, _ in marks], dtype=np.float64).reshape(-1, 4),
        np.array([label for _, _, label in marks], dtype=np.int64),
    )
