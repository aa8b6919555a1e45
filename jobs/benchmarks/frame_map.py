"""Frame mAP, as AVA and PASCAL VOC define it: how well boxes and what people do in them are found.

A frame is one annotated second of a movie. All of it is arithmetic on boxes: [x1, y1, x2, y2] in
whatever unit, as long as it is one for detections and truth.

Axes: ``boxes`` are those of one class, of all frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.jobs.benchmarks.intervals import ratios

MIN_OVERLAP = 0.5
"""Intersection over union from which on a detection has found a true box."""


@dataclass(frozen=True, eq=False)
class TrueBoxes:
    """What there is to be found of one class."""

    frames: NDArray[np.int64]
    """[boxes]: the number of the frame that each is in."""
    corners: NDArray[np.float64]
    """[boxes, 4]."""


@dataclass(frozen=True, eq=False)
class Detections:
    """What was said to be of one class."""

    frames: NDArray[np.int64]
    """[boxes]; frames without a true box count too."""
    corners: NDArray[np.float64]
    """[boxes, 4]."""
    scores: NDArray[np.float64]
    """[boxes]; the higher, the surer."""

    def part(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Detections":
        """Those that a mask or numbers choose."""
        return Detections(self.frames[chosen], self.corners[chosen], self.scores[chosen])


@dataclass(frozen=True, eq=False)
class RankedHits:
    """Detections of one class, the surest first, and how many boxes there were to be found."""

    is_hit: NDArray[np.bool_]
    """[detections]: it is the first that found its box."""
    frames: NDArray[np.int64]
    """[detections]."""
    truth_frames: NDArray[np.int64]
    """[boxes]: of the true ones."""


def ranked_hits(detections: Detections, truth: TrueBoxes) -> RankedHits:
    """Which detections of one class find a true box.

    Each is held against the box of its frame that it overlaps most, and no other; of several that
    overlap the same one enough, the surest has found it and the others are wrong, as are all in
    frames without one. Those as sure as each other stay in their order. Boxes without an area are
    no detections.
    """
    has_area = np.all(detections.corners[:, 2:] > detections.corners[:, :2], axis=1)
    detections = detections.part(has_area)
    detections = detections.part(np.argsort(-detections.scores, kind="stable"))
    overlaps, boxes = _most_overlapped(detections, truth)
    enough = np.flatnonzero(overlaps >= MIN_OVERLAP)
    _, firsts = np.unique(boxes[enough], return_index=True)
    is_hit = np.zeros(len(detections.frames), dtype=np.bool_)
    is_hit[enough[firsts]] = True
    return RankedHits(is_hit, detections.frames, truth.frames)


def average_precision(hits: RankedHits) -> float:
    """Area below the precision over recall, where a precision is the best at that recall or more.

    All recalls are taken, not eleven (VOC since 2010, ActivityNet's evaluator of AVA). NaN where
    there is nothing to be found.
    """
    if not len(hits.truth_frames):
        return float("nan")
    places = np.flatnonzero(hits.is_hit)
    precisions = np.arange(1, len(places) + 1) / (places + 1)
    best = np.maximum.accumulate(precisions[::-1])
    return float(best.sum() / len(hits.truth_frames))


def mean_precision(classes: Sequence[RankedHits]) -> float:
    """mAP: the mean over those ``classes`` of which there is anything to be found.

    NaN where that is none.
    """
    there = [average_precision(hits) for hits in classes if len(hits.truth_frames)]
    return sum(there) / len(there) if there else float("nan")


def drawn_mean_precisions(
    classes: Sequence[RankedHits], movies: NDArray[np.int64], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[draws]: mAP, had each movie been there so many times.

    As if its frames had been copied, each with its detections; copies are as sure as each other.

    Args:
        classes: each by itself.
        movies: [frames] number of the movie of each.
        weights: [draws, movies].
    """
    precisions = np.stack([_drawn_precisions(hits, movies, weights) for hits in classes])
    is_there = ~np.isnan(precisions)
    totals = np.where(is_there, precisions, 0.0).sum(axis=0)
    counts = is_there.sum(axis=0)
    return ratios(totals, counts, np.nan)


def _drawn_precisions(
    hits: RankedHits, movies: NDArray[np.int64], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[draws] of one class; NaN where a draw has nothing to be found."""
    num_movies, places = weights.shape[1], np.flatnonzero(hits.is_hit)
    times = weights.astype(np.float64)  # whose products are far quicker than those of integers
    of_hits = movies[hits.frames[places]]
    # How many detections of each movie, and how many hits, there are up to each hit.
    parts = np.searchsorted(places, np.arange(places[-1] + 1 if len(places) else 0))
    cells = parts * num_movies + movies[hits.frames[: len(parts)]]
    taken = np.bincount(cells, minlength=len(places) * num_movies).reshape(-1, num_movies)
    found = (of_hits[:, None] == np.arange(num_movies)).cumsum(axis=0, dtype=np.float64)
    counts = weights[:, of_hits]
    precisions = (times @ found.T) / np.maximum(1, times @ taken.cumsum(axis=0, dtype=np.float64).T)
    best = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
    boxes = weights[:, movies[hits.truth_frames]].sum(axis=1)
    areas = (best * counts).sum(axis=1)
    return ratios(areas, boxes, np.nan)


def movie_values(classes: Sequence[RankedHits], movies: NDArray[np.int64]) -> NDArray[np.float64]:
    """[movies] jackknife values of mAP, which is their mean: what each movie adds to it.

    By how much mAP falls without a movie, times the number of movies, about mAP. Two models are
    compared by them, as no mean over seconds or boxes is mAP.

    Args:
        classes: as of ``mean_precision``, with anything to be found.
        movies: [frames] number of the movie of each.
    """
    count, value = int(movies.max()) + 1, mean_precision(classes)
    reduced = drawn_mean_precisions(classes, movies, 1 - np.eye(count, dtype=np.int64))
    reduced[np.isnan(reduced)] = value  # nothing is to be found in any other
    values: NDArray[np.float64] = value + (count - 1) * (reduced.mean() - reduced)
    return values


def surest_of_frames(
    frames: NDArray[np.int64], scores: NDArray[np.float64], limit: int
) -> NDArray[np.int64]:
    """Numbers, in their order, of the ``limit`` surest of each frame.

    Args:
        frames: [boxes] of all classes.
        scores: [boxes].
        limit: at least 1.
    """
    order = np.lexsort((-scores, frames))
    grouped = frames[order]
    rank = np.arange(len(order)) - np.searchsorted(grouped, grouped, side="left")
    return np.sort(order[rank < limit])


def _most_overlapped(
    detections: Detections, truth: TrueBoxes
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[detections] overlap with the true box of the frame that is overlapped most; its number.

    -1 and -1 where a frame has none. Of boxes overlapped the same, the first.
    """
    order = np.argsort(truth.frames, kind="stable")
    starts = np.searchsorted(truth.frames[order], detections.frames, side="left")
    counts = np.searchsorted(truth.frames[order], detections.frames, side="right") - starts
    # Each detection with each true box of its frame.
    one = np.repeat(np.arange(len(counts)), counts)
    other = order[np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts - starts, counts)]
    overlaps = _overlap(detections.corners[one], truth.corners[other])
    ranked = np.lexsort((other, -overlaps, one))
    found, firsts = np.unique(one[ranked], return_index=True)
    most = np.full(len(counts), -1.0)
    boxes = np.full(len(counts), -1, dtype=np.int64)
    most[found], boxes[found] = overlaps[ranked[firsts]], other[ranked[firsts]]
    return most, boxes


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """[pairs] intersection over union of boxes [pairs, 4]."""
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    shared = np.maximum(sides, 0.0).prod(axis=1)
    areas = (one[:, 2:] - one[:, :2]).prod(axis=1) + (other[:, 2:] - other[:, :2]).prod(axis=1)
    overlaps: NDArray[np.float64] = shared / (areas - shared)
    return overlaps
