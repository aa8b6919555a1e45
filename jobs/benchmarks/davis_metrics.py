"""J (regions) and F (boundaries) of DAVIS 2017, semi-supervised (protocols, section 7).

Written from the description of the official evaluator, and equal to it but for one slip: it keeps
the bounds of decay's quarters in 8 bits, which goes wrong above 256 frames, and this does not. No
sequence of DAVIS is that long.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, hypot, isqrt

import numpy as np
import numpy.typing as npt

from sigma_pipeline.jobs.benchmarks.benchmark import VOID_ID

Ids = npt.NDArray[np.uint8]
"""Object ids: of one frame [height, width], or of several [frames, height, width]."""
Mask = npt.NDArray[np.bool_]

MIN_FRAMES = 3
"""The first frame is given and the last one is left out, so fewer leave nothing to score."""
_TOLERANCE_FRACTION = 0.008  # of the frame's diagonal
_RECALL_THRESHOLD = 0.5
_QUARTERS = 4


@dataclass(frozen=True)
class Measure:
    """J or F of one object, frame by frame."""

    per_frame: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over frames."""
        return float(np.mean(self.per_frame))

    @property
    def recall(self) -> float:
        """Fraction of frames above a half."""
        return float(np.mean(np.array(self.per_frame) > _RECALL_THRESHOLD))

    @property
    def decay(self) -> float:
        """How much the last quarter of the frames is worse than the first.

        Neighbouring quarters share a frame.
        """
        bounds = np.round(np.linspace(1, len(self.per_frame), _QUARTERS + 1) + 1e-10).astype(int)
        first = self.per_frame[: bounds[1]]
        last = self.per_frame[bounds[-2] - 1 :]
        return float(np.mean(first) - np.mean(last))


@dataclass(frozen=True)
class ObjectScores:
    """J and F of one object over a sequence."""

    object_id: int
    j: Measure
    f: Measure


def region_similarity(mask: Mask, truth: Mask) -> float:
    """J: intersection over union of two masks [height, width]; 1 where both are empty."""
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def boundary_accuracy(mask: Mask, truth: Mask) -> float:
    """F: harmonic mean of the precision and recall of the boundary of ``mask`` [height, width].

    A boundary pixel is right if the other boundary has one within 0.8% of the frame's diagonal,
    rounded up to pixels. Two masks without boundary (nothing, or all) agree; one alone scores 0.
    """
    tolerance_px = ceil(_TOLERANCE_FRACTION * hypot(*mask.shape))
    window = _window(mask | truth)
    found, wanted = boundary(mask[window]), boundary(truth[window])
    num_found, num_wanted = np.count_nonzero(found), np.count_nonzero(wanted)
    if not num_found or not num_wanted:
        return float(num_found == num_wanted)
    precision = np.count_nonzero(found & dilated(wanted, tolerance_px)) / num_found
    recall = np.count_nonzero(wanted & dilated(found, tolerance_px)) / num_wanted
    both = precision + recall
    return 2 * precision * recall / both if both else 0.0


def boundary(mask: Mask) -> Mask:
    """Pixels that differ from their neighbour to the right, below, or right below.

    The last row has neighbours to the right only, the last column below only, the corner none.
    """
    edges = np.zeros_like(mask)
    edges[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edges[:-1] |= mask[:-1] ^ mask[1:]
    edges[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edges


def dilated(points: Mask, radius_px: int) -> Mask:
    """All pixels at most ``radius_px`` away from one of ``points`` (Euclidean distance).

    The disk is taken row by row: each of its rows is a run of some length, and all points are
    widened to every length once, one pixel at a time.
    """
    height, width = points.shape
    padded = np.pad(points, ((0, 0), (radius_px, radius_px)))
    runs = points.copy()
    disk = np.zeros((height + 2 * radius_px, width), dtype=np.bool_)
    reaches = [isqrt(radius_px**2 - row**2) for row in range(radius_px + 1)]
    for reach in range(radius_px + 1):
        runs |= padded[:, radius_px - reach :][:, :width]
        runs |= padded[:, radius_px + reach :][:, :width]
        for row in (row for row, of_row in enumerate(reaches) if of_row == reach):
            disk[radius_px - row :][:height] |= runs
            disk[radius_px + row :][:height] |= runs
    return disk[radius_px:][:height]


def num_objects(first_truth: Ids) -> int:
    """Objects of a sequence, numbered from 1: its first annotation's highest id, void aside."""
    return int(first_truth[first_truth != VOID_ID].max(initial=0))


def object_scores(predicted: Ids, truth: Ids, objects: int) -> list[ObjectScores]:
    """Scores of objects 1 to ``objects`` over frames [frames, height, width], all of which count.

    Void pixels of the truth are background. An object that a prediction does not show is an empty
    mask there.
    """
    return [_scores_of(object_id, predicted, truth) for object_id in range(1, objects + 1)]


def sequence_scores(predicted: Ids, truth: Ids) -> list[ObjectScores]:
    """Scores of the objects of the first annotation; the first and the last frame do not count.

    Args:
        predicted: object ids [frames, height, width].
        truth: annotations of the same frames; ``VOID_ID`` counts as background.

    Raises:
        ValueError: there are fewer than ``MIN_FRAMES`` frames, or the shapes differ.
    """
    if predicted.shape != truth.shape or len(truth) < MIN_FRAMES:
        raise ValueError(
            f"predictions {predicted.shape} and annotations {truth.shape} must have one shape and "
            f"at least {MIN_FRAMES} frames"
        )
    return object_scores(predicted[1:-1], truth[1:-1], num_objects(truth[0]))


def global_scores(objects: Iterable[ObjectScores]) -> dict[str, float]:
    """Means over all objects of all sequences, named as in the official table.

    Raises:
        ValueError: there is no object.
    """
    scored = list(objects)
    if not scored:
        raise ValueError("no object to average over")
    means = {}
    for name, measures in (("J", [of.j for of in scored]), ("F", [of.f for of in scored])):
        means[f"{name}-Mean"] = float(np.mean([measure.mean for measure in measures]))
        means[f"{name}-Recall"] = float(np.mean([measure.recall for measure in measures]))
        means[f"{name}-Decay"] = float(np.mean([measure.decay for measure in measures]))
    return {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2, **means}


def _scores_of(object_id: int, predicted: Ids, truth: Ids) -> ObjectScores:
    j, f = [], []
    for ours, theirs in zip(predicted, truth, strict=True):
        mask, wanted = ours == object_id, theirs == object_id
        j.append(region_similarity(mask, wanted))
        f.append(boundary_accuracy(mask, wanted))
    return ObjectScores(object_id, Measure(tuple(j)), Measure(tuple(f)))


def _window(mask: Mask) -> tuple[slice, slice]:
    """Where ``mask`` is, and one pixel more on each side: no boundary lies outside."""
    return _extent(mask.any(axis=1)), _extent(mask.any(axis=0))


def _extent(is_used: npt.ArrayLike) -> slice:
    used = np.flatnonzero(is_used)
    return slice(max(used[0] - 1, 0), used[-1] + 2) if len(used) else slice(0, 0)
