"""Cluster maps against object masks: which cluster stands for which object, and the IoU after.

Works on the contingency table [clusters, objects] of pixel counts of one clip, all frames pooled
(protocols 6.2, points 8 and 9).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from sigma_pipeline.jobs.benchmarks.benchmark import VOID_ID

Counts = npt.NDArray[np.int64]
BACKGROUND = -1
"""Mark of a cluster that stands for no object."""


def merge_categories(
    ids: npt.NDArray[np.uint8], categories: Mapping[int, str]
) -> npt.NDArray[np.uint8]:
    """``ids`` in which all objects of a category bear the lowest id among them.

    Background, void and objects without a category stay as they are.
    """
    merged = np.arange(VOID_ID + 1, dtype=np.uint8)
    first: dict[str, int] = {}
    for number in sorted(categories):
        if 0 < number < VOID_ID:
            merged[number] = first.setdefault(categories[number], number)
    return merged[ids]


def contingency(
    clusters: npt.NDArray[np.int64], objects: npt.NDArray[np.integer], num_clusters: int
) -> Counts:
    """Pixels in each (cluster, object): [num_clusters, objects], objects numbered from 0."""
    num_objects = int(objects.max()) + 1
    flat = clusters.ravel() * num_objects + objects.ravel()
    pixels: Counts = np.bincount(flat, minlength=num_clusters * num_objects)
    return pixels.reshape(num_clusters, num_objects)


def hungarian_match(counts: Counts) -> npt.NDArray[np.int64]:
    """The object of each cluster, one to one, for the highest sum of IoU; -1: background."""
    union = counts.sum(axis=1, keepdims=True) + counts.sum(axis=0, keepdims=True) - counts
    overlap = counts / np.maximum(union, 1)
    matched = np.full(len(counts), BACKGROUND, dtype=np.int64)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    matched[rows] = columns
    return matched


def many_to_one_match(counts: Counts) -> npt.NDArray[np.int64]:
    """The object that fills most of each cluster; several clusters may share one."""
    matched: npt.NDArray[np.int64] = counts.argmax(axis=1).astype(np.int64)
    return matched


def matched_iou(
    counts: Counts, matched: npt.NDArray[np.int64], background: int | None
) -> npt.NDArray[np.float64]:
    """IoU of each object with the union of its clusters.

    Args:
        background: column that unmatched clusters fall to; None when the clip shows none.
    """
    columns = np.where(matched == BACKGROUND, -1 if background is None else background, matched)
    belongs = columns[:, None] == np.arange(counts.shape[1])
    hits = np.where(belongs, counts, 0).sum(axis=0)
    predicted = np.where(belongs, counts.sum(axis=1, keepdims=True), 0).sum(axis=0)
    iou: npt.NDArray[np.float64] = hits / (predicted + counts.sum(axis=0) - hits)
    return iou


def matched_ids(
    clusters: npt.NDArray[np.int64], matched: npt.NDArray[np.int64], ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """The object id of each pixel, in the shape of ``clusters``; 0 where none was matched.

    Args:
        clusters: of each pixel.
        matched: column of the contingency table that each cluster stands for.
        ids: the object of each column.
    """
    ids_of_columns = np.append(ids, 0).astype(np.uint8)  # ``BACKGROUND`` takes the last
    return ids_of_columns[matched][clusters]
