"""Tests and intervals of paired outcomes, against others' and against simulations."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from sigma_pipeline.jobs.compare_statistics import (
    Clustered,
    Estimate,
    Outcomes,
    Relation,
    Spread,
    estimated,
    holm,
    mcnemar,
    spread_of_runs,
    total_spread,
)

Floats = NDArray[np.float64]
RIGHT_OR_WRONG = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=40)


def compared(
    a: Floats,
    b: Floats,
    clusters: NDArray[np.int64] | None = None,
    relation: Relation = "two_recipes",
    margin: float = 0.0,
) -> Estimate:
    """Of [samples], or of [runs, seeds, samples]."""
    a, b = (side if side.ndim == 3 else side[None, None] for side in (a, b))
    numbers = np.arange(a.shape[2]) if clusters is None else clusters
    return estimated(Outcomes(a), Outcomes(b), numbers, relation, margin=margin, seed=0)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_sign_test_of_what_differs(gained: int, lost: int) -> None:
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0

    assert mcnemar(gained, lost) == pytest.approx(expected)


def test_mcnemar_by_hand() -> None:
    # Of 6 that differ 1 is lost: 2 * (1 + 6) / 2**6.
    assert mcnemar(5, 1) == pytest.approx(14 / 64)


@settings(deadline=None, max_examples=25)
@given(RIGHT_OR_WRONG)
def test_exchanging_the_sides_turns_the_difference_and_nothing_else(
    differences: list[float],
) -> None:
    a = np.array(differences)
    there, back = compared(a, np.zeros(len(a))), compared(np.zeros(len(a)), a)

    assert back.difference == -there.difference
    assert back.p_value == there.p_value
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=2.5 / len(a))


@settings(deadline=None, max_examples=25)
@given(RIGHT_OR_WRONG)
def test_flipped_signs_of_right_and_wrong_are_mcnemars_test(differences: list[float]) -> None:
    right_or_wrong = Clustered(np.array(differences), np.arange(len(differences)))
    doubled = Clustered(2 * np.array(differences), np.arange(len(differences)))

    assert right_or_wrong.is_right_or_wrong
    assert not doubled.is_right_or_wrong or not any(differences)
    by_flips = doubled.p_value(np.random.default_rng(0))
    assert by_flips == pytest.approx(right_or_wrong.p_value(np.random.default_rng(0)), abs=0.03)


def test_all_signs_are_tried_where_clusters_are_few() -> None:
    # 3 + 2 + 1 = 6 is reached by 2 of 8 signs: all of one kind.
    found = Clustered(np.array([3.0, 2.0, 1.0]), np.arange(3))

    assert found.p_value(np.random.default_rng(0)) == 0.25


def test_the_bootstrap_agrees_with_the_one_of_scipy() -> None:
    generator = np.random.default_rng(1)
    differences = generator.exponential(size=80) - 0.8
    found = compared(differences, np.zeros(80))

    scipys = stats.bootstrap(
        (differences,),
        np.mean,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((scipys.low, scipys.high), abs=0.02)


def test_samples_of_one_cluster_count_as_often_as_they_are_independent() -> None:
    generator = np.random.default_rng(1)
    origins = generator.normal(0.1, 1, size=60)
    alone = compared(origins, np.zeros(60))
    copied = compared(np.repeat(origins, 5), np.zeros(300), np.repeat(np.arange(60), 5))
    naive = compared(np.repeat(origins, 5), np.zeros(300))

    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.05)
    assert copied.p_value == pytest.approx(alone.p_value, abs=0.02)
    assert naive.high - naive.low < 0.6 * (alone.high - alone.low)


def test_one_cluster_says_nothing() -> None:
    found = compared(np.ones(5), np.zeros(5), np.zeros(5, dtype=np.int64))

    assert found == Estimate(1.0, -np.inf, np.inf, 1.0, 1.0)


def test_equal_outcomes_are_not_told_apart() -> None:
    same = np.arange(10.0)

    assert compared(same, same) == Estimate(0.0, 0.0, 0.0, 1.0, 1.0)


def test_a_margin_has_to_be_exceeded_by_the_whole_interval() -> None:
    generator = np.random.default_rng(0)
    a = generator.normal(0.5, 1, size=400)

    without, small, large = (
        compared(a, np.zeros(400), margin=margin) for margin in (0.0, 0.3, 0.45)
    )

    assert without.p_margin < small.p_margin < 0.05 < large.p_margin
    assert small.low > 0.3 > without.p_value
    assert large.p_value == without.p_value


def test_runs_on_both_sides_are_welchs_test_where_samples_add_nothing() -> None:
    a, b = np.array([0.5, 0.6, 0.55]), np.array([0.2, 0.1, 0.3, 0.25])
    found = compared(np.repeat(a, 9).reshape(3, 1, 9), np.repeat(b, 9).reshape(4, 1, 9))

    welch = stats.ttest_ind(a, b, equal_var=False)
    assert found.p_value == pytest.approx(welch.pvalue)
    interval = welch.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_commits_of_the_same_runs_are_compared_within_each_run() -> None:
    a, b = np.array([0.9, 0.5, 0.7]), np.array([0.8, 0.45, 0.6])
    found = compared(
        np.repeat(a, 9).reshape(3, 1, 9), np.repeat(b, 9).reshape(3, 1, 9), relation="same_runs"
    )

    assert found.p_value == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_one_run_against_several_varies_as_they_do() -> None:
    several, one = np.array([0.5, 0.6, 0.55, 0.4]), np.array([0.1])
    (spread,) = spread_of_runs(several, one, "two_recipes")

    # A new observation against a sample: the t-test of equal variances, to which one adds nothing.
    expected = stats.ttest_ind(several, one, equal_var=True)
    difference = several.mean() - one[0]
    assert difference / np.sqrt(spread.variance) == pytest.approx(expected.statistic)
    assert spread.freedom == 3


def test_seeds_of_a_benchmark_are_paired() -> None:
    a, b = np.array([0.9, 0.5, 0.7]), np.array([0.8, 0.45, 0.6])
    found = compared(np.repeat(a, 9).reshape(1, 3, 9), np.repeat(b, 9).reshape(1, 3, 9))

    assert found.p_value == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_seeds_that_change_nothing_leave_mcnemars_test() -> None:
    a, b = np.array([1, 1, 1, 1, 1, 0.0]), np.array([0, 0, 0, 0, 0, 1.0])

    found = compared(np.tile(a, (1, 3, 1)), np.tile(b, (1, 3, 1)))

    assert found.p_value == mcnemar(5, 1)


def test_degrees_of_freedom_lie_between_the_fewest_and_the_sum() -> None:
    total = total_spread([Spread(2.0, 4), Spread(2.0, 4)])

    assert total == Spread(4.0, 8)
    assert total_spread([Spread(4.0, 2), Spread(1e-9, 900)]).freedom == pytest.approx(2)


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]


def called(pairs: Callable[[np.random.Generator], Estimate], trials: int = 250) -> float:
    """The share of simulated comparisons that are called different."""
    generator = np.random.default_rng(5)
    return float(np.mean([pairs(generator).p_margin <= 0.05 for _ in range(trials)]))


def hits(generator: np.random.Generator, shares: Floats) -> Floats:
    return (generator.random(shares.shape) < shares).astype(np.float64)


@pytest.mark.parametrize("samples", [48, 400])
def test_equal_encoders_are_called_different_once_in_twenty_times_at_most(samples: int) -> None:
    def pair(generator: np.random.Generator) -> Estimate:
        difficulty = generator.random(samples)
        return compared(hits(generator, difficulty), hits(generator, difficulty))

    assert called(pair) <= 0.06


def test_unequal_encoders_are_mostly_called_different() -> None:
    def pair(generator: np.random.Generator) -> Estimate:
        difficulty = generator.uniform(0.1, 0.8, 400)
        return compared(hits(generator, difficulty + 0.1), hits(generator, difficulty))

    # 400 pairs that differ by 10 points, and in 40% of samples: 89% by the normal approximation.
    assert 0.8 <= called(pair) <= 0.97


def test_errors_of_few_skewed_samples_in_clusters_are_held_too() -> None:
    def pair(generator: np.random.Generator) -> Estimate:
        clusters = np.repeat(np.arange(20), 4)
        shared = generator.normal(size=20)[clusters]
        a, b = generator.exponential(size=(2, 80))
        return compared(a + shared, b - shared, clusters)

    assert called(pair) <= 0.08  # a 5% test is above that in one of 50 such simulations


def runs(
    generator: np.random.Generator, difficulty: Floats, count: int, gain: float = 0.0
) -> Floats:
    """[runs, 1, samples] of encoders whose seeds are worth 4 points, on shared samples."""
    levels = gain + generator.normal(0, 0.04, size=(count, 1, 1))
    return hits(generator, np.clip(difficulty + levels, 0, 1))


@pytest.mark.parametrize(("of_a", "of_b"), [(2, 2), (3, 3), (4, 1)])
def test_recipes_that_differ_by_their_seeds_are_not_called_different(of_a: int, of_b: int) -> None:
    def pair(generator: np.random.Generator) -> Estimate:
        difficulty = generator.uniform(0.2, 0.8, 1000)
        a, b = (runs(generator, difficulty, count) for count in (of_a, of_b))
        return compared(a, b)

    assert called(pair) <= 0.08


def test_two_encoders_of_one_recipe_differ_and_yet_say_nothing_of_it() -> None:
    def pair(generator: np.random.Generator, relation: Relation) -> Estimate:
        difficulty = generator.uniform(0.2, 0.8, 1000)
        a, b = (runs(generator, difficulty, 1) for _ in "ab")
        return compared(a, b, relation=relation)

    assert called(lambda generator: pair(generator, "two_encoders")) > 0.3
    assert called(lambda generator: pair(generator, "one_recipe")) == 0.0


def test_better_recipes_are_mostly_called_better_with_three_runs_each() -> None:
    def pair(generator: np.random.Generator) -> Estimate:
        difficulty = generator.uniform(0.2, 0.6, 1000)
        return compared(runs(generator, difficulty, 3, gain=0.2), runs(generator, difficulty, 3))

    assert called(pair, 200) > 0.9
