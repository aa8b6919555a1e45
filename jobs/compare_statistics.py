"""Whether two sides differ on the same samples: tests and intervals; knows numbers only.

Two questions are kept apart. Of two encoders: would they differ on other samples of this kind? Then
samples alone are drawn again: McNemar's exact test where outcomes are right or wrong and every
sample is independent, else signs of differences flipped at random; a percentile bootstrap for the
interval. Of two recipes (or of several seeds of a probe): would they differ if trained again, too?
Then what the seeds change is added to what the samples change, and Student's t with Satterthwaite's
degrees of freedom stands for both, as radiology compares methods by several readers on the same
cases (Dorfman, Berbaum and Metz 1992; Obuchowski and Rockette 1995; Hillis 2007). A bootstrap over
runs is no answer there: of the two or three that people have it shows half to two thirds of the
variance.

Samples of one origin (clips of a performer, objects of a video) are a cluster, and vary together.

Axes: ``samples``; ``clusters``; ``runs`` and ``seeds`` of one side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, ndtr, ndtri, stdtr, stdtrit

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Relation = Literal["two_encoders", "same_runs", "one_recipe", "two_recipes"]
"""Of two sides: how they came about is not asked; other commits of the same runs; other runs of one
recipe, at the same commit; anything else."""

DRAWS = 10_000
"""Of bootstrap and sign flips."""
FEWEST_CLUSTERS = 6
"""The signs of fewer come out all alike in more than 5% of tosses: they show nothing, however many
runs there are."""
_SURE = 0.95
_EXACT_CLUSTERS = 12
"""With so many clusters or fewer that differ, all of their signs are tried."""
_MANY_OF_A_KIND = 8
_NUMBERS_AT_ONCE = 1 << 22
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Outcomes:
    """What one side got: the mean of ``values`` is its score."""

    values: Floats
    """[runs, seeds, samples]."""

    @property
    def of_samples(self) -> Floats:
        """[samples]: means over runs and seeds."""
        means: Floats = self.values.mean(axis=(0, 1))
        return means

    @property
    def of_runs(self) -> Floats:
        """[runs]: the score of each."""
        means: Floats = self.values.mean(axis=(1, 2))
        return means

    @property
    def of_seeds(self) -> Floats:
        """[seeds]: the score with each."""
        means: Floats = self.values.mean(axis=(0, 2))
        return means


@dataclass(frozen=True)
class Estimate:
    """A difference, how sure it is, and how likely a larger one were if there was none."""

    difference: float
    low: float
    """Of the 95% interval; infinite where nothing tells."""
    high: float
    p_value: float
    """Of no difference."""
    p_margin: float
    """Of no difference beyond the margin, by interval and test: never below ``p_value``."""


@dataclass(frozen=True)
class Spread:
    """The variance of a difference, and how many degrees of freedom it was estimated with."""

    variance: float
    freedom: float


class Clustered:
    """Differences of samples, added up within each cluster."""

    def __init__(self, differences: Floats, clusters: Numbers) -> None:
        """Takes what the samples differ by and the number of the cluster of each, both [samples].

        Every number up to the highest is some sample's.
        """
        self.sizes = np.bincount(clusters)
        self.sums = np.bincount(clusters, weights=differences)
        self.mean = float(self.sums.sum() / self.sizes.sum())

    def __len__(self) -> int:
        """Number of clusters."""
        return len(self.sizes)

    @property
    def is_right_or_wrong(self) -> bool:
        """Whether independent samples were won, lost, or neither."""
        return bool((self.sizes == 1).all() and np.isin(self.sums, (-1.0, 0.0, 1.0)).all())

    def spread(self) -> Spread:
        """Of the mean, as other clusters would have it (linearized, as a ratio of sums)."""
        count = len(self)
        deviations = self.sums - self.mean * self.sizes
        variance = float((deviations**2).sum() / self.sizes.sum() ** 2 * count / (count - 1))
        return Spread(variance, count - 1)

    def bootstrap(self, generator: np.random.Generator) -> Floats:
        """Means [draws] of as many clusters, drawn with replacement."""
        both = np.stack([self.sums, self.sizes])
        kinds, counts = np.unique(both, axis=1, return_counts=True)
        if len(counts) < len(self) // _MANY_OF_A_KIND:  # how many of each are drawn is enough
            drawn = generator.multinomial(len(self), counts / len(self), size=DRAWS)
            means: Floats = (drawn @ kinds[0]) / (drawn @ kinds[1])
            return means
        parts = []
        for draws in _parts(len(self)):
            chosen = generator.integers(len(self), size=(draws, len(self)))
            parts.append(self.sums[chosen].sum(axis=1) / self.sizes[chosen].sum(axis=1))
        return np.concatenate(parts)

    def p_value(self, generator: np.random.Generator) -> float:
        """Of no difference: how often such a one comes when each cluster's sign is a coin's.

        Exact where outcomes are right or wrong, or clusters are few; else drawn, itself counted
        (Phipson and Smyth 2010).
        """
        if self.is_right_or_wrong:
            return mcnemar(int((self.sums > 0).sum()), int((self.sums < 0).sum()))
        sums = self.sums[self.sums != 0]
        least = abs(sums.sum()) * (1 - _ROUNDING)
        if len(sums) <= _EXACT_CLUSTERS:
            return float((np.abs(_all_signs(len(sums)) @ sums) >= least).mean())
        hits = 0
        for draws in _parts(len(sums)):
            is_kept = generator.integers(2, size=(draws, len(sums)), dtype=np.int8)
            hits += int((np.abs(2 * (is_kept @ sums) - sums.sum()) >= least).sum())
        return (1 + hits) / (1 + DRAWS)


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's exact test: two-sided, of equal chances to be gained and lost.

    Args:
        gained: samples that are right on one side alone.
        lost: samples that are right on the other side alone.
    """
    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def estimated(
    a: Outcomes, b: Outcomes, clusters: Numbers, relation: Relation, *, margin: float, seed: int
) -> Estimate:
    """The difference of ``a`` and ``b``, on the same samples and with the same seeds.

    Args:
        a: one side.
        b: the other; with ``same_runs`` as many runs, in the same order.
        clusters: [samples] the number of each one's cluster.
        relation: of the two sides.
        margin: a difference that does not matter, 0 or more.
        seed: of the draws.
    """
    found = Clustered(a.of_samples - b.of_samples, clusters)
    if len(found) < FEWEST_CLUSTERS:  # too few say how others would fare
        return Estimate(found.mean, -np.inf, np.inf, 1.0, 1.0)
    trained = [*spread_of_runs(a.of_runs, b.of_runs, relation), *spread_of_seeds(a, b)]
    if any(spread.variance > _ROUNDING**2 for spread in trained):
        return _by_t(found.mean, total_spread([found.spread(), *trained]), margin)
    return _by_draws(found, margin, np.random.default_rng(seed))


