"""95% intervals of the two kinds of score there are: a share of samples, and a mean over samples.

They say how far the score would move with another draw of test samples of this size. What another
training run would change is not in them.
"""

import math
from collections.abc import Sequence

import numpy as np

_Z95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution
_BOOTSTRAP_DRAWS = 1000


def wilson_interval(hits: int, samples: int) -> tuple[float, float]:
    """Wilson's score interval of a share; inside [0, 1] also at 0 and at all hits.

    Source: E. B. Wilson, JASA 22 (1927).
    """
    if samples == 0:
        raise ValueError("an interval of a share needs at least one sample")
    share, z2 = hits / samples, _Z95**2
    centre = (share + z2 / (2 * samples)) / (1 + z2 / samples)
    half = (
        _Z95 / (1 + z2 / samples) * math.sqrt(share * (1 - share) / samples + z2 / (4 * samples**2))
    )
    low = 0.0 if hits == 0 else centre - half  # rounding must not leave the range
    high = 1.0 if hits == samples else centre + half
    return low, high


def bootstrap_interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """Percentile bootstrap of the mean of ``values``; the same for the same seed."""
    if len(values) == 0:
        raise ValueError("an interval of a mean needs at least one value")
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(array), size=(_BOOTSTRAP_DRAWS, len(array)))
    low, high = np.quantile(array[draws].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)
