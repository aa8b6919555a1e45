"""Average precision of each class of a multi-label task, and the interval of its mean.

Defined as in scikit-learn (``average_precision_score``): the sum over thresholds of precision times
the gain in recall, without interpolation; equal scores are one threshold. The mean is over classes
that some sample has.
"""

import numpy as np
import numpy.typing as npt

from sigma_pipeline.jobs.benchmarks.intervals import moved_interval, ratios

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]

_DRAWS = 1000
_DRAWS_AT_ONCE = 250
"""Bounds memory: a few arrays of so many x samples."""


def average_precisions(labels: Labels, scores: Floats) -> Floats:
    """Average precision [classes]; nan of a class without a positive.

    Args:
        labels: [samples, classes]: what is there.
        scores: [samples, classes]: how likely it is thought to be.

    Raises:
        ValueError: a score is not finite, or there is no sample.
    """
    precisions: Floats = _weighted(labels, scores, np.ones((1, len(labels))))[0]
    return precisions


def mean_average_precision(precisions: Floats) -> float:
    """Mean over the classes that have one.

    Raises:
        ValueError: no class has a positive.
    """
    if np.isnan(precisions).all():
        raise ValueError("no sample of the test split has any class: there is no mean precision")
    return float(np.nanmean(precisions))


def drawn_mean_precisions(labels: Labels, scores: Floats, counts: Floats) -> Floats:
    """Mean average precision [draws], over the classes that a draw has; nan where it has none.

    Copies of a positive stand side by side in a ranking, and raise its precision: draws with
    replacement lie above what they are drawn from.

    Args:
        labels: [samples, classes].
        scores: [samples, classes].
        counts: [draws, samples]: how often each draw has each sample.
    """
    precisions = _weighted(labels, scores, counts)
    is_known = ~np.isnan(precisions)
    total = np.where(is_known, precisions, 0.0).sum(axis=1)
    return ratios(total, is_known.sum(axis=1), np.nan)


def mean_precision_interval(labels: Labels, scores: Floats, seed: int) -> tuple[float, float]:
    """95% interval of the mean average precision by a bootstrap over samples; the same for a seed.

    Of 1000 draws; see ``moved_interval``.

    Args:
        labels: [samples, classes]; some class has a positive.
        scores: [samples, classes].
        seed: of the draws.
    """
    draws, samples = np.random.default_rng(seed), len(labels)
    shares = np.full(samples, 1 / samples)
    means = np.concatenate(
        [
            drawn_mean_precisions(
                labels, scores, draws.multinomial(samples, shares, _DRAWS_AT_ONCE).astype(float)
            )
            for _ in range(_DRAWS // _DRAWS_AT_ONCE)
        ]
    )
    value = mean_average_precision(average_precisions(labels, scores))
    return moved_interval(value, means)


def _weighted(labels: Labels, scores: Floats, weights: Floats) -> Floats:
    """[draws, classes], a sample counting ``weights`` [draws, samples] times."""
    if not scores.size or not np.isfinite(scores).all():
        raise ValueError("average precision needs samples, and a finite score of each for a class")
    precisions = np.full((len(weights), labels.shape[1]), np.nan)
    for number in np.flatnonzero(labels.any(axis=0)):
        precisions[:, number] = _of_class(labels[:, number], scores[:, number], weights)
    return precisions


def _of_class(is_positive: Labels, scores: Floats, weights: Floats) -> Floats:
    """[draws] of one class, which has a positive; nan where a draw has none."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    positives = np.flatnonzero(is_positive[order])
    # A positive counts at the threshold of its score, which takes in all that score the same.
    ends = np.searchsorted(-ranked, -ranked[positives], side="right") - 1
    last_positives = np.searchsorted(positives, ends, side="right") - 1
    taken = weights[:, order].cumsum(axis=1)[:, ends]
    counts = weights[:, order[positives]]
    hits = counts.cumsum(axis=1)
    precision = ratios(hits[:, last_positives], taken, 0.0)
    return ratios((counts * precision).sum(axis=1), hits[:, -1], np.nan)