def spread_of_runs(a: Floats, b: Floats, relation: Relation) -> list[Spread]:
    """What other runs would change about the difference of means; nothing where nobody knows.

    Each side has a spread of its own (Welch's test); a single run is taken to vary as the other
    side's runs do. Of two single runs of one recipe, their difference is all that is known of the
    spread, and can therefore not stand out from it.

    Args:
        a: [runs] scores.
        b: [runs] scores.
        relation: of the two sides.
    """
    if relation == "two_encoders":
        return []
    if relation == "same_runs":
        return [] if len(a) < 2 else [_of_mean(a - b)]
    if len(a) > 1 and len(b) > 1:
        return [_of_mean(a), _of_mean(b)]
    if len(a) == len(b):
        return [Spread(float((a - b)[0] ** 2), 1)] if relation == "one_recipe" else []
    several = a if len(a) > 1 else b
    return [Spread(float(several.var(ddof=1)) * (1 + 1 / len(several)), len(several) - 1)]


def spread_of_seeds(a: Outcomes, b: Outcomes) -> list[Spread]:
    """What other seeds of the benchmark would change; each stands on both sides."""
    differences = a.of_seeds - b.of_seeds
    return [] if len(differences) < 2 else [_of_mean(differences)]


def total_spread(spreads: Sequence[Spread]) -> Spread:
    """Of a sum of independent parts (Satterthwaite, Biometrics 2, 1946)."""
    variance = sum(spread.variance for spread in spreads)
    parts = sum(spread.variance**2 / spread.freedom for spread in spreads)
    return Spread(variance, variance**2 / parts)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for their number: at most 5% chance of one below 5% where all are of chance alone.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(p) for p in adjusted]


def _by_draws(found: Clustered, margin: float, generator: np.random.Generator) -> Estimate:
    """Samples alone vary."""
    means = found.bootstrap(generator)
    # What n clusters show of their variance lacks a share of 1 / n, and its tails: percentiles are
    # taken further out, as Student's t says (Hesterberg, American Statistician 69, 2015).
    freedom, stretch = len(found) - 1, np.sqrt(len(found) / (len(found) - 1))
    tail = float(ndtr(stdtrit(freedom, (1 - _SURE) / 2) * stretch))
    low, high = np.quantile(means, (tail, 1 - tail))
    p_value = found.p_value(generator)
    within = (1 + int((np.sign(found.mean) * means <= margin).sum())) / (2 + DRAWS)
    p_margin = max(p_value, min(1.0, 2 * float(stdtr(freedom, ndtri(within) / stretch))))
    return Estimate(found.mean, float(low), float(high), p_value, p_margin)


def _by_t(difference: float, spread: Spread, margin: float) -> Estimate:
    error = float(np.sqrt(spread.variance))
    half = float(stdtrit(spread.freedom, (1 + _SURE) / 2)) * error
    p_value, p_margin = (
        min(1.0, 2 * float(stdtr(spread.freedom, -(abs(difference) - beyond) / error)))
        for beyond in (0.0, margin)
    )
    return Estimate(difference, difference - half, difference + half, p_value, p_margin)


def _of_mean(values: Floats) -> Spread:
    return Spread(float(values.var(ddof=1)) / len(values), len(values) - 1)


def _parts(columns: int) -> list[int]:
    """``DRAWS`` in parts of which each fits memory with so many numbers a draw."""
    most = max(1, _NUMBERS_AT_ONCE // max(1, columns))
    return [min(most, DRAWS - first) for first in range(0, DRAWS, most)]


def _all_signs(count: int) -> Floats:
    """[2 ** count, count] of -1 and 1."""
    bits = np.arange(1 << count)[:, None] >> np.arange(count) & 1
    return (2 * bits - 1).astype(np.float64)
