"""What each sample adds to a score, from the columns that a benchmark kept: arrays only.

A score that is a mean over samples has a column of its own name. Two have not, and are brought to
the same form: numbers whose mean is the score, and whose spread is that of the score under other
samples. Every test of a difference then sees means alone.

Naming rule of columns: ``key``; ``group`` (what samples of one origin have in common); ``label``
and ``prediction`` where one class is predicted; ``labels`` and ``scores`` (lists) where several
are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sigma_pipeline.jobs.benchmarks.average_precision import average_precisions

Columns = Mapping[str, Sequence[Any]]
Floats = npt.NDArray[np.float64]

MEAN_CLASS = "mean_class"
MEAN_PRECISION = "map"


def sample_values(columns: Columns, score: str) -> Floats | None:
    """[samples] numbers whose mean is ``score``; None where the columns do not tell.

    Raises:
        ValueError: a column does not hold what its name says.
    """
    if score in columns:
        return np.asarray(columns[score], dtype=np.float64)
    if score == MEAN_CLASS and (is_hit := hits(columns)) is not None:
        return mean_class_values(columns["label"], is_hit)
    if score == MEAN_PRECISION and {"labels", "scores"} <= columns.keys():
        class_scores = np.asarray(columns["scores"], dtype=np.float64)
        marks = _one_hot(columns["labels"], class_scores)
        return None if _hangs_on_one(marks) else mean_precision_values(marks, class_scores)
    return None


def hits(columns: Columns) -> Floats | None:
    """[samples] 1 where the true class is predicted; None where no single class is."""
    if not {"label", "prediction"} <= columns.keys():
        return None
    if "top1" in columns:  # a class that no score was given to is none, though it stands first
        return np.asarray(columns["top1"], dtype=np.float64)
    labels, predictions = np.asarray(columns["label"]), np.asarray(columns["prediction"])
    is_hit: Floats = (labels == predictions).astype(np.float64)
    return is_hit


def mean_class_values(labels: Sequence[int], is_hit: Floats) -> Floats:
    """[samples]: a hit counts for more in a rare class, so that the mean is over classes.

    Args:
        labels: [samples].
        is_hit: [samples] 0 or 1.
    """
    _, places, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    values: Floats = len(places) / (len(counts) * counts[places]) * is_hit
    return values


def mean_precision_values(labels: npt.NDArray[np.bool_], class_scores: Floats) -> Floats:
    """[samples] jackknife values of mean average precision, which is their mean.

    A sample's is by how much the score falls without it, times the number of samples, about the
    score: as Dorfman, Berbaum and Metz (1992) treat areas under a curve.

    Args:
        labels: [samples, classes]; two samples or more have a class.
        class_scores: [samples, classes].
    """
    count = len(labels)
    without = np.full(labels.shape, np.nan)
    for number in np.flatnonzero(labels.any(axis=0)):
        without[:, number] = _precision_without_each(labels[:, number], class_scores[:, number])
    reduced = np.nanmean(without[:, labels.any(axis=0)], axis=1)
    score = float(np.nanmean(average_precisions(labels, class_scores)))
    values: Floats = score + (count - 1) * (np.mean(reduced) - reduced)
    return values


def _precision_without_each(is_positive: npt.NDArray[np.bool_], scores: Floats) -> Floats:
    """[samples] average precision of a class once each sample is left out.

    NaN where the class has no other positive.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, positive = scores[order], is_positive[order].astype(np.float64)
    # Equal scores are one threshold, which lies at the last of them.
    ends = np.searchsorted(-ranked, -ranked, side="right") - 1
    begins = np.searchsorted(-ranked, -ranked, side="left")
    hits, taken = positive.cumsum()[ends], ends + 1.0
    before = _sums_before(positive * hits / taken, begins)
    fewer = np.maximum(taken - 1, 1)
    after_other = _sums_from(positive * hits / fewer, begins)
    after_positive = _sums_from(positive * (hits - 1) / fewer, begins) - (hits - 1) / fewer
    total = positive.sum() - positive
    sums = before + np.where(positive > 0, after_positive, after_other)
    without = np.full(len(scores), np.nan)
    without[order] = np.divide(sums, total, out=np.full(len(sums), np.nan), where=total > 0)
    return without


def _sums_before(terms: Floats, begins: npt.NDArray[np.int64]) -> Floats:
    """[samples] of ``terms`` before the beginning of each one's threshold."""
    sums: Floats = np.concatenate([[0.0], terms.cumsum()])[begins]
    return sums


def _sums_from(terms: Floats, begins: npt.NDArray[np.int64]) -> Floats:
    sums: Floats = terms.sum() - _sums_before(terms, begins)
    return sums


def _hangs_on_one(marks: npt.NDArray[np.bool_]) -> bool:
    """Whether there is no score at all without some sample."""
    return int(marks.any(axis=1).sum()) < 2


def _one_hot(labels: Sequence[Sequence[int]], class_scores: Floats) -> npt.NDArray[np.bool_]:
    marked = np.zeros(class_scores.shape, dtype=np.bool_)
    for row, classes in zip(marked, labels, strict=True):
        row[np.asarray(classes, dtype=np.int64)] = True
    return marked
