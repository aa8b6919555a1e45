"""From scores of boxes to frame mAP, and what is kept beside it (protocols 5.2, AVA).

Axes: as in ``scored_seconds``; ``classes`` are all of the dataset's, of which some count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.jobs.benchmarks.benchmark import Result, Score
from sigma_pipeline.jobs.benchmarks.class_table import precision_table
from sigma_pipeline.jobs.benchmarks.figures import ClassBars
from sigma_pipeline.jobs.benchmarks.frame_map import (
    Detections,
    RankedHits,
    TrueBoxes,
    average_precision,
    drawn_mean_precisions,
    mean_precision,
    movie_values,
    ranked_hits,
)
from sigma_pipeline.jobs.benchmarks.intervals import moved_interval
from sigma_pipeline.jobs.benchmarks.scored_seconds import ScoredSeconds

ONE_MOVIE = "one movie: no interval"
_DRAWS, _DRAWS_AT_ONCE = 1000, 50


@dataclass(frozen=True)
class Detected:
    """What a model says of the boxes of a split."""

    seconds: ScoredSeconds
    scores: NDArray[np.floating]
    """[boxes, classes]; the higher, the surer."""
    labels: Sequence[int]
    """Those that count."""
    keys: Sequence[str]
    """[samples] of the movies."""
    classes: Sequence[str]
    """Names of all."""

    def hits(self) -> list[RankedHits]:
        """Of each class that counts."""
        boxes, marks = self.seconds.boxes, self.seconds.marks
        found = []
        for label in self.labels:
            scores = self.scores[:, label].astype(np.float64)
            is_own = marks.labels == label
            detections = Detections(boxes.box_seconds, boxes.corners, scores)
            truth = TrueBoxes(marks.seconds[is_own], marks.corners[is_own])
            found.append(ranked_hits(detections, truth))
        return found


def detection_result(detected: Detected, seed: int, notes: Sequence[str] = ()) -> Result:
    """``frame_map``: AVA's mean average precision.

    ``outcomes`` have a row for each movie, with what it adds to the score (``movie_values``):
    movies are independent of each other, and seconds of one are not.

    Raises:
        ValueError: there is nothing to be found, or a score is not finite.
    """
    if not np.isfinite(detected.scores).all():
        raise ValueError("the model's scores are not finite")
    hits = detected.hits()
    value = mean_precision(hits)
    if math.isnan(value):
        raise ValueError("no second of the test split has a true box of a class that counts")
    samples, movies, seconds = np.unique(
        detected.seconds.boxes.samples, return_inverse=True, return_counts=True
    )
    low, high = _interval(hits, movies, value, seed)
    return Result(
        scores=(Score("frame_map", value, "fraction", True, low, high, len(samples)),),
        outcomes={
            "key": [detected.keys[sample] for sample in samples.tolist()],
            "seconds": seconds.tolist(),
            "frame_map": movie_values(hits, movies).tolist(),
        },
        notes=(*notes, *_remarks(detected, hits, len(samples))),
        files={"average_precision.csv": _table(detected, hits)},
        figures=(_bars(detected, hits),),
    )


def _interval(
    hits: Sequence[RankedHits], movies: NDArray[np.int64], value: float, seed: int
) -> tuple[float, float]:
    """Of the mean over classes, by drawing movies, whose seconds are much alike.

    Args:
        hits: of each class.
        movies: [seconds] number of the movie of each.
        value: the score.
        seed: of the draws.
    """
    count, draws = int(movies.max()) + 1, np.random.default_rng(seed)
    shares = np.full(count, 1 / count)
    means = np.concatenate(
        [
            drawn_mean_precisions(hits, movies, draws.multinomial(count, shares, _DRAWS_AT_ONCE))
            for _ in range(_DRAWS // _DRAWS_AT_ONCE)
        ]
    )
    return moved_interval(value, means)


def _remarks(detected: Detected, hits: Sequence[RankedHits], num_movies: int) -> list[str]:
    seconds, remarks = detected.seconds, []
    if not seconds.is_predicted:
        remarks.append(
            "boxes are the true ones, so that only actions had to be told: an upper bound of what "
            "a detector's boxes give"
        )
    seen = sum(len(of_class.truth_frames) > 0 for of_class in hits)
    remarks.append(
        f"mean over {seen} classes: of {len(detected.classes)}, {len(hits)} count and {seen} "
        "have a true box"
    )
    if seconds.num_hidden:
        remarks.append(f"{seconds.num_hidden} annotated seconds are in no frame: left out")
    if num_movies == 1:
        remarks.append(ONE_MOVIE)
    return remarks


def _bars(detected: Detected, hits: Sequence[RankedHits]) -> ClassBars:
    """Of the classes that have a true box."""
    seen = [
        (label, of_class)
        for label, of_class in zip(detected.labels, hits, strict=True)
        if len(of_class.truth_frames)
    ]
    return ClassBars(
        classes=[label for label, _ in seen],
        values=[average_precision(of_class) for _, of_class in seen],
        samples=[len(of_class.truth_frames) for _, of_class in seen],
        title="average precision by class",
    )


def _table(detected: Detected, hits: Sequence[RankedHits]) -> bytes:
    """Of the classes that count; numbers are those of the dataset's list of actions."""
    return precision_table(
        "boxes",
        (
            (label + 1, detected.classes[label], len(found.truth_frames), average_precision(found))
            for label, found in zip(detected.labels, hits, strict=True)
        ),
    )
