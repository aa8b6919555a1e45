"""Right answers class by class: where classes differ in size, their mean is another number than
the share of all samples.

The published script's mean per class is not one: it never empties the list that it adds the
samples of a class to (protocols 2).
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.benchmarks.figures import ClassBars
from sigma_pipeline.jobs.benchmarks.intervals import class_mean_interval


class ClassShares(NamedTuple):
    """Of the classes that have test samples, by label."""

    labels: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]
    """Of each class's samples, those that were right."""
    samples: npt.NDArray[np.int64]
    """Of each class."""

    @classmethod
    def of(cls, hits: Sequence[bool], labels: Sequence[int]) -> Self:
        """Counts samples [samples], at least one."""
        counts = np.bincount(labels)
        right = np.bincount(labels, weights=np.asarray(hits, dtype=np.float64))
        present = np.flatnonzero(counts)
        return cls(present, right[present] / counts[present], counts[present])

    def bars(self, title: str) -> ClassBars:
        """For a picture."""
        columns = self.labels.tolist(), self.shares.tolist(), self.samples.tolist()
        return ClassBars(*columns, title)


def class_mean(hits: Sequence[bool], labels: Sequence[int], seed: int) -> Score:
    """``mean_class``: the mean over classes of the share of hits among the samples of each.

    Args:
        hits: [samples] whether each was right.
        labels: [samples] its class.
        seed: of the interval's bootstrap.
    """
    mean = float(ClassShares.of(hits, labels).shares.mean())
    array, of_class = np.asarray(hits, np.bool_), np.asarray(labels, np.int64)
    low, high = class_mean_interval(array, of_class, seed)
    return Score("mean_class", mean, "fraction", True, low, high, len(hits))
