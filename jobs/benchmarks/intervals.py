"""95% intervals of the two kinds of score there are: a share of samples, and a mean over samples.

They say how far the score would move with another draw of test samples of this size, each for
itself unless groups are given: where samples come in groups (several clips of one performer), it
would move further. What another training run would change is not in them.
"""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

ONE_SEQUENCE = "one sequence: no interval"
"""Remark on scores of videos where there is but one: nothing says how another would fare."""
_TAIL = 0.025
_BOOTSTRAP_DRAWS = 1000


def exact_interval(hits: int, samples: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share, which holds at any number of independent samples.

    The ends are the shares of which so many hits or more, or so many or fewer, would come with a
    probability of 2.5%: quantiles of beta distributions. Source: Biometrika 26 (1934).
    """
    if samples == 0:
        raise ValueError("an interval of a share needs at least one sample")
    misses = samples - hits
    # ``scipy.stats.beta.ppf`` without the half second that its module takes to import.
    low = 0.0 if hits == 0 else float(betaincinv(hits, misses + 1, _TAIL))
    high = 1.0 if misses == 0 else float(betaincinv(hits + 1, misses, 1 - _TAIL))
    return low, high


def bootstrap_interval(
    values: Sequence[float], seed: int, groups: Sequence[Hashable] | None = None
) -> tuple[float, float]:
    """Percentile bootstrap of the mean of ``values``; the same for the same seed.

    Args:
        values: at least one.
        seed: of the draws.
        groups: which one each value belongs to. Whole groups are drawn then, as many as there are,
            and the mean is that of all values in them (cluster bootstrap); a single group moves
            nothing, so that both ends are the mean. When absent, each value is drawn by itself.
    """
    if len(values) == 0:
        raise ValueError("an interval of a mean needs at least one value")
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups or ()))}
    group_of = np.arange(len(values)) if groups is None else [numbers[group] for group in groups]
    sizes, sums = np.bincount(group_of), np.bincount(group_of, weights=values)
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(sizes), size=(_BOOTSTRAP_DRAWS, len(sizes)))
    means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def moved_interval(value: float, draws: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95% percentiles of draws with replacement, moved so that their mean is ``value``, in [0, 1].

    For average precision: copies agree with each other, so that the draws lie off what they are
    drawn from, and only their spread tells anything.

    Args:
        value: the score.
        draws: of it; nan where one has none.
    """
    moved = value + np.nanquantile(draws, (0.025, 0.975)) - np.nanmean(draws)
    low, high = np.clip(moved, 0.0, 1.0).tolist()
    return min(low, value), max(high, value)


def ratios(
    parts: npt.NDArray[np.float64], wholes: npt.NDArray[np.number], otherwise: float
) -> npt.NDArray[np.float64]:
    """Of each pair, and ``otherwise`` where the whole is nothing."""
    found = np.full(parts.shape, otherwise)
    np.divide(parts, wholes, out=found, where=wholes > 0)
    return found


def class_mean_interval(
    hits: npt.NDArray[np.bool_], labels: npt.NDArray[np.int64], seed: int
) -> tuple[float, float]:
    """Percentile bootstrap of the mean, over classes, of the share of hits in each.

    Samples are drawn, not classes; a class that a draw leaves out is not counted in its mean.

    Args:
        hits: [samples] at least one.
        labels: [samples] the class of each.
        seed: of the draws.
    """
    num_classes = int(labels.max()) + 1
    generator = np.random.default_rng(seed)
    means = np.empty(_BOOTSTRAP_DRAWS)
    for draw in range(_BOOTSTRAP_DRAWS):
        drawn = generator.integers(len(hits), size=len(hits))
        sizes = np.bincount(labels[drawn], minlength=num_classes)
        right = np.bincount(labels[drawn], weights=hits[drawn], minlength=num_classes)
        means[draw] = (right[sizes > 0] / sizes[sizes > 0]).mean()
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
