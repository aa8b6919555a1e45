"""Intervals: known values, and what holds at the ends."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from sigma_pipeline.jobs.benchmarks.intervals import bootstrap_interval, exact_interval


@pytest.mark.parametrize(
    ("hits", "samples", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),
        (8, 10, 0.4439, 0.9748),
        (10, 10, 0.6915, 1.0),
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 5.
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_the_exact_interval_of_a_share_agrees_with_tables(
    hits: int, samples: int, low: float, high: float
) -> None:
    assert exact_interval(hits, samples) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize("samples", [1, 7, 40, 100_000])
def test_the_exact_interval_agrees_with_scipy(samples: int) -> None:
    for hits in {0, 1, samples // 3, samples - 1, samples}:
        expected = binomtest(hits, samples).proportion_ci(method="exact")

        assert exact_interval(hits, samples) == pytest.approx((expected.low, expected.high))


def test_its_ends_are_as_unlikely_as_they_say() -> None:
    low, high = exact_interval(8, 10)

    assert binom.sf(7, 10, low) == pytest.approx(0.025)
    assert binom.cdf(8, 10, high) == pytest.approx(0.025)


def test_the_bootstrap_is_as_wide_as_the_normal_interval_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, size=400).tolist()

    low, high = bootstrap_interval(values, seed=1)

    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert low < np.mean(values) < high
    assert bootstrap_interval(values, seed=1) == (low, high)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        exact_interval(0, 0)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([], seed=0)
