"""From logits of many views and classes to a mean average precision (protocols 5.2, Charades)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from sigma_pipeline.jobs.benchmarks.average_precision import (
    Floats,
    Labels,
    average_precisions,
    mean_average_precision,
    mean_precision_interval,
)
from sigma_pipeline.jobs.benchmarks.benchmark import Result, Score
from sigma_pipeline.jobs.benchmarks.class_table import precision_table
from sigma_pipeline.jobs.benchmarks.figures import ClassBars
from sigma_pipeline.jobs.benchmarks.labelled_videos import LabelledVideos

Merging = Literal["max", "mean"]
"""Of the views of a video: an action is there if any view shows it, or as most say."""


def merged_views(logits: npt.NDArray[np.floating], merging: Merging) -> Floats:
    """Probabilities [samples, classes] of logits [samples, views, classes].

    In float64, where a classifier may be very sure before two scores become one.
    """
    probabilities: Floats = expit(logits.astype(np.float64))
    merged: Floats = probabilities.max(axis=1) if merging == "max" else probabilities.mean(axis=1)
    return merged


def multilabel_result(
    scores: Floats, videos: LabelledVideos, seed: int, notes: Sequence[str] = ()
) -> Result:
    """``map`` of ``scores`` [samples, classes], with the precision of each class beside it.

    ``outcomes`` hold labels and scores of each sample, as no mean over samples is this mean:
    comparisons make jackknife values of them, whose mean it is.

    Raises:
        ValueError: a score is not finite, or no sample has any class.
    """
    marks = videos.multi_hot
    precisions = average_precisions(marks, scores)
    value = mean_average_precision(precisions)
    low, high = mean_precision_interval(marks, scores, seed)
    outcomes = {
        "key": list(videos.keys),
        "labels": [sorted(labels) for labels in videos.labels],
        "scores": scores.tolist(),
    }
    return Result(
        scores=(Score("map", value, "fraction", True, low, high, len(scores)),),
        outcomes=outcomes,
        notes=(*notes, *_remarks(marks)),
        files={"average_precision.csv": _table(precisions, marks, videos.classes)},
        figures=(_bars(precisions, marks),),
    )


def _remarks(marks: Labels) -> list[str]:
    num_seen, num_classes = int(marks.any(axis=0).sum()), marks.shape[1]
    remarks = []
    if num_seen < num_classes:
        remarks.append(f"mean over the {num_seen} of {num_classes} classes that a test sample has")
    if (marks.sum(axis=1) == 1).all():
        remarks.append("each test sample has one class: each class is told from all others")
    return remarks


def _bars(precisions: Floats, marks: Labels) -> ClassBars:
    """Of the classes that some sample has."""
    seen = np.flatnonzero(marks.any(axis=0))
    return ClassBars(
        classes=seen.tolist(),
        values=precisions[seen].tolist(),
        samples=marks[:, seen].sum(axis=0).tolist(),
        title="average precision by class",
    )


def _table(precisions: Floats, marks: Labels, classes: Sequence[str]) -> bytes:
    numbers, counts = range(len(classes)), marks.sum(axis=0).tolist()
    rows = zip(numbers, classes, counts, precisions.tolist(), strict=True)
    return precision_table("positives", rows)
