"""Intervals: known values, and what holds at the ends."""

import numpy as np
import pytest

from sigma_pipeline.jobs.benchmarks.intervals import bootstrap_interval, wilson_interval


def test_wilson_agrees_with_the_published_example() -> None:
    # 20 of 100, 95%: Newcombe, Statistics in Medicine 17 (1998) gives 0.1334 to 0.2888.
    assert wilson_interval(20, 100) == pytest.approx((0.1334, 0.2888), abs=1e-4)


@pytest.mark.parametrize("hits", [0, 7])
def test_wilson_stays_a_share_when_all_samples_agree(hits: int) -> None:
    low, high = wilson_interval(hits, 7)

    assert 0 <= low <= hits / 7 <= high <= 1
    assert high - low > 0.2


def test_the_bootstrap_is_as_wide_as_the_normal_interval_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, size=400).tolist()

    low, high = bootstrap_interval(values, seed=1)

    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert low < np.mean(values) < high
    assert bootstrap_interval(values, seed=1) == (low, high)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        wilson_interval(0, 0)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([], seed=0)
