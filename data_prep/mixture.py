"""An order over several datasets, each with a fixed share of every stretch of positions."""

from collections.abc import Sequence
from fractions import Fraction
from math import inf

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.data_prep.draws import generator
from sigma_pipeline.data_prep.order import Order, check_positions
from sigma_pipeline.infra.errors import ConfigError

_MAX_DENOMINATOR = 10**9
_SMALLEST = 1e-6


def mixture_counts(available: Sequence[int], weights: Sequence[float]) -> list[int]:
    """How many positions of an epoch each dataset gets.

    The epoch is as long as it can be with each dataset at its share and none taken from twice; what
    the shares leave over after rounding down goes to the largest fractions.

    Args:
        available: positions in an epoch of each dataset.
        weights: of each dataset, in any unit.

    Raises:
        ConfigError: a weight is not above 0, or nothing fits in an epoch.
    """
    if not all(_SMALLEST <= weight < inf for weight in weights):
        raise ConfigError(f"weights of a mixture must be above 0, got {list(weights)}")
    # Not floats: 10 samples at a share of 0.1 make an epoch of 100, not of 99.
    exact = [Fraction(weight).limit_denominator(_MAX_DENOMINATOR) for weight in weights]
    shares = [weight / sum(exact) for weight in exact]
    total = min(int(n / share) for n, share in zip(available, shares, strict=True))
    if not total:
        raise ConfigError(
            f"an epoch of the mixture is empty: with weights {list(weights)}, datasets of "
            f"{list(available)} samples are used up at once; remove the empty one"
        )
    wanted = [total * share for share in shares]
    counts = [int(each) for each in wanted]
    by_fraction = sorted(range(len(counts)), key=lambda i: counts[i] - wanted[i])
    for i in by_fraction[: total - sum(counts)]:
        counts[i] += 1
    return counts


class MixtureOrder:
    """Samples of several orders, interleaved as evenly as their weights allow.

    Each keeps its own sequence, so that windows of shards stay windows. Samples are numbered on
    from one part to the next. An epoch may have up to 2e9 positions.
    """

    def __init__(self, parts: Sequence[Order], weights: Sequence[float], seed: int) -> None:
        """See ``mixture_counts`` for the length of an epoch.

        Raises:
            ConfigError: a weight is not above 0, or nothing fits in an epoch.
        """
        self._counts = mixture_counts([part.num_positions for part in parts], weights)
        self.num_samples = sum(part.num_samples for part in parts)
        self.num_positions = sum(self._counts)
        self._parts = tuple(parts)
        self._first_samples = np.cumsum([0, *(part.num_samples for part in parts)])
        self._seed = seed

    def samples(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """See ``Order``."""
        check_positions(positions, self.num_positions)
        part, place = self._places(epoch, positions)
        result = np.empty_like(positions)
        for i in np.unique(part):
            here = part == i
            result[here] = self._first_samples[i] + self._parts[i].samples(epoch, place[here])
        return result

    def _places(
        self, epoch: int, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which part stands at each position, and which position of the part's own it is."""
        phase = int(generator(self._seed, epoch, 0, "mixture").integers(self.num_positions))
        before, after = self._taken(positions + phase), self._taken(positions + phase + 1)
        part = np.argmax(after > before, axis=0)
        taken = np.take_along_axis(before, part[None], axis=0)[0]
        return part, taken - self._taken(np.array([phase]))[part, 0]

    def _taken(self, length: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of the first ``length`` places are each part's, shape [parts, places].

        Each part gets its share, rounded down, of the places that those before it leave. Over any
        ``num_positions`` places that is its count, and one more place is one more of one part.
        """
        taken, left, of_total = [], length, self.num_positions
        for count in self._counts[:-1]:
            taken.append(left * count // max(of_total, 1))
            left, of_total = left - taken[-1], of_total - count
        return np.stack([*taken, left])
