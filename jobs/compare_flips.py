"""Which samples one side classifies right and the other wrong, class by class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassFlips:
    """Of the samples of one class: means over runs and seeds, where a side has several."""

    name: str
    samples: int
    gained: float
    """Wrong with B, right with A."""
    lost: float
    """Right with B, wrong with A."""

    @property
    def net(self) -> float:
        """How many more are right with A."""
        return self.gained - self.lost

    @property
    def total(self) -> float:
        """How many are right with one of them alone."""
        return self.gained + self.lost


def only_right(one: Floats, other: Floats, *, is_same_runs: bool) -> Floats:
    """[samples] how often ``one`` is right and ``other`` wrong, of 1.

    Seeds of a benchmark stand on both sides and are held against themselves, as are runs that do;
    else each run of one side is held against each of the other.

    Args:
        one: [runs, seeds, samples] 1 where it is right, else 0.
        other: the same of the other side, of as many runs with ``is_same_runs``.
        is_same_runs: whether both sides have the same runs, in the same order.
    """
    if not is_same_runs:
        one, other = (side.mean(axis=0, keepdims=True) for side in (one, other))
    share: Floats = (one * (1 - other)).mean(axis=(0, 1))
    return share


def class_flips(
    labels: Sequence[int], gained: Floats, lost: Floats, classes: Sequence[str]
) -> tuple[ClassFlips, ...]:
    """Flips of each class that has samples, those with most of them first.

    Args:
        labels: [samples].
        gained: [samples] of ``only_right`` with A.
        lost: [samples] of ``only_right`` with B.
        classes: names of all labels.
    """
    places = np.asarray(labels, dtype=np.int64)
    counts = np.bincount(places, minlength=len(classes))
    won, gone = (np.bincount(places, one, minlength=len(classes)) for one in (gained, lost))
    order = np.argsort(-(won + gone), kind="stable")
    return tuple(
        ClassFlips(classes[label], int(counts[label]), float(won[label]), float(gone[label]))
        for label in order.tolist()
        if counts[label]
    )
