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


def test_values_of_a_group_are_drawn_together() -> None:
    draws = np.random.default_rng(0)
    of_groups = draws.normal(2.0, 1.0, size=100)
    sizes = draws.integers(1, 8, size=100)
    values, groups = np.repeat(of_groups, sizes), np.repeat(np.arange(100), sizes)

    def width(values: np.ndarray, groups: np.ndarray | None) -> float:
        named = None if groups is None else [f"bear{group}" for group in groups]
        low, high = bootstrap_interval(values.tolist(), seed=1, groups=named)
        assert low < np.mean(values) < high
        return high - low

    # The deviation of a ratio of sums, of values and of their numbers, over the groups (Cochran).
    residuals = sizes * (of_groups - values.mean()) / sizes.mean()
    assert width(values, groups) == pytest.approx(2 * 1.96 * residuals.std() / 10, rel=0.1)
    assert width(values, groups) > 1.5 * width(values, None)
    assert width(of_groups, np.arange(100)) == width(of_groups, None)


def test_one_group_says_nothing_of_others() -> None:
    assert bootstrap_interval([1.0, 3.0], seed=0, groups=["bear"] * 2) == (2.0, 2.0)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        exact_interval(0, 0)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([], seed=0)
